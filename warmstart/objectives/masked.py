"""Masked language modelling: hidden tokens are predicted from both sides.

Of the chosen tokens 80 % become the mask token, 10 % a random token, 10 % stay as they are (so that the
model cannot take an unmasked token for granted). With `whole_word` the choice falls on words, and every
token of a chosen word is a target; each token still draws its own fate.

Documents that share a block are kept apart by an additive float mask `(batch, 1, length, length)`, made
only for batches that need one. A boolean mask would do for `sdpa`, but leaks under `eager`; position ids
alone do not separate documents in bidirectional models at all. A batch without padding needs no mask: its
attention is told the texts' lengths.

Source: J. Devlin et al., "BERT", 2018, section 3.1 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.objectives import Batch, Loss, Objective, Row
from warmstart.objectives.blocks import NO_TARGET, context_of, first_position, stacked, token_loss
from warmstart.objectives.words import Words

CLOSED = -1e30
"""Added to attention scores of other documents: its exponential is 0, also in half precision."""


class Masked(Objective):
    """BERT's masked language modelling."""

    type: Literal["masked"] = "masked"
    head: ClassVar[Literal["causal", "masked", "none"]] = "masked"
    layouts: ClassVar[tuple[str, ...]] = ("padded", "bucketed", "unpadded")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of the tokens that are targets.")
    whole_word: bool = Field(False, description="Choose whole words instead of single tokens.")

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids`, `position_ids`, `labels`: int64 `(batch, length)`.

        Where some block holds several documents also `documents`, int64 `(batch, length)`; where there is only
        padding to hide, `attention_mask`, bool `(batch, length)`.

        Raises:
            ModelError: the tokenizer has no mask token.
        """
        vocabulary = _vocabulary(tokenizer)
        tokens, documents = stacked(rows, "tokens"), stacked(rows, "documents")
        maskable = vocabulary.ordinary[tokens] & (documents >= 0) & ~context_of(rows)
        if self.whole_word:
            chosen = _draw_words(vocabulary.words.starts(tokens, documents), generator) < self.rate
        else:
            chosen = generator.random(tokens.shape, dtype=np.float32) < self.rate
        chosen &= maskable
        fate = generator.random(tokens.shape, dtype=np.float32)
        random_tokens = vocabulary.choices[generator.integers(len(vocabulary.choices), size=tokens.shape)]
        visible = np.where(chosen & (fate < 0.8), vocabulary.mask, tokens)
        visible = np.where(chosen & (fate >= 0.9), random_tokens, visible)
        arrays = {
            "input_ids": visible,
            "position_ids": stacked(rows, "positions"),
            "labels": np.where(chosen, tokens, NO_TARGET),
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if (documents > 0).any():
            batch["documents"] = torch.from_numpy(documents)
        elif (documents < 0).any():
            batch["attention_mask"] = torch.from_numpy(documents >= 0)
        return batch

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean cross entropy of the hidden tokens, nats."""
        hidden: dict[str, Any] = {"attention_mask": batch.get("attention_mask")}
        if "documents" in batch:
            hidden = {"attention_mask": _masks(model, batch["documents"])}
        if "text_lengths" in batch:
            hidden = {"text_lengths": tuple(batch["text_lengths"].tolist())}
        positions = batch["position_ids"] + first_position(model)
        output = model(input_ids=batch["input_ids"], position_ids=positions, **hidden)
        return token_loss(output.logits, batch["labels"])


def _masks(model: nn.Module, documents: torch.Tensor) -> Any:
    """The mask of all layers, or one for each kind: a mask of four dimensions is taken as it is, also by layers that
    look through a window (ModernBERT), so that theirs must have the window in it."""
    mask = _document_mask(documents)
    config: Any = getattr(model, "module", model).config
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" not in kinds:
        return mask
    places = torch.arange(documents.shape[1], device=documents.device)
    far = (places[:, None] - places[None, :]).abs() > config.sliding_window
    return {"full_attention": mask, "sliding_attention": mask.masked_fill(far, CLOSED)}


def _document_mask(documents: torch.Tensor) -> torch.Tensor:
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return torch.zeros(same.shape, device=same.device).masked_fill_(~same, CLOSED)


def _draw_words(starts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A number from [0, 1) for each token, the same within a word. `starts`: `(batch, length)` bool."""
    word = np.cumsum(starts.ravel()) - 1
    return generator.random(starts.size, dtype=np.float32)[word].reshape(starts.shape)


class _Vocabulary:
    """What masking must know of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "objective masked: the tokenizer has no mask token; use a masked model's tokenizer, or train one"
            )
        self.mask = tokenizer.mask_token_id
        ids = set(tokenizer.get_vocab().values())
        self.ordinary = np.zeros(max(ids) + 1, dtype=bool)  # some tokenizers leave gaps between their ids
        self.ordinary[sorted(ids - set(tokenizer.all_special_ids))] = True
        self.choices = np.flatnonzero(self.ordinary)
        self.words = Words(tokenizer)


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Any) -> _Vocabulary:
    return _Vocabulary(tokenizer)
