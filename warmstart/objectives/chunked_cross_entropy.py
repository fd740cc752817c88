"""Cross entropy of a linear output layer whose logits never exist in full.

With a vocabulary of 128k the logits of a few thousand tokens are gigabytes, and plain training holds them three times:
the logits, their log-softmax, and the gradient. Here a chunk of tokens at a time gets its logits, its loss, and *at
once* its gradient with respect to the hidden states and to the layer's weights; then the chunk is forgotten.

Taking the gradient in the forward pass costs what plain training costs, three matrix products for each token (6 x width
x vocabulary FLOPs; without gradients one). The alternative, to compute the logits again in the backward pass, costs a
fourth. So the FLOPs that PyTorch's counter sees are those of the plain path, and arms of a study that differ in which
path they take pay the same. The price: the gradient of the weights is held from here to the end of the backward pass
(plain training makes it at the beginning of that pass), and every token's loss has the same weight in the sum that
carries the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

NO_TARGET = -100
CHUNK = {"cpu": 2**24, "cuda": 2**27}
"""Logits of a chunk: 64 MiB in float32 on a CPU; more on a GPU, where a product of few rows waits for the weights."""


class Nats(NamedTuple):
    """Cross entropies, 0 where there is no target.

    Attributes:
        total: their sum, a scalar with gradient.
        each: of each token, `(tokens,)`, without gradient.
        right: whether each token's best guess is its label, bool `(tokens,)`; None where gradients are computed.
    """

    total: torch.Tensor
    each: torch.Tensor
    right: torch.Tensor | None


def chunked_cross_entropy(
    states: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    scale: float = 1.0,
    cap: float | None = None,
    rows: int | None = None,
) -> Nats:
    """-log softmax(logits)[label] of each token in float32 (float64 for float64), nats; the logits are
    `scale * (states @ weight.T + bias)`, and with a cap `cap * tanh(logits / cap)`.

    Args:
        states: `(tokens, width)`.
        weight, bias: `(vocabulary, width)`, `(vocabulary,)`; under autocast they are multiplied in its format.
        labels: int64 `(tokens,)`; -100 where there is no target.
        rows: tokens in a chunk; default: `rows_of_chunk`.

    Example:
        In one's own loop, with a causal model of `transformers` whose head is a plain linear layer::

            states = model.base_model(input_ids=tokens[:, :-1]).last_hidden_state
            nats = chunked_cross_entropy(states.flatten(0, 1), model.lm_head.weight, tokens[:, 1:].flatten())
            (nats.total / tokens[:, 1:].numel()).backward()
    """
    device = states.device.type
    low = states.dtype
    if torch.is_autocast_enabled(device) and low != torch.float64:  # (autocast leaves float64 alone)
        low = torch.get_autocast_dtype(device)
    size = rows or rows_of_chunk(weight.shape[0], device)
    if torch.is_grad_enabled():
        total, each = _Chunked.apply(states, weight, bias, labels, scale, cap, size, low)
        return Nats(total, each, None)
    chunks = []
    low_weight, low_bias = weight.to(low), None if bias is None else bias.to(low)
    for start in range(0, len(states), size):
        own = labels[start : start + size]
        logits = _logits(states[start : start + size].to(low), low_weight, low_bias, scale, cap)
        right = logits.argmax(dim=1) == own  # (a token without a target holds -100, which is never a guess)
        chunks.append((_nats(logits, own)[0], right))
    each = torch.cat([nats for nats, _ in chunks]) if chunks else states.new_zeros(0)
    return Nats(each.sum(), each, torch.cat([right for _, right in chunks]) if chunks else labels == 0)


def rows_of_chunk(vocabulary: int, device: str) -> int:
    """How many tokens a chunk has."""
    return max(1, CHUNK.get(device, CHUNK["cuda"]) // vocabulary)


def pays(tokens: int, vocabulary: int, device: str) -> bool:
    """Whether so many logits are worth a chunked loss: from two chunks on."""
    return tokens * vocabulary >= 2 * CHUNK.get(device, CHUNK["cuda"])


class _Chunked(torch.autograd.Function):
    """The sum of the cross entropies, and each of them; the gradients are ready when the forward pass ends."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        scale: float,
        cap: float | None,
        rows: int,
        low: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for_states, for_weight, for_bias, *_ = ctx.needs_input_grad
        wide = torch.float64 if states.dtype == torch.float64 else torch.float32
        of_states = torch.empty_like(states) if for_states else None
        of_weight = torch.zeros_like(weight, dtype=wide) if for_weight else None
        of_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and for_bias else None
        low_weight, low_bias = weight.to(low), None if bias is None else bias.to(low)
        each = []
        for start in range(0, len(states), rows):
            own, here = labels[start : start + rows], states[start : start + rows].to(low)
            logits = _logits(here, low_weight, low_bias, scale, cap)
            nats, log_probability, index = _nats(logits, own)
            each.append(nats)
            has_target = (own != NO_TARGET).to(wide).unsqueeze(1)
            gradient = log_probability.exp_().mul_(has_target).scatter_add_(1, index, -has_target)
            if cap is not None:
                gradient *= 1 - (logits / cap).square()
            if scale != 1.0:
                gradient *= scale
            if of_bias is not None:
                of_bias += gradient.sum(dim=0)
            narrow = gradient.to(low)
            if of_states is not None:
                of_states[start : start + rows] = narrow @ low_weight
            if of_weight is not None and low == wide:
                torch.addmm(of_weight, narrow.T, here, out=of_weight)
            elif of_weight is not None:
                of_weight += narrow.T @ here  # (no product of half precision adds to float32 on a CPU)
        nats = torch.cat(each) if each else states.new_zeros(0, dtype=wide)
        ctx.save_for_backward(of_states, of_weight, of_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(nats)
        return nats.sum(), nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_states, of_weight, of_bias = ctx.saved_tensors
        if of_states is not None:
            of_states = of_states * gradient.to(of_states.dtype)
        if of_weight is not None:  # in place, as it is large; PyTorch refuses a second backward pass after that
            of_weight = of_weight.mul_(gradient).to(ctx.dtypes[0])
        if of_bias is not None:
            of_bias = (of_bias * gradient).to(ctx.dtypes[1])
        return of_states, of_weight, of_bias, None, None, None, None, None


def _logits(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float, cap: float | None
) -> torch.Tensor:
    """A chunk's logits `(rows, vocabulary)` in float32, or float64."""
    logits = functional.linear(states, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if scale != 1.0:
        logits = logits * scale
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _nats(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each row's cross entropy `(rows,)`, 0 without a target; the log-probabilities `(rows, vocabulary)`; and where the
    labels are, `(rows, 1)`, 0 without a target."""
    index = torch.where(labels == NO_TARGET, 0, labels).unsqueeze(1)
    log_probability = torch.log_softmax(logits, dim=1)
    nats = torch.where(labels == NO_TARGET, 0.0, -log_probability.gather(1, index).squeeze(1))
    return nats, log_probability, index
