"""What the objectives of speech share: rows with sounds as a batch, and a speech encoder that hides what it is told to.

The encoder is the `wav2vec2-bert` of `transformers`, a conformer over stacked log-mel features. It was chosen over
`wav2vec2-conformer` because that reads samples through seven convolutions, which for a small model cost more than the
conformer itself, and because published weights (`facebook/w2v-bert-2.0`) are of this class.

Utterances differ in length. A batch is padded to one of a few lengths, so that its shapes, and with them what a step
costs, are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transformers import Wav2Vec2BertModel

from warmstart.data.log_mel import BANDS, speech_features
from warmstart.data.media import open_audio
from warmstart.errors import DataError, ModelError
from warmstart.objectives import Batch, Objective, Row

Lengths = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]


class SpeechObjective(Objective):
    """The settings that all objectives of speech have."""

    packings: ClassVar[tuple[str, ...]] = ("rows",)
    stack: Annotated[int, Field(ge=1, le=16)] = Field(
        4, description="Frames of 10 ms in a step of the encoder, whose feature_projection_input_dim is 80 times that."
    )
    lengths: Lengths = Field((64, 128, 256, 512), description="Steps that batches are padded to: the first that fits.")

    def check_encoder(self, model: nn.Module) -> Wav2Vec2BertModel:
        """The speech encoder inside of a model.

        Raises:
            ModelError: there is none, or its steps have another number of frames.
        """
        encoder = speech_encoder(model, f"objective {self.name}")
        found = frames_of(encoder)
        if found != self.stack:
            raise ModelError(
                f"objective {self.name}: stack {self.stack} gives the encoder {BANDS * self.stack} numbers for each "
                f"step, but its feature_projection_input_dim is {encoder.config.feature_projection_input_dim}"
            )
        return encoder


def speech_encoder(model: nn.Module, where: str = "speech") -> Wav2Vec2BertModel:
    """The speech encoder inside of a model, also of one that is wrapped.

    Raises:
        ModelError: there is none.
    """
    for module in model.modules():
        if isinstance(module, Wav2Vec2BertModel):
            return module
    raise ModelError(f"{where}: needs a wav2vec2-bert model of transformers, found a {type(model).__name__}")


def frames_of(encoder: Wav2Vec2BertModel) -> float:
    """How many frames of 80 bands a step of an encoder has."""
    return encoder.config.feature_projection_input_dim / BANDS


def answered_steps(encoder: Wav2Vec2BertModel, attention_mask: torch.Tensor) -> torch.Tensor:
    """How many steps of each utterance come out of an encoder, `(batch,)`: an adapter makes them fewer."""
    lengths: Any = attention_mask.sum(dim=1)
    answered: torch.Tensor = encoder._get_feat_extract_output_lengths(lengths)
    return answered


def row_features(row: Row, stack: int) -> np.ndarray:
    """What an encoder reads of a row's sound: float32 `(steps, 80 * stack)`.

    Raises:
        DataError: the row has no sound, or it cannot be opened.
    """
    if not isinstance(row.get("audio"), str):
        raise DataError(f"row {row.get('id', '?')} has no sound: a column 'audio' must say where it is")
    return speech_features(open_audio(row["audio"]), stack)


def padded_length(longest: int, lengths: Sequence[int]) -> int:
    """The first of some lengths that holds so many steps; beyond them all the longest, doubled until it does."""
    fitting = [length for length in lengths if length >= longest]
    if fitting:
        return min(fitting)
    length = max(lengths)
    while length < longest:
        length *= 2
    return length


def speech_batch(found: Sequence[np.ndarray], width: int) -> Batch:
    """Features of utterances, `(steps, size)` each, as `input_features`, float32 `(batch, width, size)`, and
    `attention_mask`, bool `(batch, width)`."""
    features = np.zeros((len(found), width, found[0].shape[1]), dtype=np.float32)
    for row, steps in enumerate(found):
        features[row, : len(steps)] = steps
    inside = np.arange(width) < np.array([len(steps) for steps in found])[:, None]
    return {"input_features": torch.from_numpy(features), "attention_mask": torch.from_numpy(inside)}


@dataclass
class Kept:
    """What was seen on the way through an encoder: its features before anything was hidden, `(batch, steps, width)`;
    `normed` are those that come in, `projected` those that its layers read."""

    normed: torch.Tensor | None = None
    projected: torch.Tensor | None = None


@contextmanager
def hiding(
    encoder: Wav2Vec2BertModel, hidden: torch.Tensor | None, fill: Callable[[], torch.Tensor] | None
) -> Iterator[Kept]:
    """While it lasts, the encoder reads what `fill` gives in the place of hidden steps.

    The encoder's own SpecAugment, which draws from a generator that no run can restore, and its layer drop, which
    changes what a step costs, are off.

    Args:
        hidden: bool `(batch, steps)`; None hides nothing.
        fill: asked while the encoder runs, when its weights are whole: a vector `(width,)`, or one for each step,
            `(batch, steps, width)`.
    """
    kept, config = Kept(), encoder.config
    before = config.apply_spec_augment, config.layerdrop

    def hide(module: nn.Module, given: Any, output: tuple[torch.Tensor, torch.Tensor]) -> Any:
        kept.projected, kept.normed = output
        if hidden is None or fill is None:
            return output
        return torch.where(hidden[:, :, None], fill().to(kept.projected.dtype), kept.projected), kept.normed

    hook = encoder.feature_projection.register_forward_hook(hide)
    config.apply_spec_augment, config.layerdrop = False, 0.0
    try:
        yield kept
    finally:
        hook.remove()
        config.apply_spec_augment, config.layerdrop = before
