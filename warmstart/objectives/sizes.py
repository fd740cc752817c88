"""Sizes of one encoder that is to serve as many: pairs of a layer to stop after and how many dimensions to keep.

Layer 1 is the first block's output, and the last pair is the whole model. Layers and dimensions grow together, so that
a list of pairs is a list of models from small to large.

Source: "Starbucks: Improved Training for 2D Matryoshka Embeddings" (arXiv 2410.13230), whose pairs for BERT-base are
(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from warmstart.errors import ModelError

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
"""(layer, dimensions)."""


def default_sizes(layers: int, width: int, count: int = 6) -> list[Size]:
    """Evenly spaced layers, and dimensions that halve downwards from the width.

    Args:
        count: at most so many pairs; fewer where there are not so many layers or halvings.
    """
    number = min(count, layers, width.bit_length())
    return [(layers * n // number, width >> (number - n)) for n in range(1, number + 1)]


def growing(sizes: Sequence[Size]) -> Sequence[Size]:
    """The sizes themselves.

    Raises:
        ValueError: there are none, or one is not larger than the one before in both numbers.
    """
    if not sizes:
        raise ValueError("give at least one pair of a layer and dimensions")
    for before, after in pairwise(sizes):
        if not (before[0] < after[0] and before[1] < after[1]):
            raise ValueError(f"sizes must grow in layer and dimensions: {list(after)} comes after {list(before)}")
    return sizes


def checked_sizes(
    sizes: Sequence[Size] | None, layers: int, width: int, *, allow_partial: bool = False, where: str = "sizes"
) -> list[Size]:
    """The sizes of a model, by default `default_sizes`.

    Args:
        layers, width: the model's depth and hidden size.
        allow_partial: the last size need not be the whole model.

    Raises:
        ModelError: they do not grow, the model has no such layer or not so many dimensions, or the last size is not the
            whole model.
    """
    if sizes is None:
        return default_sizes(layers, width)
    try:
        growing(sizes)
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from None
    for layer, dimensions in sizes:
        if not 1 <= layer <= layers or not 1 <= dimensions <= width:
            raise ModelError(f"{where}: [{layer}, {dimensions}] of a model with {layers} layers x {width} dimensions")
    if not allow_partial and tuple(sizes[-1]) != (layers, width):
        raise ModelError(
            f"{where}: the last size must be the whole model, [{layers}, {width}], found {list(sizes[-1])}; "
            "add it, or set allow_partial: true"
        )
    return [(layer, dimensions) for layer, dimensions in sizes]


def size_name(size: Size) -> str:
    """`6x128`: what logs and metrics call a size."""
    return f"{size[0]}x{size[1]}"
