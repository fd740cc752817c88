"""Bytes and seconds of growing a checkpoint from folder to folder (warmstart/surgery/stream.py).

Tensor by tensor: the memory is that of one tensor in its old and its new size, whatever the model's. The check
afterwards is another matter: it loads both models, one after the other, whole and in fp32, and runs some tokens.
A `surgery` in a recipe is another still: every process does it in memory.
"""

from __future__ import annotations

import math

from warmstart.forecast.cluster.machine import Rates
from warmstart.forecast.cluster.shape import Shape, Sizes

CHECKED = 128
"""Tokens of the check."""


def tensor_bytes(old: Sizes, new: Sizes, stored: int) -> int:
    """The most memory while one tensor grows by copies (`fpi`, `exact`): the old one and the new one in fp32, between
    them the one that has grown along its first dimension only, and both as they are stored where that is less. (`exact`
    draws its shares in slices, for which it needs 12 MB more.)

    Args:
        old, new: its shapes.
        stored: bytes of a number in the files.
    """
    between = (new[0], *old[1:]) if len(old) > 1 and new[0] != old[0] and new[1:] != old[1:] else None
    sizes = [math.prod(old), math.prod(new), math.prod(between) if between else 0]
    half = stored < 4
    while_copied = 4 * sum(sizes) + (stored * sizes[0] if half else 0)
    while_rounded = 4 * (sizes[0] + sizes[1]) + stored * (sizes[0] + sizes[1]) if half else 0
    return max(while_copied, while_rounded)


def streaming_bytes(old: Shape, new: Shape, stored: int) -> int:
    """The most memory of growing without the check: that of the largest tensor."""
    pairs = [*zip(old.root, new.root, strict=True), *zip(old.layers[0], new.layers[0], strict=True)]
    return max(tensor_bytes(before, after, stored) for before, after in pairs)


def check_bytes(new: Shape) -> int:
    """Memory of the check: the grown model in fp32."""
    return 4 * new.weights


def in_memory_bytes(old: Shape, new: Shape) -> int:
    """Memory of each process that grows a model as a stage's `surgery`: both models in fp32."""
    return 4 * (old.weights + new.weights)


def grow_seconds(new: Shape, stored: int, rates: Rates) -> float:
    """Of growing without the check, by the rate at which grown bytes are made and written."""
    return stored * new.weights / rates.grow


def check_flops(old: Shape, new: Shape) -> float:
    """Of the check: a forward pass of both models."""
    return 2.0 * CHECKED * (old.weights + new.weights)
