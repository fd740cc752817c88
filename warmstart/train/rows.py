"""Which rows a stage's steps get, and how many of a step's tokens are real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmstart.data.mix import Stock
from warmstart.objectives import Batch, Row
from warmstart.randomness import derive_seed
from warmstart.recipe_stage import Stage
from warmstart.train.layout import Buckets

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared


def stage_mix(stage: Stage, data: Prepared, seed: int, number: int) -> Any:
    """The stage's mix, started over its training blocks."""
    assert stage.data is not None
    stock = Stock([len(b) for b in data.train], data.source_names, [b.scores for b in data.train])
    mix = stage.data.mix.start(stock, seed=derive_seed(seed, "stage", number, "mix"))
    if stage.train.layout != "bucketed":
        return mix
    buckets = derive_seed(seed, "stage", number, "buckets")
    return Buckets(mix, lambda source, row: data.train[source].real_tokens(row), stage.train.batch_size, buckets)


def real_tokens_of(rows: list[Row], batch: Batch, tokens: int) -> int:
    """Those of a step's tokens that are not padding; all, where neither rows nor batch say."""
    if all("documents" in row for row in rows):
        return sum(int((row["documents"] >= 0).sum()) for row in rows)
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else tokens
