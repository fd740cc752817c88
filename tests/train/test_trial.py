"""Trials: deterministic, thrown away, paid for; what they settle is measured once."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus
from kills import kill_at_step, run_killed

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.proportional import Proportional
from warmstart.data.prepare import prepare
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import tokenizer_for
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter
from warmstart.train.schedules.shapes import Constant
from warmstart.train.trial import Trial, Trials


class First(Proportional):
    """All rows from the first source that `settle` found helpful; a mix that measures, for these tests alone."""

    type: Literal["test-first"] = "test-first"  # type: ignore[assignment]
    helped: float | None = None

    def settle(self, trials: Trials) -> Mix:
        trial = trials.run(steps=2, mix=Proportional())
        SETTLED.append(trial)
        return self.model_copy(update={"helped": trial.before["validation/loss"] - trial.after["validation/loss"]})

    def start(self, stock: Stock, *, seed: int) -> MixState:
        assert self.helped is not None, "it was not settled"
        return super().start(stock, seed=seed)


SETTLED: list[Trial] = []


def trials_of(tmp_path: Path, **train: Any) -> Trials:
    corpus = tmp_path / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(corpus)
    stage = Stage.model_validate(tiny_recipe(corpus, **train)["stages"][0])
    assert stage.data is not None
    assert stage.tokenizer is not None
    assert stage.init is not None
    tokenizer = tokenizer_for(stage.tokenizer, stage.data, "causal")
    model = new_model(configuration(stage.init.like, stage.init.settings, tokenizer), "causal", 7)
    return Trials(model, tokenizer, stage, prepare(stage.data, tokenizer), seed=7, number=0)


def test_a_trial_changes_nothing_and_says_the_same_again(tmp_path: Path) -> None:
    trials = trials_of(tmp_path)
    before = {name: tensor.clone() for name, tensor in trials._model.state_dict().items()}
    one = trials.run(steps=4, learning_rate=1e-2)
    trials.run(steps=2, learning_rate=1e-1, evaluate=False)
    two = trials.run(steps=4, learning_rate=1e-2)
    assert (one.before, one.after, one.losses) == (two.before, two.after, two.losses)
    assert len(one.losses) == 4
    assert one.after["validation/loss"] < one.before["validation/loss"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in trials._model.state_dict().items())
    again = trials_of(tmp_path).run(steps=4, learning_rate=1e-2)
    assert (again.after, again.losses) == (one.after, one.losses)


def test_a_trial_is_the_training_that_it_says(tmp_path: Path) -> None:
    """Its losses are those of a stage of so many steps at that rate."""
    trials = trials_of(tmp_path)
    trial = trials.run(steps=3, learning_rate=1e-2, schedule=Constant(), evaluate=False)
    stage = trials._stage
    changed = stage.train.model_copy(update={"learning_rate": 1e-2, "schedule": Constant()})
    loop = Training(
        trials._model, trials._tokenizer, stage.model_copy(update={"train": changed}), trials._data,
        seed=trials._seed, number=0, folder=tmp_path,
    )  # fmt: skip
    assert [float(loop.step()[0].total) for _ in range(3)] == trial.losses
    assert (trial.before, trial.after) == ({}, {})
    assert math.isnan(trial.ahead)


def test_looking_ahead_reads_the_rows_that_come_next_and_trains_on_none(tmp_path: Path) -> None:
    trials = trials_of(tmp_path)
    trial = trials.run(steps=2, learning_rate=1e-30, schedule=Constant(), evaluate=False, ahead=3)
    loop = trials._training(5, None, 1e-30, Constant())
    loop.model.eval()
    batches = [loop.collate(loop.next_rows()) for _ in range(5)][2:]
    with torch.no_grad():
        losses = [loop.objective.loss(loop.model, batch) for batch in batches]
    nats = sum(float(loss.total) * int(loss.targets) for loss in losses)
    assert trial.ahead == pytest.approx(nats / sum(int(loss.targets) for loss in losses), rel=1e-6)


def test_what_trials_cost(tmp_path: Path) -> None:
    trials = trials_of(tmp_path)
    plain = trials.run(steps=2, evaluate=False)
    longer = trials.run(steps=4, evaluate=False)
    ahead = trials.run(steps=2, evaluate=False, ahead=3)
    first = trials.run(steps=2)
    later = trials.run(steps=2)
    assert longer.flops == 2 * plain.flops > 0
    assert ahead.flops == plain.flops * 1.5, "three forward passes cost one step"
    evaluation = later.flops - plain.flops
    assert evaluation > 0
    assert first.flops == plain.flops + 2 * evaluation, "the starting weights are evaluated once for all trials"
    assert trials.flops == sum(t.flops for t in (plain, longer, ahead, first, later))


def test_a_trial_that_diverges_says_so(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, clip=None)
    trial = trials.run(steps=30, learning_rate=1e30, schedule=Constant(), evaluate=False)
    assert trial.diverged
    assert len(trial.losses) < 30
    assert not trials.run(steps=2, evaluate=False).diverged
    with pytest.raises(ValueError, match="at least one step"):
        trials.run(steps=0)


@pytest.mark.parametrize(("budget", "steps"), [({"steps": 9}, 9), ({"tokens": 700}, 10), ({"seconds": 5}, None)])
def test_how_many_steps_a_budget_is(tmp_path: Path, budget: dict[str, Any], steps: int | None) -> None:
    trials = trials_of(tmp_path)
    trials._stage = trials._stage.model_copy(update={"budget": Stage.model_validate({"budget": budget}).budget})
    assert trials.steps_of_budget() == steps


def test_flops_as_steps(tmp_path: Path) -> None:
    trials = trials_of(tmp_path)
    each = trials.run(steps=1, evaluate=False).flops
    trials._stage = trials._stage.model_copy(
        update={"budget": Stage.model_validate({"budget": {"flops": 7.5 * each}}).budget}
    )
    assert trials.steps_of_budget() == 7


# ---- settling --------------------------------------------------------------------------------------------------------


def measuring(tmp_path: Path, budget: dict[str, Any]) -> dict[str, Any]:
    corpus = tmp_path / "corpus.jsonl"
    raw = tiny_recipe(corpus if corpus.exists() else write_corpus(corpus), steps=12)
    raw["stages"][0]["data"]["mix"] = "test-first"
    raw["stages"][0]["budget"] = budget
    return raw


def test_a_mix_is_settled_once_and_paid_for(tmp_path: Path) -> None:
    SETTLED.clear()
    recipe = Recipe.model_validate(measuring(tmp_path, {"steps": 12}))
    facts = run(recipe, tmp_path / "run", reporter=Reporter()).stages[0]
    folder = tmp_path / "run/stages/00-first"
    settled = json.loads((folder / "settled.json").read_text())
    assert settled["mix"]["helped"] == SETTLED[0].before["validation/loss"] - SETTLED[0].after["validation/loss"]
    assert settled["flops"] == facts["trial_flops"] == SETTLED[0].flops > 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["flops"] == facts["trial_flops"]
    assert facts["flops"] > facts["trial_flops"]
    assert "settled in trials" in (folder / "model/README.md").read_text()
    assert len(SETTLED) == 1


def test_a_budget_in_flops_pays_for_trials_and_the_schedule_begins_after_them(tmp_path: Path) -> None:
    SETTLED.clear()
    each = trials_of(tmp_path).run(steps=1, evaluate=False).flops
    raw = measuring(tmp_path, {"flops": 20 * each})
    raw["stages"][0]["train"]["schedule"] = {"type": "linear", "warmup": 0.0}
    facts = run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter()).stages[0]
    assert facts["flops"] <= 20 * each
    assert facts["steps"] == int((20 * each - facts["trial_flops"]) / each) < 20
    text = (tmp_path / "run/stages/00-first/metrics.jsonl").read_text()
    rates = [json.loads(line).get("learning_rate") for line in text.splitlines()]
    rates = [rate for rate in rates if rate is not None]
    assert rates[0] == 1e-3
    assert rates[-1] < 0.15 * 1e-3


def test_a_killed_run_does_not_measure_again(tmp_path: Path) -> None:
    SETTLED.clear()
    recipe = Recipe.model_validate(measuring(tmp_path, {"steps": 12}))
    assert run_killed(recipe, tmp_path / "killed", kill_at_step(5))
    assert (tmp_path / "killed/stages/00-first/settled.json").is_file()
    killed = run(recipe, tmp_path / "killed", reporter=Reporter()).stages[0]
    assert SETTLED == [], "the trial was run in the process that was killed"
    whole = run(recipe, tmp_path / "whole", reporter=Reporter()).stages[0]
    assert len(SETTLED) == 1
    timed = ("seconds", "peak_memory_bytes", "files")  # (a line of the metrics has the time too)
    assert {key: value for key, value in killed.items() if key not in timed} == {
        key: value for key, value in whole.items() if key not in timed
    }


def test_a_settled_mix_goes_on_where_the_training_is_carried_on(tmp_path: Path) -> None:
    SETTLED.clear()
    raw = measuring(tmp_path, {"steps": 5})
    stage = raw["stages"][0]
    raw["stages"].append({"name": "second", "carry_on": True, "data": stage["data"], "budget": {"steps": 7}})
    parts = run(Recipe.model_validate(raw), tmp_path / "parts", reporter=Reporter()).stages
    assert len(SETTLED) == 1
    assert parts[1]["trial_flops"] == 0
    whole = run(
        Recipe.model_validate(measuring(tmp_path, {"steps": 12})), tmp_path / "whole", reporter=Reporter()
    ).stages
    assert parts[1]["weights"] == whole[0]["weights"]


def test_nothing_to_settle_leaves_no_trace(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2))
    facts = run(recipe, tmp_path / "run", reporter=Reporter()).stages[0]
    assert not (tmp_path / "run/stages/00-first/settled.json").exists()
    assert (facts["trial_flops"], facts["settled"]) == (0.0, {})
