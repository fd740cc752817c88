"""Batches without padding: only real tokens go through the model, one text after another.

Every layer but attention works token by token, so that a padded batch `(texts, length)` and the flat one
`(1, tokens)` give the same outputs; attention must be told where texts begin
(`warmstart/train/varlen_attention.py`). What is saved is the padding's compute. The price: the number of tokens
differs from step to step, which compiled graphs and kernels that are tuned to one shape do not like.

Source: J. Zeng et al., "Boosting Distributed Training Performance of the Unpadded BERT Model", 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from warmstart.errors import DataError


@dataclass(frozen=True)
class Unpadded:
    """The real tokens of a padded batch.

    Attributes:
        ids: `(tokens,)` token ids, one text after another.
        positions: `(tokens,)` int64, the token's place inside its text, from 0.
        cu_seqlens: `(texts + 1,)` int32: where each text begins, and at the end the number of tokens.
        lengths: tokens of each text. On the host: which kernels run depends on them, and asking the device for them
            at every step would make it wait.
        indices: `(tokens,)` int64, the token's place in the flattened padded batch.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    cu_seqlens: torch.Tensor
    lengths: tuple[int, ...]
    indices: torch.Tensor


@dataclass(frozen=True)
class LengthGroup:
    """Neighbouring texts that are computed together: `texts[first:end]`, each of at most `cap` tokens."""

    first: int
    end: int
    cap: int


def unpad(ids: torch.Tensor, mask: torch.Tensor, *, allow_holes: bool = False, longest: int | None = None) -> Unpadded:
    """Takes the padding out of a batch, wherever it stands.

    Args:
        ids: `(texts, length)` token ids.
        mask: `(texts, length)`, true (or 1) for real tokens.
        allow_holes: take texts whose real tokens are not all side by side; positions count the real ones.
        longest: the most tokens that a text may have (the model's positions).

    Raises:
        DataError: a text without a token, with padding inside (unless `allow_holes`), or longer than `longest`.
        ValueError: the shapes differ.
    """
    if ids.ndim != 2 or ids.shape != mask.shape:
        raise ValueError(f"ids {tuple(ids.shape)} and mask {tuple(mask.shape)} must both be (texts, length)")
    real = mask.bool()
    counted = real.cumsum(dim=1)
    lengths = tuple(int(length) for length in counted[:, -1].tolist()) if ids.numel() else (0,) * len(ids)
    for row, length in enumerate(lengths):
        if length == 0:
            raise DataError(f"text {row} of the batch has no token")
        if longest is not None and length > longest:
            raise DataError(f"text {row} of the batch has {length} tokens, more than the {longest} that fit")
    if not allow_holes:
        began = real[:, :1].sum(dim=1) + (real[:, 1:] & ~real[:, :-1]).sum(dim=1)
        broken = (began != 1).nonzero().flatten().tolist()
        if broken:
            raise DataError(f"text {broken[0]} of the batch has padding between its tokens (allow_holes takes it)")
    indices = real.flatten().nonzero().flatten()
    return Unpadded(
        ids=ids.flatten()[indices],
        positions=(counted - 1).flatten()[indices],
        cu_seqlens=boundaries(lengths).to(ids.device),
        lengths=lengths,
        indices=indices,
    )


def repad(values: torch.Tensor, indices: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The opposite of `unpad`: `(tokens, ...)` to `(texts, length, ...)`, zeros where there is no token."""
    texts, length = shape
    padded = values.new_zeros(texts * length, *values.shape[1:]).index_copy(0, indices, values)
    return padded.view(texts, length, *values.shape[1:])


def boundaries(lengths: Sequence[int]) -> torch.Tensor:
    """Where each text begins, and where the last one ends: int32 `(texts + 1,)`."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def length_groups(lengths: Sequence[int], caps: Sequence[int] | None = None) -> list[LengthGroup]:
    """Texts in descending order of length, cut into neighbours that share a cap.

    Args:
        lengths: never increasing.
        caps: the lengths that texts are padded up to; default: none is padded, texts of equal length are a group.

    Raises:
        ValueError: the lengths increase somewhere, or there is no cap that is long enough.
    """
    if any(second > first for first, second in pairwise(lengths)):
        raise ValueError("length groups need texts in descending order of length")
    allowed = sorted(set(lengths) if caps is None else caps)
    if lengths and (not allowed or lengths[0] > allowed[-1]):
        raise ValueError(f"a text of {lengths[0]} tokens is longer than the largest cap of {allowed}")
    groups: list[LengthGroup] = []
    for text, length in enumerate(lengths):
        cap = next(cap for cap in allowed if cap >= length)
        if groups and groups[-1].cap == cap:
            groups[-1] = LengthGroup(groups[-1].first, text + 1, cap)
        else:
            groups.append(LengthGroup(text, text + 1, cap))
    return groups
