"""The loss of every token, straight from what a model feeds its output layer: the logits need not exist.

Any causal or masked language model of `transformers` is asked for its output layer (`get_output_embeddings`). While the
model runs, hooks take what the layer is given, hand the layer no token at all, compute the loss in chunks, and put it
where the logits would have stood. So the model is called as ever, and whatever wraps it (DistributedDataParallel, FSDP)
sees the call and finds the loss in the output; a transform in front of the layer (BERT's) needs no care.

What a model does to its logits afterwards must be known: nothing, a factor (Granite, Cohere), a soft cap (Gemma), or a
factor and then a cap. It is not looked up but measured, once per model: the layer is made to put out numbers of our
own, and the model shows what it makes of them. Then the loss of three tokens must be the same both ways. A model that
fails (a head that is no linear layer, a bias that is added later, a vocabulary that is cut) takes the plain path, and a
warning says why.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from warmstart.models.evaluating import evaluating
from warmstart.objectives import Loss
from warmstart.objectives.blocks import NO_TARGET, token_loss
from warmstart.objectives.chunked_cross_entropy import Nats, chunked_cross_entropy, pays

MARK = "_warmstart_output_layer"
"""Where a model keeps what was found out about it: a copy of the model then has a copy of it."""
SIGNAL = (1e30, 1e-6, -40.0, -2.0, 0.0, 0.5, 3.0, 11.0, 70.0, 900.0, -1e30)
"""What the layer puts out to show what comes after it: a cap shows at the huge ones, a factor at the tiny one."""
WHOLE_PATH = "the logits exist in full, which takes memory"


@dataclass(frozen=True)
class OutputLayer:
    """A linear layer at the end of a model, and what the model makes of its output: `scale * x`, softly capped."""

    layer: nn.Linear
    scale: float = 1.0
    cap: float | None = None


def token_loss_of(model: nn.Module, labels: torch.Tensor, **given: Any) -> Loss:
    """`token_loss(model(**given).logits, labels)` without its `logits`: in chunks where the logits would be large, and
    the very same otherwise. Evaluation gets `right` from the chunks.

    Args:
        model: a causal or masked language model, wrapped or not.
        labels: int64 `(batch, length)`, -100 where there is no target, side by side with the logits.
    """
    vocabulary = getattr(_layer(_inner(model)), "out_features", 0)
    if vocabulary and pays(labels.numel(), vocabulary, labels.device.type):
        found = output_layer(model)
        if isinstance(found, OutputLayer):
            return _chunked(model, found, labels, given)
        warnings.warn(f"{WHOLE_PATH}: {found}", stacklevel=2)
    return token_loss(model(**given).logits, labels).without_logits({"labels": labels})


def output_layer(model: nn.Module) -> OutputLayer | str:
    """The model's output layer, or why its logits must exist. Measured once, then remembered.

    The measurement is three forward passes of a few tokens. Before `torch.compile` sees the model it should be done.
    """
    inner = _inner(model)
    found = getattr(inner, MARK, None)
    if found is None or (isinstance(found, OutputLayer) and found.layer is not _layer(inner)):
        found = _measured(inner)
        setattr(inner, MARK, found)
    return found


def _chunked(model: nn.Module, found: OutputLayer, labels: torch.Tensor, given: dict[str, Any]) -> Loss:
    with _losses_for_logits(_inner(model), found, labels) as nats:
        total = model(**given).logits  # what stands there, as wrappers may have given it a history of their own
    has_target = labels != NO_TARGET
    in_row = has_target.sum(dim=1)
    targets = in_row.sum()
    sums = nats[0].each.view(labels.shape).sum(dim=1)
    right = nats[0].right
    return Loss(
        total=total / targets.clamp(min=1),
        targets=targets,
        per_row=sums / in_row.clamp(min=1),
        right=None if right is None else right.sum(),
    )


@contextmanager
def _losses_for_logits(inner: nn.Module, found: OutputLayer, labels: torch.Tensor) -> Iterator[list[Nats]]:
    """Inside, the `logits` of the model's output are the sum of all tokens' losses; the list gets the rest."""
    taken: list[torch.Tensor] = []
    nats: list[Nats] = []

    def take(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        taken.append(inputs[0])
        return (inputs[0][:, :0],)

    def compute(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        # Here, where FSDP has the layer's whole weights at hand.
        states = taken.pop()
        made = chunked_cross_entropy(
            states.flatten(0, -2), layer.weight, labels.flatten(), layer.bias, scale=found.scale, cap=found.cap
        )
        nats.append(made)

    def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
        output.logits = nats[0].total
        return output

    # Before the hooks that are there: what FSDP does after a layer and after the model must see what we have done.
    layer = _layer(inner)
    hooks: list[RemovableHandle] = [
        layer.register_forward_pre_hook(take),
        layer.register_forward_hook(compute, prepend=True),
        inner.register_forward_hook(replace, prepend=True),
    ]
    try:
        yield nats
    finally:
        for hook in hooks:
            hook.remove()


def _inner(model: nn.Module) -> Any:
    """The model itself, without what wraps it for several processes."""
    return getattr(model, "module", model)


def _layer(inner: Any) -> Any:
    return inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None


@torch.compiler.disable
def _measured(inner: Any) -> OutputLayer | str:
    """What `output_layer` returns; modes, buffers and random states are left as they were."""
    layer, kind = _layer(inner), type(inner).__name__
    if layer is None:
        return f"{kind} has no output layer"
    if not isinstance(layer, nn.Linear) or type(layer).forward is not nn.Linear.forward:
        return f"the output layer of {kind} is no plain linear layer but {type(layer).__name__}"
    buffers = [(buffer, buffer.clone()) for buffer in inner.buffers()]
    devices = [layer.weight.device] if layer.weight.is_cuda else []
    try:
        with evaluating(inner), torch.random.fork_rng(devices):
            return _tried(inner, layer, kind)
    except Exception as error:  # whatever a model of somebody else's does with two tokens
        text = (str(error).strip().splitlines() or [""])[0]
        return f"{kind} could not be tried out: {type(error).__name__}: {text[:200]}"
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):  # else a graph that has it in hand would take it for changed
                    buffer.copy_(value)


def _tried(inner: Any, layer: nn.Linear, kind: str) -> OutputLayer | str:
    # In float32, or wider: a factor is not to be read off bfloat16.
    wide = torch.promote_types(torch.float32, layer.weight.dtype)
    line = torch.tensor(SIGNAL, device=layer.weight.device, dtype=wide)
    line = line.repeat(-(-layer.out_features // len(SIGNAL)))[: layer.out_features]
    ordinary = [n for n in range(layer.out_features // 2, layer.out_features) if n != inner.config.pad_token_id]
    tokens = torch.tensor([[ordinary[0], ordinary[1], ordinary[0]]], device=layer.weight.device)
    signal = line.expand(*tokens.shape, -1)
    uncached = {"use_cache": False} if "use_cache" in inspect.signature(inner.forward).parameters else {}
    run = partial(inner, input_ids=tokens, **uncached)
    given: list[tuple[int, ...]] = []

    def put_out(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        given.append(tuple(inputs[0].shape))
        return signal

    hook = layer.register_forward_hook(put_out)
    try:
        shown = run().logits
    finally:
        hook.remove()
    if given != [(*tokens.shape, layer.in_features)]:
        return f"{kind} does not give its output layer every token once (shapes {given})"
    if layer.out_features < len(SIGNAL) or shown.shape != signal.shape:
        return f"{kind} makes logits {tuple(shown.shape)} of an output layer's {tuple(signal.shape)}"
    found = _law(layer, line.to(shown.dtype), shown)
    if found is None:
        return f"{kind} does more to its logits than a factor and a soft cap"
    plain = functional.cross_entropy(run().logits.float().flatten(0, 1), tokens.flatten())
    with _losses_for_logits(inner, found, tokens):
        chunked = run().logits / tokens.numel()
    if not torch.allclose(plain.double(), chunked.double(), rtol=1e-2 if shown.dtype.itemsize < 4 else 1e-4):
        return f"the loss of {kind} comes out as {float(chunked):.6g} and not as {float(plain):.6g}"
    return found


def _law(layer: nn.Linear, signal: torch.Tensor, shown: torch.Tensor) -> OutputLayer | None:
    """The factor and the cap that make `shown` of the signal, `(vocabulary,)` and `(..., vocabulary)`; None: they do
    not."""
    if torch.equal(shown, signal.expand_as(shown)):
        return OutputLayer(layer)
    huge, tiny = shown[..., 0].flatten()[0], shown[..., 1].flatten()[0]
    scale = float(tiny / signal[1])
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    cap = None if float(huge) > 1e20 else float(huge)
    wanted = signal * scale
    if cap is not None:
        wanted = torch.tanh(wanted / cap) * cap
    fits = torch.allclose(shown, wanted.expand_as(shown), rtol=1e-5, atol=1e-7)
    return OutputLayer(layer, scale, cap) if fits and scale > 0 and (cap is None or cap > 0) else None
