"""The plan of a growth: everything that is decided before the first tensor is touched, and how one tensor is made.

`Plan.tensor` makes one new tensor from at most two old ones, and asks for them by name. A model in memory and a
checkpoint that streams from file to file differ only in what answers, so both give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig

from warmstart.models.axes import Axis, Found, Table, table_for
from warmstart.randomness import torch_generator
from warmstart.surgery import exact, width
from warmstart.surgery.depth import DepthMap, depth_map
from warmstart.surgery.maps import Map, axis_maps, fitted
from warmstart.surgery.width import Piece

if TYPE_CHECKING:
    from warmstart.surgery.grow import Grow


class Plan:
    """How a model of one configuration grows into another.

    Args:
        grow: the settings.
        config: the old model's configuration.
        names: the names of all weights of the old model, tied ones included: they tell whether a tied head is there.
        seed: all random draws come from it.

    Raises:
        ModelError: the growth is not possible.
    """

    def __init__(self, grow: Grow, config: PretrainedConfig, names: Iterable[str], seed: int) -> None:
        self.grow = grow
        self.seed = seed
        self.table: Table = table_for(config)
        self.old = self.table.sizes(config)
        self.config = grow.target(config)
        self.new = self.table.sizes(self.config)
        self.depth: DepthMap = depth_map(self.old.depth, self.new.depth, grow.depth)
        heads = {found.pattern for name in names if (found := self.table.find(name))}
        tied = self.table.tied if getattr(config, "tie_word_embeddings", False) else None
        self.tied = tied if tied is not None and tied.head in heads else None
        self._maps = cache(self._make_maps)

    def tensor(self, name: str, get: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The grown model's weight `name`, in the dtype of the old one.

        Args:
            name: its name in the grown model (or file), e.g. `transformer.h.7.mlp.c_fc.weight`.
            get: gives the old model's weight of a name (in the same naming).

        Raises:
            ModelError: the axes table does not cover the weight.
        """
        found = self.table.get(name)
        layer = None if found.layer is None else self.depth.source[found.layer]
        last = layer is None or layer + 1 == self.old.depth or self.grow.width != "aki"
        tensor = get(name if layer is None else found.at(layer))
        above = None if last or layer is None else get(found.at(layer + 1))
        piece = Piece(
            weight=found.weight,
            tensor=_to_compute(tensor),
            maps=fitted(found.weight, self._maps(layer)),
            above=None if above is None else _to_compute(above),
            maps_above=[] if last or layer is None else fitted(found.weight, self._maps(layer + 1)),
            std=self._std(found),
            generator=torch_generator(self.seed, "grow", "weight", self.table.bare(name)),
        )
        new = self._widened(found, piece)
        if self.grow.noise:
            new = width.with_noise(piece, new, self.grow.noise)
        if found.layer in self.depth.silent and self._writes(found) and self.grow.width != "random":
            new = torch.zeros_like(new)
        return new.to(tensor.dtype)

    def _widened(self, found: Found, piece: Piece) -> torch.Tensor:
        how = self.grow.width
        if how == "random":
            return width.random(piece)
        if how == "direct":
            return width.direct(piece) if any(piece.maps) else piece.tensor.clone()
        if how == "exact" and self.table.pre_norm:
            return exact.by_padding(piece, self.table.norm, self.old.width / self.new.width)
        if how == "exact":
            new = exact.by_shares(piece)
            if self._before_tied_head(found) and piece.maps[0] is not None:
                new = new * exact.shares(list(new.shape), 0, piece)
            return new
        new = width.fpi(piece) if how == "fpi" else width.aki(piece, self.grow.variant)
        if self._before_tied_head(found) and piece.maps[0] is not None:
            # The tied head's columns are copies and cannot be divided: what they read is.
            new = new / piece.maps[0].counts.to(new.dtype)
        return new

    def _before_tied_head(self, found: Found) -> bool:
        return self.tied is not None and found.pattern.rpartition(".")[0] == self.tied.norm

    def _writes(self, found: Found) -> bool:
        return found.pattern.rpartition(".")[0] in self.table.writers

    def _std(self, found: Found) -> float:
        std = float(getattr(self.config, "initializer_range", 0.02))
        scaled = self.table.scaled_writers and self._writes(found)
        return std / math.sqrt(2 * self.new.depth) if scaled else std

    def _make_maps(self, layer: int | None) -> dict[Axis, Map]:
        return axis_maps(
            self.old,
            self.new,
            mapping=self.grow.mapping,
            width_mapping="balanced" if self.grow.width == "exact" else self.grow.mapping,
            seed=self.seed,
            layer=layer,
        )

    def shape(self, name: str, old: tuple[int, ...]) -> tuple[int, ...]:
        """The new shape of a weight that lies in the old checkpoint although the model's class has none such."""
        maps = fitted(self.table.get(name).weight, self._maps(None))
        return tuple(size if m is None else m.new for size, m in zip(old, maps, strict=True))


def _to_compute(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision is computed in fp32 and rounded once at the end."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
