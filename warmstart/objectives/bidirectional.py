"""What the objectives of encoders share: which tokens may be chosen, choosing them, and keeping documents apart.

Documents that share a block are kept apart by an additive float mask `(batch, 1, length, length)`, made only for
batches that need one. A boolean mask would do for `sdpa`, but leaks under `eager`; position ids alone do not separate
documents in bidirectional models at all. A batch without padding needs no mask: its attention is told the texts'
lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from warmstart.objectives import Batch, Row
from warmstart.objectives.blocks import context_of, first_position, stacked
from warmstart.objectives.words import Words

CLOSED = -1e30
"""Added to attention scores of other documents: its exponential is 0, also in half precision."""


class Vocabulary:
    """What corrupting tokens must know of a tokenizer.

    Attributes:
        mask: the mask token's id; None where there is none.
        ordinary: which ids are tokens and not special ones: bool `(largest id + 1,)`.
        choices: the ids of the ordinary tokens, ascending.
        words: where words begin.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.mask: int | None = tokenizer.mask_token_id
        ids = set(tokenizer.get_vocab().values())
        self.ordinary = np.zeros(max(ids) + 1, dtype=bool)  # some tokenizers leave gaps between their ids
        self.ordinary[sorted(ids - set(tokenizer.all_special_ids))] = True
        self.choices = np.flatnonzero(self.ordinary)
        self.words = Words(tokenizer)


@lru_cache(maxsize=8)
def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The tokenizer's vocabulary, read once."""
    return Vocabulary(tokenizer)


def choosable(rows: Sequence[Row], vocabulary: Vocabulary) -> np.ndarray:
    """Which tokens may be corrupted, bool `(batch, length)`: no special tokens, no padding, no context."""
    return vocabulary.ordinary[stacked(rows, "tokens")] & (stacked(rows, "documents") >= 0) & ~context_of(rows)


def draw_tokens(
    rows: Sequence[Row], vocabulary: Vocabulary, rate: float, generator: np.random.Generator, whole_word: bool = False
) -> np.ndarray:
    """Each choosable token with the probability `rate`, bool `(batch, length)`; with `whole_word` the choice falls on
    words, and all tokens of a chosen word are chosen."""
    tokens = stacked(rows, "tokens")
    if whole_word:
        starts = vocabulary.words.starts(tokens, stacked(rows, "documents"))
        word = np.cumsum(starts.ravel()) - 1
        draws = generator.random(starts.size, dtype=np.float32)[word].reshape(starts.shape)
    else:
        draws = generator.random(tokens.shape, dtype=np.float32)
    return (draws < rate) & choosable(rows, vocabulary)


def batch_of(rows: Sequence[Row], **columns: np.ndarray) -> Batch:
    """Columns `(batch, length)` as tensors, with `position_ids` and whatever keeps texts apart: where some block holds
    several documents `documents`, int64; where there is only padding to hide `attention_mask`, bool."""
    documents = stacked(rows, "documents")
    columns["position_ids"] = stacked(rows, "positions")
    if (documents > 0).any():
        columns["documents"] = documents
    elif (documents < 0).any():
        columns["attention_mask"] = documents >= 0
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def places_of(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Everything but the tokens that a model must be given to read a batch: positions, and what it must not see."""
    given: dict[str, Any] = {"attention_mask": batch.get("attention_mask")}
    if "documents" in batch:
        given = {"attention_mask": _masks(model, batch["documents"])}
    if "text_lengths" in batch:
        given = {"text_lengths": tuple(batch["text_lengths"].tolist())}
    return given | {"position_ids": batch["position_ids"] + first_position(model)}


def _masks(model: nn.Module, documents: torch.Tensor) -> Any:
    """The mask of all layers, or one for each kind: a mask of four dimensions is taken as it is, also by layers that
    look through a window (ModernBERT), so that theirs must have the window in it."""
    mask = document_mask(documents)
    config: Any = getattr(model, "module", model).config
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" not in kinds:
        return mask
    places = torch.arange(documents.shape[1], device=documents.device)
    far = (places[:, None] - places[None, :]).abs() > config.sliding_window
    return {"full_attention": mask, "sliding_attention": mask.masked_fill(far, CLOSED)}


def document_mask(documents: torch.Tensor) -> torch.Tensor:
    """Float32 `(batch, 1, length, length)`: 0 inside a document, `CLOSED` between documents."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return torch.zeros(same.shape, device=same.device).masked_fill_(~same, CLOSED)
