"""The layers of a model of `transformers`, whatever its architecture: how many, what each makes, the first few alone.

`hidden_states[l]` is what the first `l` layers make, `hidden_states[0]` the embeddings. In models that normalise what
a block reads (ModernBERT, GPT-2, Llama) only the last of them has gone through the final norm; here that norm is
applied to all, so that layer `l` is exactly what a model of the first `l` layers would give. BERT and its kin have no
such norm: their stream is normalised after every block.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import ModelError

FINAL_NORMS = ("final_norm", "ln_f", "norm", "final_layer_norm")


def depth_of(model: nn.Module) -> int:
    """How many layers a model has."""
    return int(_inner(model).config.num_hidden_layers)


def width_of(model: nn.Module) -> int:
    """The hidden size of a model."""
    return int(_inner(model).config.hidden_size)


def layer_states(model: nn.Module, layers: Sequence[int], **given: Any) -> list[torch.Tensor]:
    """What a model's first `l` layers make of an input, for each `l` of `layers`: `(batch, length, hidden size)`.

    One forward pass of the model itself (so that a wrapper such as DistributedDataParallel sees it); a head is handed
    no token, and costs nothing.

    Args:
        layers: numbers from 1 to the model's depth; 0 for the embeddings.
        given: what the model is called with.

    Raises:
        ModelError: the model has no such layer.
    """
    inner = _inner(model)
    trunk = inner.base_model
    depth = depth_of(model)
    for layer in layers:
        if not 0 <= layer <= depth:
            raise ModelError(f"layer {layer} of a model with {depth} layers")
    found: list[tuple[torch.Tensor, ...]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        found.append(output.hidden_states)
        if trunk is not inner:
            output.last_hidden_state = output.last_hidden_state[:, :0]
        return output

    hook = trunk.register_forward_hook(keep)
    try:
        model(**given, output_hidden_states=True)
    finally:
        hook.remove()
    norm = _final_norm(trunk)
    states = found[0]
    return [states[layer] if norm is None or layer == depth else norm(states[layer]) for layer in layers]


def first_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A copy of a model with its first `layers` layers and everything that is not a layer, weights unchanged.

    Raises:
        ModelError: it has not so many layers, or no list of layers that can be cut.
    """
    depth = depth_of(model)
    if not 1 <= layers <= depth:
        raise ModelError(f"the first {layers} layers of a model with {depth}: give a number from 1 to {depth}")
    shorter = copy.deepcopy(model)
    name, found = _layer_list(shorter)
    parent, _, attribute = name.rpartition(".")
    setattr(shorter.base_model.get_submodule(parent), attribute, found[:layers])
    configs: dict[int, Any] = {id(m.config): m.config for m in shorter.modules() if hasattr(m, "config")}
    for config in configs.values():
        for field, value in list(vars(config).items()):  # ModernBERT says of each layer of which kind it is
            if field.startswith("layer") and isinstance(value, list) and len(value) == depth:
                setattr(config, field, value[:layers])
        config.num_hidden_layers = layers
    return shorter


def _layer_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The trunk's list of layers and its name in the trunk."""
    depth = depth_of(model)
    lists = [(n, m) for n, m in model.base_model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if len(lists) != 1:
        raise ModelError(f"a {model.config.model_type} model has no single list of its {depth} layers to cut")
    return lists[0]


def _final_norm(trunk: nn.Module) -> nn.Module | None:
    return next((found for name in FINAL_NORMS if isinstance(found := getattr(trunk, name, None), nn.Module)), None)


def _inner(model: nn.Module) -> Any:
    """The model itself, without what wraps it for several processes."""
    return getattr(model, "module", model)
