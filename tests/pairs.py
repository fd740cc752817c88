"""Rows of two texts, tiny embedding models, and what evaluators are given, for tests of embedding models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from corpora import GivenRows
from tiny_encoders import encoder, tokenizer

from warmstart.data.prepare import Prepared, prepare
from warmstart.evaluate import Subject
from warmstart.objectives import Row
from warmstart.objectives.contrastive import Contrastive
from warmstart.recipe_data import Data

THINGS = ["reader", "writer", "chunk", "other", "some", "text", "self", "more"]


def pair_rows(count: int = 8, seed: int = 0, negatives: int = 0) -> list[Row]:
    """Rows with two texts (and a list of others) of made-up sentences."""
    draw = random.Random(seed)

    def sentence() -> str:
        return " ".join(draw.choice(THINGS) for _ in range(draw.randint(2, 7)))

    rows = []
    for number in range(count):
        row = {"id": str(number), "text": sentence(), "positive": f"{sentence()} {number}", "score": draw.random()}
        rows.append(row | ({"negative": [sentence() for _ in range(negatives)]} if negatives else {}))
    return rows


def held_out(rows: list[Row], cache: Path) -> Prepared:
    """Rows as a stage's held-out side."""
    data = Data.model_construct(
        **Data(source="python-stdlib", packing="rows", curate=[], split={"validation": 0.99}).__dict__
        | {"source": GivenRows(given=rows)}
    )
    return prepare(data, tokenizer(), cache_dir=cache, sides=("validation",))


def subject(rows: list[Row], cache: Path, model: Any = None, objective: Any = None, **fields: Any) -> Subject:
    """What an evaluator is given."""
    made = model if model is not None else encoder(head="embedding")
    return Subject(made, tokenizer(), objective or Contrastive(), held_out(rows, cache), 0, **fields)
