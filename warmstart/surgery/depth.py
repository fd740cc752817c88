"""Depth maps: which old block each new block copies, and which new blocks start as the identity.

- `stack`: the old blocks over and over, the remainder from the top (StackBERT, bert2BERT): 3 -> 8 is 0 1 2 0 1 2 1 2.
- `interleave`: each block beside its copies, block l copies l * old // new (AquilaMoE's interpolation): 3 -> 6 is
  0 0 1 1 2 2.
- `identity`: interleaved too, but a block's copies start with their output projections at zero, so that they add
  nothing to the residual stream. In a pre-norm model that keeps the function exactly; in a post-norm one the new
  blocks still normalise the stream twice more, so it does so only approximately. New blocks lie right above the
  block that they copy: there their inputs look like what their weights were trained on, and all parts of the model
  grow alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Depth = Literal["stack", "interleave", "identity"]


@dataclass(frozen=True)
class DepthMap:
    """Attributes: `source`, the old block of each new one; `silent`, the new blocks that start as the identity."""

    source: tuple[int, ...]
    silent: frozenset[int] = frozenset()


def depth_map(old: int, new: int, depth: Depth) -> DepthMap:
    """The map from `new` blocks to `old` ones, `new >= old`."""
    if depth == "stack":
        rounds, rest = divmod(new, old)
        return DepthMap(tuple(range(old)) * rounds + tuple(range(old - rest, old)))
    source = tuple(layer * old // new for layer in range(new))
    if depth == "interleave":
        return DepthMap(source)
    return DepthMap(source, frozenset(layer for layer in range(1, new) if source[layer] == source[layer - 1]))
