"""Embeddings of many pictures or texts for evaluators, batch by batch, with a model as it is used and not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from warmstart.data.batch.pictures import pixel_batch
from warmstart.errors import DataError
from warmstart.evaluate import Subject
from warmstart.models.evaluating import evaluating
from warmstart.models.two_towers import (
    check_two_towers,
    embed_images,
    embed_texts,
    image_size,
    text_length,
    unit,
    unwrapped,
)
from warmstart.objectives import Row
from warmstart.objectives.pairs import caption_batch

BATCH = 64


class Embedder:
    """Asks a model for embeddings.

    Args:
        model: one with an image and a text tower.
        size, length: side of the pictures and tokens of a text; default: the model's.

    Raises:
        ModelError: the model has no two towers.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        size: int | None = None,
        length: int | None = None,
        precision: str = "fp32",
    ) -> None:
        check_two_towers(model, "embedding pictures and texts")
        self.model, self.tokenizer, self.precision = model, tokenizer, precision
        self.size, self.length = size or image_size(model), length or text_length(model)

    @classmethod
    def of(cls, subject: Subject) -> Embedder:
        """For what an evaluator is given, with the sizes that it was trained with."""
        size, length = (getattr(subject.objective, name, None) for name in ("image_size", "length"))
        return cls(subject.model, subject.tokenizer, size=size, length=length, precision=subject.precision)

    def pictures(self, references: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1 in the common space, float32 `(pictures, width)`; nothing is changed at random."""
        return self._batches(references, lambda some: unit(embed_images(self.model, self._pixels(some))))

    def picture_features(self, references: Sequence[str]) -> np.ndarray:
        """What the image tower says before the projection into the common space: `(pictures, hidden size)`."""
        tower = unwrapped(self.model).vision_model
        return self._batches(references, lambda some: tower(pixel_values=self._pixels(some)).pooler_output)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1 in the common space, float32 `(texts, width)`."""

        def embedded(some: Sequence[str]) -> torch.Tensor:
            batch = caption_batch(some, self.tokenizer, self.length)
            ids, mask = (batch[name].to(self._device) for name in ("input_ids", "attention_mask"))
            return unit(embed_texts(self.model, ids, mask))

        return self._batches(texts, embedded)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _pixels(self, references: Sequence[str]) -> torch.Tensor:
        return pixel_batch(references, self.size).to(self._device)

    def _batches(self, items: Sequence[str], make: Callable[[Sequence[str]], torch.Tensor]) -> np.ndarray:
        found = []
        with evaluating(self.model), torch.autocast(self._device.type, torch.bfloat16, self.precision == "bf16"):
            for start in range(0, len(items), BATCH):
                found.append(make(items[start : start + BATCH]).float().cpu().numpy())
        return np.concatenate(found)


def held_out_pairs(subject: Subject, rows: int, who: str) -> list[Row]:
    """At most so many held-out rows at even distances, all sources together.

    Raises:
        DataError: there is none; or a row has no picture.
    """
    every = list(_held_out(subject))
    if not every:
        raise DataError(f"evaluator {who}: there is no held-out row; raise data.split.validation")
    count = min(rows, len(every))
    chosen = [every[number * len(every) // count] for number in range(count)]
    for row in chosen:
        if not row.get("image"):
            raise DataError(f"evaluator {who}: row '{row.get('id')}' has no picture (column 'image')")
    return chosen


def _held_out(subject: Subject) -> Iterator[Row]:
    for source in subject.data.validation:
        yield from (source[number] for number in range(len(source)))
