"""Ways to widen one tensor: function-preserving copies (FPI), borrowed neurons (AKI), a corner copy, random weights.

Each is a short function of a `Piece`: one weight of one block, the same weight of the block above, and the maps of
its dimensions. The rule they share: a layer sums over its *input* dimension, so what is copied there is divided by
its number of copies; what is copied along the output dimension is copied as it is.

FPI preserves the function where all residual entries have the same number of copies; its price is that copies stay
equal for ever (they get equal gradients). AKI breaks that symmetry by taking the new neurons from the block above;
its price is a worse start. `exact.py` has the third way, which keeps the function at any ratio and breaks the
symmetry too.

Source: bert2BERT (arXiv 2110.07143), function-preserving and advanced knowledge initialisation; Net2Net (1511.05641).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from warmstart.models.axes import Weight
from warmstart.surgery.maps import Map

Maps = Sequence[Map | None]
Variant = Literal["columns", "paired"]


@dataclass(frozen=True, eq=False)
class Piece:
    """One weight of one block, and what is needed to widen it.

    Attributes:
        weight: what its dimensions mean.
        tensor: the old weight, in the dtype to compute in.
        maps: the map of each dimension, None where it does not grow.
        above: the same weight of the block above; None in the last block and outside the blocks.
        maps_above: the maps of that block.
        std: standard deviation of the family's random start for this weight.
        generator: for whatever must be drawn for this weight.
    """

    weight: Weight
    tensor: torch.Tensor
    maps: Maps
    above: torch.Tensor | None
    maps_above: Maps
    std: float
    generator: torch.Generator

    @property
    def shape(self) -> list[int]:
        """The new shape."""
        return [old if m is None else m.new for old, m in zip(self.tensor.shape, self.maps, strict=True)]


def fpi(piece: Piece) -> torch.Tensor:
    """Copies: gathered along every dimension, divided by the copies along the input dimension."""
    return _copies(piece.weight, piece.tensor, piece.maps)


def aki(piece: Piece, variant: Variant) -> torch.Tensor:
    """FPI, but new neurons come from the block above; without one (last block, embeddings, norms, head) plain FPI.

    - `columns`: the equation read literally: the new *output* neurons of every matrix, with their biases, are the
      block above's, expanded along their input by its own maps.
    - `paired`: the residual stream is widened by FPI; new heads and MLP neurons come from the block above, each
      with its incoming and its outgoing weights.
    """
    new = fpi(piece)
    weight = piece.weight
    if piece.above is None or weight.role not in ("matrix", "bias"):
        return new
    if variant == "columns":
        dimension: int | None = weight.output
    else:
        dimension = next((d for d, axes in enumerate(weight.axes) if axes != "width"), None)
    own = piece.maps[dimension] if dimension is not None else None
    if dimension is None or own is None:
        return new
    # Only the new entries are taken from the block above: the dimension's map is cut to them, its counts are not.
    fresh = torch.nonzero(own.fresh).flatten()
    borrowed = piece.above.index_select(dimension, own.index[fresh])
    others = [None if d == dimension else m for d, m in enumerate(piece.maps_above)]
    borrowed = _copies(weight, borrowed, others)
    if dimension == weight.input:
        borrowed = borrowed / _along(own.counts[fresh], dimension, borrowed)
    return new.index_copy_(dimension, fresh, borrowed)


def direct(piece: Piece) -> torch.Tensor:
    """The old weight in the corner of a random one (a baseline: nothing is preserved)."""
    new = random(piece)
    corner = []
    for dimension, (size, m) in enumerate(zip(piece.tensor.shape, piece.maps, strict=True)):
        kept = torch.arange(size) if m is None else m.kept
        corner.append(kept.view([-1 if d == dimension else 1 for d in range(piece.tensor.dim())]))
    new[tuple(corner)] = piece.tensor
    return new


def random(piece: Piece) -> torch.Tensor:
    """A new weight as a model of the family would start with (a baseline: nothing is kept)."""
    dtype = piece.tensor.dtype
    if piece.weight.role in ("matrix", "embedding"):
        return torch.empty(piece.shape, dtype=dtype).normal_(0.0, piece.std, generator=piece.generator)
    if piece.weight.role == "norm_weight":
        return torch.ones(piece.shape, dtype=dtype)
    return torch.zeros(piece.shape, dtype=dtype)


def with_noise(piece: Piece, new: torch.Tensor, noise: float) -> torch.Tensor:
    """Gaussian noise on the new entries of a matrix, `noise` times the weight's own standard deviation (Net2Net)."""
    if piece.weight.role != "matrix" or not any(piece.maps):
        return new
    is_new = torch.zeros(1, dtype=torch.bool)
    for dimension, m in enumerate(piece.maps):
        if m is not None:
            is_new = is_new | m.fresh.view([-1 if d == dimension else 1 for d in range(new.dim())])
    drawn = torch.empty_like(new).normal_(0.0, noise * float(piece.tensor.std()), generator=piece.generator)
    return new.add_(drawn.mul_(is_new))


def _copies(weight: Weight, tensor: torch.Tensor, maps: Maps) -> torch.Tensor:
    new = tensor
    for dimension, m in enumerate(maps):
        if m is not None:
            new = new.index_select(dimension, m.index)
            if dimension == weight.input:
                new.div_(_along(m.counts, dimension, new))
    return new.clone() if new is tensor else new


def _along(values: torch.Tensor, dimension: int, like: torch.Tensor) -> torch.Tensor:
    """`(n,)` values shaped so that they broadcast along one dimension."""
    return values.to(like.dtype).view([-1 if d == dimension else 1 for d in range(like.dim())])
