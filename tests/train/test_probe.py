"""The learning-rate probe: the search on curves whose minimum is known, and what a run says of it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import TINY_GPT2, tiny_recipe, write_corpus
from kills import kill_at_step, run_killed

from warmstart.errors import UserError
from warmstart.finished import read_sealed
from warmstart.plan import describe
from warmstart.recipe import Recipe
from warmstart.recipe_merge import merge
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.probe import Probe, choose, search
from warmstart.train.progress import Reporter


@given(
    best=st.floats(math.log(2e-5), math.log(5e-2)),
    steep=st.floats(0.1, 3),
    cliff=st.floats(0.7, 6),
)
def test_the_search_lands_within_a_factor_of_two_of_any_single_minimum(best: float, steep: float, cliff: float) -> None:
    """Also where every rate a little above the best one diverges (`cliff`, in nats of the rate)."""
    tried = []

    def loss_at(rate: float) -> float:
        tried.append(rate)
        away = math.log(rate) - best
        return math.nan if away > cliff else 3 + steep * away**2 * (2 if away > 0 else 1)

    losses = search(loss_at, 1e-3, 1e-6, 1e-1)
    assert len(tried) == len(set(tried)) <= 11
    assert list(losses) == sorted(tried)
    found = min(losses, key=losses.__getitem__)
    assert abs(math.log(found) - best) < math.log(2.0)


def test_the_search_stays_in_its_range() -> None:
    falling = search(lambda rate: -rate, 1e-3, 1e-6, 1e-1)
    assert max(falling) <= 1e-1
    assert max(falling) == min(falling, key=falling.__getitem__) > 0.03
    rising = search(lambda rate: rate, 1e-3, 1e-6, 1e-1)
    assert min(rising) < 5e-6
    everywhere = search(lambda rate: math.inf, 1e-3, 1e-6, 1e-1)
    assert all(math.isinf(loss) for loss in everywhere.values())
    assert min(everywhere) < 5e-6


def test_of_rates_that_cannot_be_told_apart_the_highest_is_chosen() -> None:
    losses = {1.0: 3.5, 2.0: 3.0, 4.0: 3.01, 8.0: 3.3, 16.0: math.inf}
    assert choose(losses, 0.0) == 2.0
    assert choose(losses, 0.02) == 4.0
    assert choose(losses, 0.4) == 8.0
    assert choose({1.0: 3.0, 2.0: 3.0}, 0.0) == 2.0


def probing(tmp_path: Path, probe: Any = "probe", **changes: Any) -> dict[str, Any]:
    corpus = tmp_path / "c.jsonl"
    raw = tiny_recipe(corpus if corpus.exists() else write_corpus(corpus), steps=20, learning_rate=probe)
    raw["stages"][0] |= changes
    return raw


def test_a_run_says_which_rate_and_why(tmp_path: Path) -> None:
    notes: list[str] = []

    class Listener(Reporter):
        def event(self, kind: str, **values: Any) -> None:
            notes.extend([str(values["text"])] if kind == "note" else [])

    facts = run(Recipe.model_validate(probing(tmp_path)), tmp_path / "run", reporter=Listener()).stages[0]
    folder = tmp_path / "run/stages/00-first"
    settled = read_sealed(folder / "settled.json")
    rate, losses = settled["learning_rate"], settled["probe"]["losses"]
    known = {float(tried): loss for tried, loss in losses.items() if loss is not None}
    assert choose(known, 0.02) == pytest.approx(rate)
    assert len(losses) >= 5
    line = f"learning rate {rate:.3g} by probe: {len(losses)} trials of 16 steps ended at"
    assert any(note.startswith(line) for note in notes)
    assert line.split(": ", 1)[1] in (folder / "model/README.md").read_text()
    assert line in (tmp_path / "run/report.html").read_text()
    assert facts["settled"] == settled
    assert facts["trial_flops"] > 0
    rates = [json.loads(text).get("learning_rate") for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(r for r in rates if r) == pytest.approx(rate)


def test_the_rate_is_carried_on(tmp_path: Path) -> None:
    raw = probing(tmp_path, {"type": "probe", "min_steps": 4}, budget={"steps": 8})
    rest = {"name": "second", "carry_on": True, "budget": {"steps": 4}}
    raw["stages"].append(rest | {"data": raw["stages"][0]["data"] | {"length": 8}})
    first, second = run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter()).stages
    assert second["settled"]["learning_rate"] == first["settled"]["learning_rate"]
    assert second["trial_flops"] == 0


def test_killed_after_the_probe(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(probing(tmp_path, {"type": "probe", "min_steps": 4}, budget={"flops": 5e8}))
    assert run_killed(recipe, tmp_path / "killed", kill_at_step(10))
    killed = run(recipe, tmp_path / "killed", reporter=Reporter()).stages[0]
    whole = run(recipe, tmp_path / "whole", reporter=Reporter()).stages[0]
    assert killed["weights"] == whole["weights"]
    assert killed["flops"] == whole["flops"] <= 5e8
    assert killed["trial_flops"] == whole["trial_flops"] > 0


def test_a_probe_that_diverges_everywhere_is_an_error(tmp_path: Path) -> None:
    raw = probing(
        tmp_path, {"type": "probe", "start": 1e30, "low": 1e29, "high": 1e32, "min_steps": 4}, budget={"steps": 8}
    )
    raw["stages"][0]["train"]["clip"] = None
    with pytest.raises(UserError, match=r"train\.learning_rate: the probe diverged at every rate"):
        run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())


def test_how_a_recipe_says_it(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(probing(tmp_path))
    assert recipe.stages[0].train.learning_rate == Probe()
    assert any("by probe" in line for line in describe(recipe))
    assert Recipe.model_validate(recipe.model_dump(mode="json", by_alias=True)) == recipe
    assert merge({"learning_rate": "probe"}, {"learning_rate": {"share": 0.1}}) == {
        "learning_rate": {"type": "probe", "share": 0.1}
    }
    for wrong, message in (
        ("prob", "'probe'"),
        ({"type": "probe", "share": 2}, "less than 1"),
        (-1, "greater than 0"),
        ({"type": "probe", "stat": 1}, "stat"),
    ):
        with pytest.raises(ValueError, match=message):
            Stage.model_validate({"train": {"learning_rate": wrong}})


TINY_LLAMA = {
    "like": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


@pytest.mark.slow
@pytest.mark.parametrize("model", [TINY_GPT2, TINY_LLAMA], ids=["gpt2", "llama"])
def test_the_probe_is_within_a_factor_of_two_of_the_best_of_a_sweep(tmp_path: Path, model: dict[str, Any]) -> None:
    """A trained model that goes on with other text, for 120 steps."""
    pretrain = tiny_recipe(write_corpus(tmp_path / "old.jsonl"), steps=120, learning_rate=4e-3)
    pretrain["stages"][0]["init"] = model
    source = run(Recipe.model_validate(pretrain), tmp_path / "source", reporter=Reporter()).model
    texts = [
        f"In {n % 17} of {n} years the king of land {n % 5} counted {n % 7} ships and {n % 3} harbours. "
        for n in range(400)
    ]
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({"text": "".join(texts[n : n + 5])}) + "\n" for n in range(395)))
    stage = pretrain["stages"][0] | {"from": str(source), "budget": {"steps": 120}}
    del stage["init"], stage["tokenizer"]
    stage["data"] = stage["data"] | {"source": {"type": "files", "path": str(new)}}

    def carried_out(rate: Any, name: str) -> dict[str, Any]:
        trained = stage | {"train": stage["train"] | {"learning_rate": rate}}
        recipe = Recipe.model_validate({"title": name, "seed": 3, "stages": [trained]})
        return run(recipe, tmp_path / name, reporter=Reporter()).stages[0]

    sweep = {
        rate: carried_out(rate, f"{rate:g}")["final"]["validation/loss"] for rate in (5e-4 * 2**k for k in range(8))
    }
    best = min(sweep, key=sweep.__getitem__)
    found = carried_out("probe", "probe")
    assert best / 2.001 <= found["settled"]["learning_rate"] <= best * 2.001, (sweep, found["settled"])
    assert min(sweep) < best < max(sweep), "the best rate is inside the sweep"
