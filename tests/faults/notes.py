"""What a run tells, kept in a list."""

from __future__ import annotations

from typing import Any

from warmstart.train.progress import Reporter


class Notes(Reporter):
    """Keeps the text of every note."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def event(self, kind: str, **values: Any) -> None:
        if kind == "note":
            self.told.append(values["text"])
