"""What the rows of a stage hold, against a count by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.curated import curated
from warmstart.errors import DataError, RecipeError
from warmstart.evaluate.entry_histogram import EntryHistogram
from warmstart.evaluate.held_out import HeldOut
from warmstart.recipe_data import Data

TEXTS = ["cat one", "cat two", "cat three", "cat four", "cat dog", "dog", "cow", "nothing", "nothing", "Cat"]
ENTRIES = ["cat", "dog", "cow", "emu"]


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows' ids have the path as the recipe gives it, and draws depend on ids: a relative path gives the same draws."""
    monkeypatch.chdir(tmp_path)


def data_of(folder: Path, *steps: Any) -> Data:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    curate = ["exact-duplicates", {"type": "metadata-filter", "metadata": ENTRIES}, *steps]
    return Data.model_validate({"source": {"type": "files", "path": "rows.jsonl"}, "curate": curate})


def test_the_pool_by_hand(tmp_path: Path) -> None:
    found = EntryHistogram(tail_share=0.35).evaluate_rows(data_of(tmp_path), cache_dir=tmp_path / "cache")
    assert found["rows/read"] == 9  # one duplicate
    assert found["rows/match_rate"] == pytest.approx(7 / 9)
    assert found["rows/kept"] == 7
    assert found["rows/kept_share"] == 1
    assert found["rows/matches_per_row"] == pytest.approx(8 / 7)  # cat 5, dog 2, cow 1
    assert found["rows/threshold"] == 2
    counts = {"entries": 4, "entries_zero": 1, "entries_head": 1, "entries_tail": 2, "entries_lost": 0}
    assert {name: found[f"rows/{name}"] for name in counts} == counts
    assert found["rows/head_share"] == pytest.approx(5 / 8)
    assert found["rows/tail_kept"] == 1
    assert found["rows/max_over_median"] == 2.5


def test_after_balancing(tmp_path: Path) -> None:
    data = data_of(tmp_path, {"type": "metadata-balance", "threshold": 2, "seed": 1})
    found = EntryHistogram(tail_share=0.35).evaluate_rows(data, cache_dir=tmp_path / "cache")
    rows = curated(data, cache_dir=tmp_path / "cache")
    kept = [entries for columns in rows.batches(0) for entries in columns["entries"]]
    after = Counter(entry for entries in kept for entry in entries)
    assert found["rows/kept"] == len(kept) < 7
    assert found["rows/tail_kept"] == 1  # balancing never loses the tail
    assert found["rows/head_share"] == pytest.approx(after["cat"] / after.total())
    assert found["rows/read"] == 9
    assert found["rows/threshold"] == 2  # that of the pool


def test_what_does_not_go(tmp_path: Path) -> None:
    plain = data_of(tmp_path).model_copy(update={"curate": []})
    with pytest.raises(DataError, match="needs the step 'metadata-filter'"):
        EntryHistogram().evaluate_rows(plain, cache_dir=tmp_path / "cache")
    with pytest.raises(RecipeError, match="'held-out' needs a model"):
        HeldOut().evaluate_rows(plain)
    subject: Any = None
    with pytest.raises(RecipeError, match=r"needs a study with compare\.at: no-training"):
        EntryHistogram().evaluate(subject)
