"""What every mapping in a recipe is: strict, never changed after its check, with names that folders can have."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
)

Positive = Annotated[int, Field(gt=0)]


LONGEST_NAME = 64
DEVICES = re.compile(r"(?i)con|prn|aux|nul|com[0-9]|lpt[0-9]")


def folder_name(name: str) -> str:
    """The name itself, where a folder can be called so on every system and lies where it is made.

    Raises:
        ValueError: anything but letters, digits, - and _; too long; what Windows calls a device.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"the name '{name[:LONGEST_NAME]}' must consist of letters, digits, - and _")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name '{name[:20]}...' has {len(name)} characters; at most {LONGEST_NAME}")
    if DEVICES.fullmatch(name):
        raise ValueError(f"'{name}' is what Windows calls a device, so no folder can be called so; choose another name")
    return name


FolderName = Annotated[str, AfterValidator(folder_name)]


class Misfit(ValueError):
    """Values that are fine one by one but do not go together; each problem with its place in the form."""

    def __init__(self, problems: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(
            "; ".join(": ".join(filter(None, [".".join(map(str, steps)), text])) for steps, text in problems)
        )
        self.problems = problems


class Form(BaseModel):
    """A mapping in a recipe: unknown fields are errors, values never change after the check."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, validate_default=True, allow_inf_nan=False
    )
