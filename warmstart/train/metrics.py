"""metrics.jsonl (the record that reports and studies read) and experiment trackers (what people watch).

Trackers are those of `accelerate` (tensorboard, wandb, mlflow, trackio, ...), chosen by name in `train.trackers`.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from warmstart.errors import UserError, nearest


class MetricsLog:
    """Appends one JSON line per event to `folder/metrics.jsonl`; a resumed run drops the lines after its step."""

    def __init__(self, folder: Path, trackers: list[str], title: str) -> None:
        self.path = folder / "metrics.jsonl"
        self.trackers = [_tracker(name, title, folder) for name in trackers]

    def rewind(self, step: int | None) -> None:
        """Keeps the lines up to `step` (`None`: none); a torn last line of a killed process goes too."""
        kept = [line for line in read_metrics(self.path) if step is not None and line.get("step", 0) <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path)

    def write(self, values: dict[str, Any]) -> None:
        """One line; `values` holds `step` and plain numbers. A number that JSON has no word for becomes null."""
        clean = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
        numbers = {k: v for k, v in clean.items() if k != "step" and v is not None}
        for tracker in self.trackers:
            tracker.log(numbers, step=values["step"])

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a torn last line (the process was killed while writing) is left out, as is whatever
    else is no mapping."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            lines.append(found)
    return lines


def finite(value: Any) -> float | None:
    """A number that can be drawn and calculated with; None of anything else that a file may hold in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _tracker(name: str, title: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    logging.getLogger("accelerate.tracking").setLevel(logging.ERROR)
    if name not in LOGGER_TYPE_TO_CLASS:
        raise UserError(
            f"train.trackers: unknown tracker '{name}'{nearest(name, LOGGER_TYPE_TO_CLASS)}; "
            f"known: {', '.join(LOGGER_TYPE_TO_CLASS)}"
        )
    kind = LOGGER_TYPE_TO_CLASS[name]
    try:
        tracker = kind(title, str(folder)) if kind.requires_logging_directory else kind(title)
        if hasattr(tracker, "start"):
            tracker.start()
    except ImportError as error:
        raise UserError(f"train.trackers: '{name}' is not installed: pip install {name}") from error
    return tracker
