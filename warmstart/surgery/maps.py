"""Index maps: which old entry each new entry of a dimension stands for.

Every way of widening starts from the same question, so the answer is one small object, `Map`. Maps of single axes
are made once per model (the residual width) or once per block (heads, MLP) and then fitted to a tensor's
dimensions: heads become runs of `head_dim` entries, and the axes of a fused dimension (GPT-2's q, k, v) are laid
one after the other. So nothing that widens a tensor needs to know about heads or about fused weights.

Source: bert2BERT (arXiv 2110.07143), the mapping functions g; grouped-query heads as in AquilaMoE (arXiv 2408.06567).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from warmstart.models.axes import Axis, Sizes, Weight
from warmstart.randomness import torch_generator

Spread = Literal["balanced", "random"]


@dataclass(frozen=True, eq=False)
class Map:
    """A map from new entries to old ones; every old entry has exactly one original among the new ones.

    Attributes:
        index: `(new,)` int64, the old entry that each new one stands for.
        fresh: `(new,)` bool, True for copies, False for originals.
    """

    index: torch.Tensor
    fresh: torch.Tensor

    @cached_property
    def kept(self) -> torch.Tensor:
        """`(old,)` int64: where the original of each old entry lies."""
        positions = torch.nonzero(~self.fresh).flatten()
        return positions[torch.argsort(self.index[positions])]

    @cached_property
    def counts(self) -> torch.Tensor:
        """`(new,)` float64: how many entries, the original included, stand for the same old entry."""
        return torch.bincount(self.index)[self.index].double()

    @property
    def old(self) -> int:
        """The old number of entries."""
        return len(self.kept)

    @property
    def new(self) -> int:
        """The new number of entries."""
        return len(self.index)

    @property
    def grows(self) -> bool:
        """Whether anything changes."""
        return self.new != self.old


def spread(old: int, new: int, mapping: Spread, generator: torch.Generator) -> Map:
    """The originals first, then copies: in turn (balanced) or each drawn uniformly (random)."""
    extra = (
        torch.arange(old, new) % old if mapping == "balanced" else torch.randint(old, (new - old,), generator=generator)
    )
    return Map(torch.cat([torch.arange(old), extra]), torch.arange(new) >= old)


def unchanged(size: int) -> Map:
    """The map of an axis that does not grow."""
    return Map(torch.arange(size), torch.zeros(size, dtype=torch.bool))


def in_groups(groups: int, old: int, new: int, mapping: Spread, generator: torch.Generator) -> Map:
    """`groups` maps of `old` to `new` entries, one after the other: each entry stays in its group."""
    return join([spread(old, new, mapping, generator) for _ in range(groups)])


def join(maps: Sequence[Map]) -> Map:
    """Maps of axes that lie one after the other in one dimension."""
    starts = [sum(m.old for m in maps[:i]) for i in range(len(maps))]
    return Map(
        torch.cat([m.index + s for m, s in zip(maps, starts, strict=True)]),
        torch.cat([m.fresh for m in maps]),
    )


def by_runs(units: Map, size: int) -> Map:
    """A map of units (heads) as a map of their entries: every unit is a run of `size` entries."""
    index = units.index[:, None] * size + torch.arange(size)
    return Map(index.flatten(), units.fresh.repeat_interleave(size))


def axis_maps(
    old: Sizes, new: Sizes, *, mapping: Spread, width_mapping: Spread, seed: int, layer: int | None
) -> dict[Axis, Map]:
    """The maps of all axes that may grow, for one block of the source (or, with `layer=None`, outside the blocks).

    The width's map is one for the whole model, whatever the layer: all blocks read and write the same residual
    stream.

    Where the numbers of key/value heads are equal, they are groups, and query heads grow inside each group (their
    order stays group-major); where key/value heads grow, there is one for each query head, and they grow together.
    """
    where = () if layer is None else (layer,)
    together = old.kv_heads != new.kv_heads
    group_count = 1 if together else old.kv_heads
    heads = in_groups(
        group_count,
        old.heads // group_count,
        new.heads // group_count,
        mapping,
        torch_generator(seed, "grow", "heads", *where),
    )
    kv_heads = heads if together else unchanged(old.kv_heads)
    return {
        "width": spread(old.width, new.width, width_mapping, torch_generator(seed, "grow", "width")),
        "heads": by_runs(heads, old.head_dim),
        "kv_heads": by_runs(kv_heads, old.head_dim),
        "mlp": spread(old.mlp, new.mlp, mapping, torch_generator(seed, "grow", "mlp", *where)),
    }


def fitted(weight: Weight, maps: Mapping[Axis, Map]) -> list[Map | None]:
    """The map of each dimension of a tensor; None for a dimension that does not grow."""
    result: list[Map | None] = []
    for axes in weight.axes:
        parts = (axes,) if isinstance(axes, str) else axes
        whole = join([maps[axis] for axis in parts]) if all(axis in maps for axis in parts) else None
        result.append(whole if whole is not None and whole.grows else None)
    return result
