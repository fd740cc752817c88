"""Connectionist temporal classification: a speech encoder learns to spell what is said, with transcripts and without
knowing when anything is said.

Every step says a character or nothing (the blank, the tokenizer's padding token); the loss is that of all ways to say
the transcript. Hidden spans of steps are SpecAugment's masks in time. A transcript that is longer than its utterance
has steps cannot be said at all: it counts for nothing (`skipped` in the log), as do empty ones.

Source: A. Graves et al., "Connectionist Temporal Classification", 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.objectives import Batch, Head, Loss, Row
from warmstart.objectives.blocks import NO_TARGET
from warmstart.objectives.spans import FEWEST, draw_spans
from warmstart.objectives.speech import (
    SpeechObjective,
    answered_steps,
    hiding,
    padded_length,
    row_features,
    speech_batch,
)


class Ctc(SpeechObjective):
    """The loss of all ways to spell the transcript, in nats per character.

    Example:
        In one's own loop, with a `Wav2Vec2BertForCTC`, a tokenizer of characters and rows with `text` and `audio`::

            objective = Ctc()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            draws = np.random.default_rng(0)
            for step in range(2):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["ctc"] = "ctc"
    head: ClassVar[Head] = "ctc"
    may_skip_weights: ClassVar[bool] = True  # nothing is hidden here: the vector of hidden places has no gradient
    chance: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="That a step is the start of a hidden span in training; 0 hides nothing."
    )
    span: Annotated[int, Field(ge=1)] = Field(10, description="Hidden steps of a span.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> None:
        """Makes sure that the model is a speech encoder of these steps with a head of characters.

        Raises:
            ModelError: it is not, or the tokenizer has no padding token for the blank.
        """
        encoder = self.check_encoder(model)
        if self.chance > 0 and not hasattr(encoder, "masked_spec_embed"):
            raise ModelError("objective ctc: the encoder has no vector for hidden steps (mask_time_prob 0); chance: 0")
        if tokenizer is not None:
            blank_of(tokenizer, model)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_features`, float32 `(batch, steps, 80 * stack)`; `attention_mask`, bool `(batch, steps)`; `labels`,
        int64 `(batch, characters)`, -100 beyond the transcript; and, where spans are hidden, `hidden`, bool `(batch,
        steps)`.

        Raises:
            DataError: a row without a sound.
            ModelError: the tokenizer has no padding token for the blank.
        """
        blank_of(tokenizer)
        found = [row_features(row, self.stack) for row in rows]
        said = [tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in rows]
        steps = np.array([len(features) for features in found])
        said = [ids if needed_steps(ids) <= n else [] for ids, n in zip(said, steps, strict=True)]
        width = padded_length(max(1, int(steps.max())), self.lengths)
        labels = np.full((len(rows), padded_length(max(1, *map(len, said)), self.lengths)), NO_TARGET, dtype=np.int64)
        for row, ids in enumerate(said):
            labels[row, : len(ids)] = ids
        batch = speech_batch(found, width) | {"labels": torch.from_numpy(labels)}
        if self.chance > 0:
            hidden = np.zeros((len(rows), width), dtype=bool)
            fit = steps >= max(self.span, FEWEST)
            hidden[fit] = draw_spans(steps[fit], width, self.chance, self.span, generator)
            batch["hidden"] = torch.from_numpy(hidden)
        return batch

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean over all characters of the batch, nats."""
        encoder = self.check_encoder(model)
        hidden = batch.get("hidden") if model.training else None
        with hiding(encoder, hidden, lambda: encoder.masked_spec_embed):
            output = model(input_features=batch["input_features"], attention_mask=batch["attention_mask"])
        steps, blank = answered_steps(encoder, batch["attention_mask"]), encoder.config.pad_token_id
        assert blank is not None
        return ctc_loss(output.logits, steps, batch["labels"], blank)


def ctc_loss(logits: torch.Tensor, steps: torch.Tensor, labels: torch.Tensor, blank: int) -> Loss:
    """Connectionist temporal classification, in float32; nats per character.

    Args:
        logits: `(batch, steps, characters)`.
        steps: of each utterance, `(batch,)`.
        labels: int64 `(batch, most)`; -100 beyond the transcript, which must fit into the steps.
        blank: the number of the blank.
    """
    chances = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    in_row = (labels != NO_TARGET).sum(dim=1)
    said = labels.clamp(min=0)
    nats = functional.ctc_loss(chances, said, steps, in_row, blank=blank, reduction="none", zero_infinity=True)
    nats = torch.where(in_row > 0, nats, 0.0)
    targets = in_row.sum()
    return Loss(
        total=nats.sum() / targets.clamp(min=1),
        targets=targets,
        parts={"skipped": (in_row == 0).float().mean()},
        per_row=(nats / in_row.clamp(min=1)).detach(),
    )


def needed_steps(ids: Sequence[int]) -> int:
    """Steps that a transcript needs: one for each character, and a blank between two of a kind."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def blank_of(tokenizer: Any, model: nn.Module | None = None) -> int:
    """The blank: a tokenizer's padding token.

    Raises:
        ModelError: it has none, or the model has another one.
    """
    blank = getattr(tokenizer, "pad_token_id", None)
    if blank is None:
        raise ModelError("objective ctc: the tokenizer has no padding token for the blank; train one of characters")
    known = blank if model is None else getattr(getattr(model, "config", None), "pad_token_id", blank)
    if known != blank:
        raise ModelError(f"objective ctc: the tokenizer's padding token is {blank}, but the model's blank is {known}")
    return int(blank)
