"""Balancing as row steps: what is conserved, that batches and order do not matter, and the control's size."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.data.curate.balance_steps import BalanceSettings, EqualSizeSample, MetadataBalance
from warmstart.data.curate.metadata_balance import entropy, threshold_for_share
from warmstart.data.curated import Rows, curated
from warmstart.data.engine import Engine
from warmstart.data.steps import Columns, chosen, joined, size
from warmstart.errors import DataError
from warmstart.recipe_data import Data

NAMES = [f"e{number}" for number in range(20)]


def pool(count: int = 400, seed: int = 0) -> Columns:
    """Rows with none to three entries; the first entries are much more frequent than the last."""
    drawn = random.Random(seed)
    weights = [1 / (n + 1) ** 1.5 for n in range(len(NAMES))]
    entries = [sorted(set(drawn.choices(NAMES, weights, k=drawn.randrange(4)))) for _ in range(count)]
    return {
        "text": [f"text {n}" for n in range(count)],
        "source": ["a" if n % 3 else "b" for n in range(count)],
        "id": [str(n) for n in range(count)],
        "row": list(range(count)),
        "entries": entries,
    }


def stays(step: BalanceSettings, batches: list[Columns]) -> list[str]:
    """The ids of the rows that stay."""
    fitted = step.fit(step.measure(columns) for columns in batches)
    return [row for columns in batches for row in step.apply(columns, fitted).get("id", [])]


def split(columns: Columns, cuts: list[int]) -> list[Columns]:
    places = [0, *sorted(cut % (size(columns) + 1) for cut in cuts), size(columns)]
    parts = [chosen(columns, list(range(a, b))) for a, b in itertools.pairwise(places)]
    return [part for part in parts if size(part)]


STEPS: list[BalanceSettings] = [MetadataBalance(threshold=8), EqualSizeSample(threshold=8)]
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)


@each_step
@given(cuts=st.lists(st.integers(0, 10**6), max_size=8))
def test_the_same_rows_stay_whatever_the_batches_are(step: BalanceSettings, cuts: list[int]) -> None:
    rows = pool(120)
    assert stays(step, split(rows, cuts)) == stays(step, [rows])


@each_step
def test_the_same_rows_stay_in_any_order(step: BalanceSettings) -> None:
    rows = pool()
    order = random.Random(4).sample(range(400), 400)
    shuffled = chosen(rows, order) | {"row": list(range(400))}
    assert set(stays(step, [shuffled])) == set(stays(step, [rows]))


@each_step
def test_another_epoch_or_seed_draws_other_rows(step: BalanceSettings) -> None:
    draws = {tuple(stays(step.model_copy(update=new), [pool()])) for new in ({}, {"epoch": 1}, {"seed": 1})}
    assert len(draws) == 3


@each_step
def test_rows_that_stay_are_unchanged_and_in_order(step: BalanceSettings) -> None:
    rows = pool()
    kept = step.apply(rows, step.fit(iter([step.measure(rows)])))
    numbers = kept["row"]
    assert numbers == sorted(set(numbers))
    assert kept == chosen(rows, numbers)
    assert all(kept["entries"])  # a row without entries never stays


def test_rows_with_a_rare_entry_stay_and_heads_are_cut() -> None:
    rows = pool()
    counts = Counter(entry for entries in rows["entries"] for entry in entries)
    rare = {entry for entry, count in counts.items() if count <= 8}
    assert rare
    assert len(rare) < len(counts)
    kept = set(stays(MetadataBalance(threshold=8), [rows]))
    for row, entries in zip(rows["id"], rows["entries"], strict=True):
        if rare & set(entries):
            assert row in kept
    after = Counter(e for row, es in zip(rows["id"], rows["entries"], strict=True) if row in kept for e in es)
    assert max(after.values()) < max(counts.values())
    assert entropy(np.array(list(after.values()))) > entropy(np.array(list(counts.values())))


@pytest.mark.parametrize("settings", [{"threshold": 10**6}, {"threshold": math.inf}, {"tail_share": 1.0}])
def test_a_high_threshold_keeps_all_rows_with_entries(settings: dict[str, Any]) -> None:
    rows = pool()
    matched = [row for row, entries in zip(rows["id"], rows["entries"], strict=True) if entries]
    assert stays(MetadataBalance(**settings), [rows]) == matched
    assert stays(EqualSizeSample(**settings), [rows]) == matched


@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 30))
def test_the_control_has_exactly_as_many_rows(threshold: int, seed: int, pool_seed: int) -> None:
    rows = pool(100, pool_seed)
    settings: dict[str, Any] = {"threshold": threshold, "seed": seed}
    assert len(stays(EqualSizeSample(**settings), [rows])) == len(stays(MetadataBalance(**settings), [rows]))


def test_the_control_prefers_no_row() -> None:
    """Over many seeds each row with entries is drawn equally often, within 4.5 standard errors."""
    rows = pool(60)
    matched = [row for row, entries in zip(rows["id"], rows["entries"], strict=True) if entries]
    drawn: Counter[str] = Counter()
    for seed in range(400):
        drawn.update(stays(EqualSizeSample(threshold=4, seed=seed), [rows]))
    share = drawn.total() / 400 / len(matched)
    assert 0.2 < share < 0.9
    error = 4.5 * math.sqrt(share * (1 - share) / 400)
    assert all(abs(drawn[row] / 400 - share) < error for row in matched)
    assert set(drawn) == set(matched)


def test_the_threshold_follows_from_the_tail_share() -> None:
    rows = pool()
    counts = Counter(entry for entries in rows["entries"] for entry in entries)
    threshold = threshold_for_share(np.array(list(counts.values())), 0.2)
    assert stays(MetadataBalance(tail_share=0.2), [rows]) == stays(MetadataBalance(threshold=threshold), [rows])
    assert len(stays(MetadataBalance(), [rows])) < len(stays(MetadataBalance(tail_share=0.5), [rows]))


def test_balances_over_labels_too() -> None:
    rows = {**pool(300), "label": ["common"] * 290 + ["rare"] * 8 + [None] * 2}
    kept = stays(MetadataBalance(column="label", threshold=20), [rows])
    assert [str(n) for n in range(290, 298)] == [row for row in kept if int(row) >= 290]
    assert 5 <= sum(int(row) < 290 for row in kept) <= 40


def test_what_cannot_be_balanced() -> None:
    rows = pool(5)
    del rows["entries"]
    with pytest.raises(DataError, match="there is no column 'entries'"):
        MetadataBalance().measure(rows)
    empty = MetadataBalance().measure({**rows, "entries": [[]] * 5})
    with pytest.raises(DataError, match="nothing to balance"):
        MetadataBalance().fit(iter([empty]))
    with pytest.raises(ValidationError, match="not both"):
        MetadataBalance(threshold=3, tail_share=0.1)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        MetadataBalance(threshold=0.5)


def corpus(folder: Path) -> Data:
    texts = [f"{' '.join(entries)} row {number}" for number, entries in enumerate(pool(200)["entries"])]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Data.model_validate(
        {
            "source": {"type": "files", "path": str(path), "label": "rows"},
            "curate": [
                "exact-duplicates",
                {"type": "metadata-filter", "metadata": NAMES[:5], "unigrams": 20, "bigrams": 5, "min_count": 2},
                {"type": "metadata-balance", "threshold": 8},
            ],
        }
    )


def read(rows: Rows) -> Columns:
    return joined([columns for number in range(len(rows.files)) for columns in rows.batches(number)])


ENGINES = [
    Engine(batch=7),
    pytest.param(Engine(workers=2, batch=30), marks=pytest.mark.slow),
    pytest.param(Engine("ray", batch=30), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("engine", ENGINES, ids=["small-batches", "processes", "ray"])
def test_the_whole_curation_is_the_same_by_every_engine(tmp_path: Path, engine: Engine) -> None:
    data = corpus(tmp_path)
    here = curated(data, cache_dir=tmp_path / "here")
    there = curated(data, cache_dir=tmp_path / "there", engine=engine)
    assert read(there) == read(here)
    assert there.counts == here.counts
    counts = here.counts
    assert counts["rows_read"] == 200 == counts["in_exact_duplicates"]
    assert counts["out_metadata_filter"] == counts["in_metadata_balance"]
    assert counts["out_metadata_balance"] == size(read(here)) < counts["in_metadata_balance"]
