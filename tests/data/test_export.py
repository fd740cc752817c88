"""Rows as files for anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.documents import all_documents
from warmstart.data.export import export
from warmstart.data.sources.files import Files
from warmstart.errors import UserError
from warmstart.recipe_data import Data


def data_of(folder: Path, **settings: Any) -> Data:
    for name, first in (("a", 0), ("b", 30)):
        rows = [{"text": f"text {n % 45}", "url": f"u{n}"} for n in range(first, first + 30)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [{"type": "files", "path": str(folder / f"{n}.jsonl"), "columns": ["url"], "label": n} for n in "ab"]
    return Data.model_validate({"source": source, "split": {"validation": 0.3}, **settings})


def test_the_rows_can_be_read_again(tmp_path: Path) -> None:
    data = data_of(tmp_path, rewrite=[{"type": "template", "template": "{url}: {text}"}])
    facts = export(data, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "rows.json").read_text()) == facts
    read = Files(path=str(tmp_path / "out" / "*.jsonl.zst"), columns=["url", "side"])
    rows = [(row["text"], row["side"] == "validation") for row in read.rows()]
    assert rows == [(document.text, document.held_out) for document in all_documents(data)]
    assert list(facts["files"]) == ["00-a.jsonl.zst", "01-b.jsonl.zst"]
    assert sum(count for file in facts["files"].values() for count in file.values()) == len(rows) == 45
    assert [(step["step"]["type"], step["in"], step["out"]) for step in facts["steps"]] == [
        ("exact-duplicates", 60, 45),
        ("template", 45, 45),
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an empty folder"):
        export(data_of(tmp_path), tmp_path)
