"""What the objectives of image-text models share: rows to batches of pairs, and a learned scale in its bounds.

A row is a caption (`text`) and a picture (`image`); rows stay rows (`data.packing: rows`). Captions are tokenised when
they are used, cut or padded to one length, so that every step has the same shape. The pairs of a step are each other's
wrong answers (`in_batch.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.data.batch.encode import Encoder
from warmstart.data.batch.pictures import Augment, pixel_batch
from warmstart.errors import DataError, ModelError
from warmstart.models.two_towers import check_two_towers, image_size, text_length
from warmstart.objectives import NUMBER, Batch, Head, Objective, Row

LARGEST_LOG_SCALE = math.log(100)


def caption_batch(texts: Sequence[str], tokenizer: Any, length: int) -> Batch:
    """Captions as tokens: `input_ids` int64 and `attention_mask` bool, `(batch, length)`.

    A caption that is too long is cut, its end mark kept.
    """
    encoder = encoder_of(tokenizer)
    ids = np.full((len(texts), length), encoder.padding, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    for row, found in enumerate(encoder(list(texts))):
        tokens = found.ids if len(found) <= length else np.append(found.ids[: length - 1], found.ids[-1])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@lru_cache(maxsize=8)
def encoder_of(tokenizer: Any) -> Encoder:
    """A private copy of the tokenizer's machinery, made once."""
    return Encoder(tokenizer)


@torch.no_grad()
def keep_in_bounds(log_scale: torch.Tensor) -> torch.Tensor:
    """Clamps a learned scale's logarithm to [0, ln 100], in place, as CLIP does between its steps."""
    return log_scale.clamp_(0, LARGEST_LOG_SCALE)


class ImageText(Objective):
    """What objectives on pairs of a picture and a caption are set by."""

    head: ClassVar[Head] = "image-text"
    packings: ClassVar[tuple[str, ...]] = ("rows",)
    compares_rows: ClassVar[bool] = True
    may_skip_weights: ClassVar[bool] = True
    augment: Augment = Field(
        "crop",
        description="Random changes of the pictures: none, crop (9/10 and more of the area), or strong: half of it and "
        "more, mirror images, other colours, grey, blurred.",
    )
    image_size: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Side of the pictures in pixels; default: what the image tower takes."
    )
    length: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Tokens of a caption, with its end mark; default: as many as the text tower takes."
    )

    def for_model(self, model: nn.Module) -> Self:
        """The objective with the model's size of pictures and length of texts.

        Raises:
            ModelError: the model has no two towers; its text tower takes fewer tokens.
        """
        check_two_towers(model, f"objective {self.name}")
        if self.length is not None and self.length > text_length(model):
            raise ModelError(
                f"objective {self.name}: length {self.length} is more than the text tower's {text_length(model)} tokens"
            )
        changes = {"image_size": self.image_size or image_size(model), "length": self.length or text_length(model)}
        return self.model_copy(update=changes)

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> nn.Module | None:
        """No modules of its own; looks at the model and the first row.

        Raises:
            ModelError: the model has no two towers.
            DataError: the rows are no pairs.
        """
        check_two_towers(model, f"objective {self.name}")
        if len(rows):
            self._check_pairs([rows[0]])
        return None

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids` int64 and `attention_mask` bool, `(batch, length)`; `pixel_values` float32 `(batch, 3, size,
        size)`; and `numbers`, int64 `(batch,)`, where rows have one.

        Raises:
            DataError: a row has no caption or no picture, or one that cannot be opened.
        """
        if self.image_size is None or self.length is None:
            raise ModelError(f"objective {self.name}: its sizes are the model's: use objective.for_model(model)")
        self._check_pairs(rows)
        batch = caption_batch([row["text"] for row in rows], tokenizer, self.length)
        batch["pixel_values"] = pixel_batch([row["image"] for row in rows], self.image_size, self.augment, generator)
        if all(NUMBER in row for row in rows):
            batch["numbers"] = torch.tensor([row[NUMBER] for row in rows], dtype=torch.int64)
        return batch

    def _check_pairs(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if "tokens" in row:
                raise DataError(f"objective {self.name}: it reads pairs of a picture and a caption: data.packing: rows")
            for column, what in (("text", "caption"), ("image", "picture")):
                if not row.get(column):
                    raise DataError(
                        f"objective {self.name}: row '{row.get('id')}' of source '{row.get('source')}' has no {what} "
                        f"(column '{column}')"
                    )
