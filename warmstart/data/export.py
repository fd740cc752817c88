"""A stage's rows after curation and rewriting, as files for anything else: `NN-source.jsonl.zst` and `rows.json`.

Every row has its columns, and `side`: `train` or `validation`. `rows.json` tells what was done: the steps with their
settings, how many rows came into each, left it and were skipped, and the digest by which the same rows are found again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warmstart.data.curated import Rows, rewriting_key, rewritten
from warmstart.data.engine import Engine
from warmstart.data.steps import Columns, size, step_names
from warmstart.disk import write_whole
from warmstart.errors import UserError

if TYPE_CHECKING:
    from warmstart.recipe_data import Data


def export(
    data: Data, folder: Path | str, *, engine: Engine | None = None, notify: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Writes the rows and returns what `rows.json` says.

    Raises:
        DataError: as the sources and steps.
        UserError: the folder holds something already, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: nothing is overwritten; choose another --out")
    rows = rewritten(data, engine=engine, notify=notify)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, name in enumerate(rows.names):
        file = folder / f"{number:02d}-{_safe(name)}.jsonl.zst"
        files[file.name] = _write(rows, number, file, data.split.validation)
    facts = {"digest": rewriting_key(data), "files": files, "rows": rows.counts, "steps": _steps(data, rows)}
    write_whole(folder / "rows.json", json.dumps(facts, indent=1) + "\n")
    return facts


def summary(facts: dict[str, Any], folder: Path) -> list[str]:
    """What was done, a line for each step and each file."""
    lines = [f"{facts['rows']['rows_read']:,} rows read, {facts['rows']['rows_skipped']:,} skipped"]
    for step in facts["steps"]:
        skipped = f", {step['skipped']:,} skipped" if step["skipped"] else ""
        lines.append(f"{step['step']['type']}: {step['in']:,} in, {step['out']:,} out{skipped}")
    for name, sides in facts["files"].items():
        lines.append(f"{folder / name}: {sides['train']:,} to train on, {sides['validation']:,} held out")
    return lines


def _write(rows: Rows, number: int, file: Path, validation: float) -> dict[str, int]:
    counts: Counter[str] = Counter(train=0, validation=0)
    with pa.CompressedOutputStream(pa.OSFile(str(file), "wb"), "zstd") as out:
        for columns in rows.batches(number):
            for row in _rows(columns, validation):
                counts[row["side"]] += 1
                out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    return dict(counts)


def _rows(columns: Columns, validation: float) -> list[dict[str, Any]]:
    names = [name for name in columns if name not in ("mark", "row")]
    found = []
    for number in range(size(columns)):
        row = {name: columns[name][number] for name in names if columns[name][number] is not None}
        row["side"] = "validation" if columns["mark"][number] / 2**64 < validation else "train"
        found.append(row)
    return found


def _steps(data: Data, rows: Rows) -> list[dict[str, Any]]:
    """Every step with its settings and counts, in their order."""
    return [
        {
            "step": part.model_dump(mode="json"),
            **{kind: rows.counts[f"{kind}_{name}"] for kind in ("in", "out")},
            "skipped": rows.counts.get(f"skipped_{name}", 0),
        }
        for group in (data.curate, data.rewrite)
        for name, part in zip(step_names(list(group)), group, strict=True)
    ]


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:60]
