"""Keep texts of a certain length, in characters or words (runs of anything but white space)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.steps import Columns, Counted, column, kept


class Length(Curation):
    """Drops texts that are too short or too long; counts `too_short` and `too_long`."""

    type: Literal["length"] = "length"
    min_characters: int = Field(0, ge=0)
    max_characters: int | None = Field(None, ge=1)
    min_words: int = Field(0, ge=0, description="Words are runs of anything but white space.")
    max_words: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _room(self) -> Self:
        for unit in ("characters", "words"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is more than max_{unit} {high}: nothing would be kept")
        return self

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        keep = []
        short = long = 0
        for text in column(columns, "text"):
            words = len(text.split()) if self.min_words or self.max_words else 0
            if len(text) < self.min_characters or words < self.min_words:
                short += 1
            elif len(text) > (self.max_characters or len(text)) or words > (self.max_words or words):
                long += 1
            else:
                keep.append(True)
                continue
            keep.append(False)
        return Counted(kept(columns, keep), {"too_short": short, "too_long": long})
