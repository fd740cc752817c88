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

from pydantic import Field, field_validator
from torch import nn

from warmstart.errors import ModelError
from warmstart.models.layers import depth_of, width_of
from warmstart.objectives import Objective

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


class OfSizes(Objective):
    """The fields of an objective that trains several sizes of a model."""

    sizes: list[Size] | None = Field(
        None, description="Pairs of a layer and dimensions, small to large; default: six, dimensions halving."
    )
    allow_partial: bool = Field(False, description="The last size need not be the whole model.")

    @field_validator("sizes")
    @classmethod
    def _grow(cls, sizes: list[Size] | None) -> list[Size] | None:
        return sizes if sizes is None else list(growing(sizes))

    def sizes_of(self, model: nn.Module) -> list[Size]:
        """The sizes that are trained.

        Raises:
            ModelError: the model does not have them.
        """
        return checked_sizes(
            self.sizes,
            depth_of(model),
            width_of(model),
            allow_partial=self.allow_partial,
            where=f"objective {self.name}, sizes",
        )


def size_name(size: Size) -> str:
    """`6x128`: what logs and metrics call a size."""
    return f"{size[0]}x{size[1]}"
