"""FLOPs, measured with PyTorch's counter once per batch shape, and peak memory.

What is counted are the matrix products that the model's definition asks for, in forward and backward: two per product
in the forward pass, four in the backward pass. PyTorch's counter does not see the CPU's fused attention at all, and
counts the recomputation inside fused attention kernels on a GPU; both would make the number depend on the kernel. Here
every fused attention counts like the written-out one, so that `sdpa` and `eager` give the same number. Causal attention
is not discounted (the convention of most papers). Element-wise work and the optimizer are not counted. What a loss in
chunks does instead of making all logits is the same products, and so the same number; what activation checkpointing
(`warmstart/train/activations.py`) computes a second time is compute that is spent, and counts.

Where the shape changes from step to step, measuring every shape would double the work. There every matrix product is
linear in the tokens, or in the pairs of tokens that attention compares: two tiny measurements give both prices,
exactly, and the first real batch is measured to make sure (`FlopMeter.measure_by_work`).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from warmstart.errors import ModelError

Shape = torch.Size
Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class Work:
    """What the FLOPs of a batch depend on: its tokens (with padding, where there is any), and the pairs of tokens that
    attention compares (the sum of each text's squared length)."""

    tokens: int
    pairs: int


def attention_forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Q K^T and P V: shapes `(batch, heads, tokens, head_dim)`; keys may have fewer heads (grouped queries)."""
    batch, heads, queries, size = query
    return 2 * batch * heads * queries * key[-2] * (size + value[-1])


def attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """dV, dP, dQ, dK: twice the forward pass; recomputing P is the kernel's own affair."""
    return 2 * attention_forward(query, key, value)


def _formulas() -> dict[Any, Callable[..., int]]:
    aten = torch.ops.aten
    kernels = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    found: dict[Any, Callable[..., int]] = {}
    for kernel in kernels:
        for suffix, formula in (("", attention_forward), ("_backward", attention_backward)):
            operator = getattr(aten, f"_scaled_dot_product_{kernel}{suffix}", None)
            if operator is not None:
                found[operator] = formula
    return found


class FlopMeter:
    """Measures the FLOPs of a computation once per key and remembers them."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def measure(self, key: Key, forward: Callable[[], torch.Tensor]) -> float:
        """FLOPs of `forward()` and of the backward pass of the scalar it returns.

        The first call for a key runs both once; gradients and random states are left as they were, so that training
        does not notice. Each gradient is let go as soon as it is there: no two are in memory at once.

        Args:
            key: what the FLOPs depend on, e.g. `batch_key(batch)` and which weights train.
        """
        name = repr(key)
        if name not in self._known:
            with (
                torch.random.fork_rng(devices=_devices()),
                torch.enable_grad(),
                FlopCounterMode(display=False, custom_mapping=_formulas()) as counter,
            ):
                loss = forward()
                leaves = _leaves(loss)
                hooks = [leaf.register_hook(_nothing_like) for leaf in leaves]
                try:
                    if leaves:
                        torch.autograd.grad(loss, leaves, allow_unused=True)
                finally:
                    for hook in hooks:
                        hook.remove()
            self._known[name] = float(counter.get_total_flops())
        return self._known[name]

    def measure_by_work(
        self,
        key: Key,
        work: Work,
        one_text: Callable[[int], float],
        sample: Callable[[], tuple[Work, float]],
    ) -> float:
        """FLOPs of a batch with so many tokens and pairs, by the prices of one token and one pair.

        Args:
            key: what the prices depend on: how batches are laid out, and which weights train.
            one_text: the measured FLOPs of a batch of a single text with so many tokens.
            sample: a real batch: its work and its measured FLOPs.

        Raises:
            ModelError: the model's FLOPs do not follow from tokens and pairs.
        """
        name = repr(("work", key))
        if f"{name} token" not in self._known:
            two, four = one_text(2), one_text(4)  # 2 tokens and 4 pairs; 4 tokens and 16 pairs
            pair = (four - 2 * two) / 8
            token = two / 2 - 2 * pair
            real, measured = sample()
            if real.tokens * token + real.pairs * pair != measured:
                raise ModelError(
                    f"the model's FLOPs ({measured:.6g} for {real.tokens} tokens) do not follow from its tokens and "
                    "pairs of tokens, so that they cannot be counted; use train.layout: padded"
                )
            self._known |= {f"{name} token": token, f"{name} pair": pair}
        return work.tokens * self._known[f"{name} token"] + work.pairs * self._known[f"{name} pair"]

    def measure_forward(self, key: Key, forward: Callable[[], Any]) -> float:
        """FLOPs of `forward()` alone, without gradients: evaluation, teachers, generation."""
        name = repr(("forward", key))
        if name not in self._known:
            with (
                torch.random.fork_rng(devices=_devices()),
                torch.no_grad(),
                FlopCounterMode(display=False, custom_mapping=_formulas()) as counter,
            ):
                forward()
            self._known[name] = float(counter.get_total_flops())
        return self._known[name]

    def knows(self, key: Key) -> bool:
        """Whether `measure` needs no more than to look the key up."""
        return repr(key) in self._known

    def remember(self, key: Key, flops: float) -> None:
        """What something cost the last time; see `last`."""
        self._known[repr(("last", key))] = flops

    def last(self, key: Key) -> float:
        """What was remembered under a key; 0 for nothing."""
        return self._known.get(repr(("last", key)), 0.0)

    def count(self, run: Callable[[], Any]) -> float:
        """FLOPs of `run()`, whatever passes it makes, forward and backward; counted every time."""
        with (
            torch.random.fork_rng(devices=_devices()),
            FlopCounterMode(display=False, custom_mapping=_formulas()) as counter,
        ):
            run()
        return float(counter.get_total_flops())

    def state_dict(self) -> dict[str, float]:
        return dict(self._known)

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._known = dict(state)


def batch_key(batch: dict[str, torch.Tensor]) -> Key:
    """Names and shapes of a batch: what its FLOPs depend on."""
    return tuple((name, tuple(tensor.shape)) for name, tensor in sorted(batch.items()))


def _devices() -> list[int]:
    """The GPU this process computes on, if any: whose random state a forward pass moves."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []


def _nothing_like(gradient: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape that takes the memory of one number."""
    return gradient.new_zeros(()).expand_as(gradient)


def _leaves(loss: torch.Tensor) -> list[torch.Tensor]:
    """The parameters that a loss has a gradient for, found by walking its graph."""
    found: list[torch.Tensor] = []
    seen: set[Any] = set()
    stack = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.append(variable)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def peak_memory_bytes() -> int:
    """The largest memory this process has held: on the GPU where there is one in use, else resident memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
