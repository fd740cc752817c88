"""The sizes of a model, exactly, from its configuration: built on the meta device, where tensors have no memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from warmstart.models.build import cannot_build
from warmstart.models.load import auto_class
from warmstart.train.weights import layers_of

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A model's weights, every tied one once.

    Attributes:
        layers: for each block that FSDP2 puts together by itself, the shapes of its weights.
        root: the shapes of all other weights (embeddings, last norm, head), which are put together as one.
        layer_products: weights of the blocks that every token is multiplied with: the matrices of linear layers.
        root_products: the same outside the blocks; a head that is tied to the embedding counts here.
        last_products: of `layer_products`, those of each block's last matrix, where activation checkpointing can leave
            it out.
        attention: entries of all queries of a token, over all blocks: blocks x heads x size of a head.
    """

    layers: tuple[tuple[Sizes, ...], ...]
    root: tuple[Sizes, ...]
    layer_products: int
    root_products: int
    last_products: int
    attention: int

    @property
    def tensors(self) -> tuple[Sizes, ...]:
        return (*self.root, *(sizes for layer in self.layers for sizes in layer))

    @property
    def weights(self) -> int:
        return entries(self.tensors)

    @property
    def largest_layer(self) -> tuple[Sizes, ...]:
        return max(self.layers, key=entries, default=())


def shape_of(config: PretrainedConfig, head: str = "causal") -> Shape:
    """The sizes of a model with this configuration.

    Raises:
        ModelError: there is no such model.
    """
    model = without_memory(config, head)
    layers = layers_of(model)
    inside = {id(module) for layer in layers for module in layer.modules()}
    products = {
        id(module): module.weight.numel() for module in model.modules() if isinstance(module, (nn.Linear, Conv1D))
    }
    in_layers = {id(parameter) for layer in layers for parameter in layer.parameters()}
    width = int(getattr(config, "hidden_size", 0))
    heads = int(getattr(config, "num_attention_heads", 1))
    head_size = int(getattr(config, "head_dim", None) or width // heads)
    return Shape(
        layers=tuple(tuple(tuple(parameter.shape) for parameter in layer.parameters()) for layer in layers),
        root=tuple(tuple(parameter.shape) for parameter in model.parameters() if id(parameter) not in in_layers),
        layer_products=sum(count for module, count in products.items() if module in inside),
        root_products=sum(count for module, count in products.items() if module not in inside),
        last_products=sum(_last_product(layer) for layer in layers),
        attention=len(layers) * heads * head_size,
    )


def without_memory(config: PretrainedConfig, head: str) -> PreTrainedModel:
    """The model on the meta device.

    Raises:
        ModelError: there is no such model.
    """
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(head).from_config(config)
    except Exception as error:  # every architecture raises its own kind
        raise cannot_build(config, head, error) from error
    model.tie_weights()
    return model


def entries(tensors: tuple[Sizes, ...]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(math.prod(sizes) for sizes in tensors)


def share(tensors: tuple[Sizes, ...], processes: int) -> int:
    """How many numbers each process holds where tensors are in shares: FSDP2 cuts them along their first dimension into
    equal pieces and pads the last; a tensor with fewer rows than there are processes costs a row on each."""
    return sum(math.prod((math.ceil(sizes[0] / processes), *sizes[1:])) if sizes else 1 for sizes in tensors)


def _last_product(layer: nn.Module) -> int:
    """Weights of a block's last matrix; 0 where dropout comes after it, whose backward pass needs what goes in."""
    count = 0
    for module in layer.modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            count = module.weight.numel()
        elif isinstance(module, nn.Dropout) and module.p > 0:
            count = 0
    return count
