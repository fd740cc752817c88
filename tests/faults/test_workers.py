"""A data worker throws, or is killed: one line, nothing half-made, and the same rows afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Literal

import pytest
from corpora import tiny_recipe, write_corpus
from faults.runs import result

from warmstart.data.curate import Curation
from warmstart.data.engine import Engine
from warmstart.data.steps import Columns
from warmstart.errors import DataError, UserError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter


class Fragile(Curation):
    """Keeps all rows, unless a file tells it to fail."""

    type: Literal["fragile"] = "fragile"
    trouble: str

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        trouble = Path(self.trouble)
        if trouble.exists() and any("Story 33." in text for text in columns["text"]):
            if trouble.read_text() == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("this row is too much")
        return columns


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "workers"), [("throw", 1), ("throw", 2), ("kill", 2)])
def test_a_worker_in_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, trouble: str) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    raw = tiny_recipe(write_corpus(tmp_path / "corpus.jsonl"), steps=4)
    flag = tmp_path / "trouble"
    raw["stages"][0]["data"]["curate"] = [{"type": "fragile", "trouble": str(flag)}]
    recipe, engine = Recipe.model_validate(raw), Engine(workers=workers)
    flag.write_text(trouble)
    kind, said = {
        "throw": (DataError, r"row .*corpus\.jsonl:34: step 'fragile': ValueError: this row is too much"),
        "kill": (UserError, r"a process of the row steps was killed .* start the same line again"),
    }[trouble]
    with pytest.raises(kind, match=said) as caught:
        run(recipe, tmp_path / "run", reporter=Reporter(), engine=engine)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.parquet")), "rows that are half made"
    flag.unlink()
    run(recipe, tmp_path / "run", reporter=Reporter(), engine=engine)
    run(recipe, tmp_path / "whole", reporter=Reporter())
    assert result(tmp_path / "run") == result(tmp_path / "whole")
