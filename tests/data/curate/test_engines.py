"""A chain of curation steps gives the same bytes and counts in one process, in several, and on Ray."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.curated import curated
from warmstart.data.engine import Engine
from warmstart.recipe_data import Data

pytest.importorskip("rensa")
STEPS: list[Any] = [
    {"type": "length", "min_words": 3},
    "near-duplicates",
    {"type": "quality-classifier", "where": {"kind": "good"}, "features": 4096},
    {"type": "select", "budget": {"share": 0.8}},
    {"type": "ngram-perplexity", "where": {"kind": "good"}, "order": 3},
    {"type": "cluster", "clusters": 3, "features": 512},
    {"type": "select", "order": "lowest", "budget": {"documents": 20}, "per": "cluster", "division": "equal"},
]


def data_of(folder: Path) -> Data:
    generator = random.Random(0)
    words = ["the", "sea", "night", "ship", "sails", "of", "a", "town", "sleeps", "and", "nobody", "looks"]
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 30))) for _ in range(60)]
    texts += [text + " again" for text in texts if len(text.split()) > 25]
    rows = [{"text": text, "kind": generator.choice(["good", "other"])} for text in texts]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "files", "path": str(path), "columns": ["kind"], "label": "rows"}
    return Data.model_validate({"source": source, "curate": STEPS})


def outcome(data: Data, folder: Path, engine: Engine) -> tuple[str, dict[str, int]]:
    rows = curated(data, cache_dir=folder, engine=engine)
    return hashlib.sha256(rows.files[0].read_bytes()).hexdigest(), rows.counts


def test_batches_change_neither_bytes_nor_counts(tmp_path: Path) -> None:
    data = data_of(tmp_path)
    digest, counts = outcome(data, tmp_path / "whole", Engine())
    assert outcome(data, tmp_path / "sevens", Engine(batch=7)) == (digest, counts)
    assert counts["length_too_short"] == counts["in_length"] - counts["out_length"] > 0
    assert counts["out_near_duplicates"] < counts["in_near_duplicates"]
    assert counts["out_select_2"] == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "steps"),
    [(Engine(workers=2, batch=9), STEPS), (Engine("ray", batch=11), STEPS[:3])],  # each step that fits costs two passes
    ids=["processes", "ray"],
)
def test_every_engine_gives_the_same_bytes(tmp_path: Path, engine: Engine, steps: list[Any]) -> None:
    if engine.kind == "ray":
        pytest.importorskip("ray")
    data = data_of(tmp_path).model_copy(update={"curate": data_of(tmp_path).curate[: len(steps)]})
    assert outcome(data, tmp_path / "there", engine) == outcome(data, tmp_path / "here", Engine())
