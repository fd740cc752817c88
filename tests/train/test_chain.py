"""Stages that carry on one training: bit for bit the training that was not cut."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus
from kills import kill_at_step, run_killed

from warmstart.errors import StateError, UserError
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage
from warmstart.recipe_study import Study
from warmstart.run_recipe import run
from warmstart.train import loop
from warmstart.train.chain import chain_of
from warmstart.train.checkpoint import load_state
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter


def cut(raw: dict[str, Any], first: float, second: float, **changes: Any) -> dict[str, Any]:
    """A recipe of one stage as two: the second carries on the first."""
    raw = copy.deepcopy(raw)
    stage = raw["stages"][0]
    unit = next(iter(stage["budget"]))
    stage["budget"] = {unit: first}
    rest = {"name": "second", "carry_on": True, "data": stage["data"], "evaluate": stage["evaluate"]}
    raw["stages"].append(rest | {"budget": {unit: second}} | changes)
    return raw


def carried_out(raw: dict[str, Any], out: Path) -> Path:
    run(Recipe.model_validate(raw), out, reporter=Reporter())
    return out


def last_state(out: Path, stage: str) -> Any:
    return load_state(out / "stages" / stage / "state")


def rates(out: Path, *stages: str) -> list[float]:
    lines = []
    for stage in stages:
        text = (out / "stages" / stage / "metrics.jsonl").read_text()
        lines += [json.loads(line) for line in text.splitlines()]
    return [line["learning_rate"] for line in lines if "learning_rate" in line]


def same_tensors(one: Any, two: Any) -> bool:
    assert one.tensors.keys() == two.tensors.keys()
    return all(
        one.tensors[group].keys() == two.tensors[group].keys()
        and all(torch.equal(tensor, two.tensors[group][name]) for name, tensor in one.tensors[group].items())
        for group in one.tensors
    )


@pytest.mark.parametrize("objective", ["causal", "masked"])
@pytest.mark.parametrize(
    ("budget", "first", "second"),
    [
        ({"steps": 20}, 13, 7),
        ({"tokens": 20 * 64}, 13 * 64, 7 * 64),
        ({"tokens": 20 * 64 + 8}, 13 * 64 + 50, 7 * 64 - 42),  # what the first stage cannot use is the second's
    ],
)
def test_a_stage_cut_in_two_is_the_stage_that_was_not_cut(
    tmp_path: Path, objective: str, budget: dict[str, int], first: int, second: int
) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective=objective, schedule="cosine")
    raw["stages"][0]["budget"] = budget
    whole = carried_out(raw, tmp_path / "whole")
    parts = carried_out(cut(raw, first, second), tmp_path / "parts")
    one, two = last_state(whole, "00-first"), last_state(parts, "01-second")
    assert one.values["counts"]["step"] == 20
    assert two.values["before"]["step"] == 13
    assert two.values["counts"]["step"] == 7
    assert same_tensors(one, two)
    assert one.values["mix"] == two.values["mix"]
    learned = rates(whole, "00-first")
    assert len(set(learned)) > 10
    assert rates(parts, "00-first", "01-second") == learned
    facts = [
        json.loads(path.read_text())
        for path in (whole / "stages/00-first/stage.json", parts / "stages/01-second/stage.json")
    ]
    assert facts[0]["weights"] == facts[1]["weights"]
    assert facts[0]["final"] == facts[1]["final"]


def test_without_carrying_on_two_stages_are_another_training(tmp_path: Path) -> None:
    """The tests above would fail if nothing were carried over."""
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=10)
    apart = cut(raw, 6, 4, carry_on=False, train=raw["stages"][0]["train"])
    one = last_state(carried_out(raw, tmp_path / "whole"), "00-first")
    assert not same_tensors(one, last_state(carried_out(apart, tmp_path / "parts"), "01-second"))


def test_at_the_switch_to_other_data_the_optimizer_and_the_rate_are_those_of_the_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=10, save_every=6, keep=9)
    whole = carried_out(raw, tmp_path / "whole")
    other = raw["stages"][0]["data"] | {"split": {"validation": 0.2, "train": [0.5, 1.0]}}
    seen: dict[str, Any] = {}
    original = Training.next_rows

    def next_rows(self: Training) -> Any:  # the first thing that a step does
        if self.counts.step == 0 and self.spending.before.step:
            optimizer = {name: value.clone() for name, value in self.optimizer.state[self._trained[0]].items()}
            seen.update(
                optimizer=optimizer,
                step=self.spending.step,
                fraction=self.spending.fraction(),
                progress=self.spending.progress(),
            )
        return original(self)

    monkeypatch.setattr(Training, "next_rows", next_rows)
    parts = carried_out(cut(raw, 6, 4, data=other), tmp_path / "parts")
    middle = whole / "stages/00-first/state/step-00000006"
    end = parts / "stages/00-first/state/step-00000006"
    assert (middle / "optimizer.safetensors").read_bytes() == (end / "optimizer.safetensors").read_bytes()
    assert (middle / "model.safetensors").read_bytes() == (end / "model.safetensors").read_bytes()
    assert float(seen["optimizer"]["step"]) == seen["step"] == 6
    assert (seen["fraction"], seen["progress"]) == (0.0, 0.6)
    assert torch.equal(seen["optimizer"]["exp_avg"], torch_file(end / "optimizer.safetensors", "exp_avg"))
    assert rates(parts, "00-first", "01-second") == rates(whole, "00-first")
    one, two = last_state(whole, "00-first"), last_state(parts, "01-second")
    assert not same_tensors(one, two), "the data did not change: the test does not test"
    assert two.values["data"] != one.values["data"]


def torch_file(path: Path, key: str) -> torch.Tensor:
    from safetensors.torch import load_file

    tensors = load_file(path)
    return next(tensor for name, tensor in tensors.items() if name == f"transformer.wte.weight|{key}")


def test_flops_carry_on_in_a_study_by_shares(tmp_path: Path) -> None:
    """Budgets by `share`: the chain uses as many steps as the uncut stage, and the schedule ends at its floor."""
    shared = tiny_recipe(write_corpus(tmp_path / "c.jsonl"))["stages"][0]
    init = shared.pop("init")
    for name in ("name", "budget"):
        shared.pop(name)
    shared["train"]["schedule"] = {"type": "cosine", "warmup": 0.1, "floor": 0.1}
    raw = {
        "title": "t",
        "compare": {"baseline": "whole", "flops": 6.1e7},
        "shared": shared,
        "arms": {
            "whole": [{"init": init}],
            "parts": [{"init": init, "budget": {"share": 0.7}}, {"carry_on": True}],
        },
    }
    study = Study.model_validate(raw)
    one, two = (run(study.recipe(arm, 0), tmp_path / arm, reporter=Reporter()).stages for arm in ("whole", "parts"))
    assert len(two) == 2
    assert two[0]["flops"] + two[1]["flops"] == one[0]["flops"]
    assert two[0]["steps"] + two[1]["steps"] == one[0]["steps"] > 10
    assert rates(tmp_path / "parts", "00-stage", "01-stage") == pytest.approx(
        rates(tmp_path / "whole", "00-stage"), rel=1e-12
    )
    assert two[1]["weights"] == one[0]["weights"]
    # a study that was resolved says the same
    assert Study.model_validate(json.loads(study.model_dump_json(by_alias=True))).arms == study.arms


def test_the_second_stage_may_look_at_further_held_out_sets(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=6)
    old = {"source": {"type": "files", "path": str(write_corpus(tmp_path / "old.jsonl", seed=5))}}
    plain = carried_out(cut(raw, 4, 2), tmp_path / "plain")
    seeing = carried_out(cut(raw, 4, 2, evaluate={"also": {"old": old}}), tmp_path / "seeing")
    assert same_tensors(last_state(plain, "01-second"), last_state(seeing, "01-second"))
    assert "old/loss" in last_state(seeing, "01-second").values["evaluation"]


@pytest.mark.parametrize("kill", [1, 4, 6])
def test_killed_inside_the_second_stage(tmp_path: Path, kill: int) -> None:
    """Before its first saved state, and after it."""
    raw = cut(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=12), 5, 7)
    recipe = Recipe.model_validate(raw)
    whole = carried_out(raw, tmp_path / "whole")

    def arm() -> None:
        original = Training.clip

        def clip(self: Training):  # type: ignore[no-untyped-def]
            if self.chain.carries_on:
                kill_at_step(kill)()
            return original(self)

        Training.clip = clip  # type: ignore[method-assign]

    assert run_killed(recipe, tmp_path / "killed", arm)
    assert (tmp_path / "killed/stages/00-first/stage.json").is_file()
    killed = carried_out(raw, tmp_path / "killed")
    assert same_tensors(last_state(whole, "01-second"), last_state(killed, "01-second"))
    assert last_state(whole, "01-second").values["before"] == last_state(killed, "01-second").values["before"] | {
        "seconds": last_state(whole, "01-second").values["before"]["seconds"]
    }


def test_a_carried_on_state_must_be_there(tmp_path: Path) -> None:
    raw = cut(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=4), 2, 2)
    assert run_killed(Recipe.model_validate(raw), tmp_path / "run", kill_second_stage)
    state = next((tmp_path / "run/stages/00-first/state").iterdir())
    for file in state.iterdir():
        file.unlink()
    with pytest.raises(StateError, match="00-first/state"):
        carried_out(raw, tmp_path / "run")


def kill_second_stage() -> None:
    original = loop.take_over

    def take_over(training: Training) -> None:
        if training.chain.carries_on:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        original(training)

    loop.take_over = take_over


def test_changed_data_under_a_carried_on_order_of_rows_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    raw = cut(tiny_recipe(corpus, steps=4), 2, 2)
    assert run_killed(Recipe.model_validate(raw), tmp_path / "run", kill_second_stage)
    write_corpus(corpus, documents=61)
    with pytest.raises(StateError, match="other data"):
        carried_out(raw, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": {"like": "gpt2"}}, r"stages\.1\.init: .*leave it out"),
        ({"from": "x"}, r"stages\.1\.from: .*leave it out"),
        ({"surgery": [{"type": "grow", "to": {"n_embd": 32}}]}, r"stages\.1\.surgery: .*leave it out"),
        ({"tokenizer": {"train": 400}}, r"stages\.1\.tokenizer: .*leave it out"),
        ({"objective": "masked"}, r"stages\.1\.objective: .*causal"),
        ({"train": {"optimizer": {"type": "adamw", "weight_decay": 0.5}}}, r"stages\.1\.train\.optimizer"),
        ({"train": {"trainable": {"type": "sub-models"}}}, r"stages\.1\.train\.trainable"),
        ({"train": {"schedule": "linear"}}, r"stages\.1\.train\.schedule"),
        ({"train": {"learning_rate": 1}}, r"stages\.1\.train\.learning_rate"),
        ({"budget": {"tokens": 9}}, r"stages\.1\.budget: must be in steps.*found tokens"),
    ],
)
def test_what_cannot_carry_on_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    raw = tiny_recipe(tmp_path / "c.jsonl", steps=4, learning_rate=0.5)
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(cut(raw, 2, 2, **change))


def test_the_first_stage_has_nothing_to_carry_on(tmp_path: Path) -> None:
    raw = tiny_recipe(tmp_path / "c.jsonl")
    raw["stages"][0]["carry_on"] = True
    with pytest.raises(ValueError, match=r"stages\.0\.carry_on: there is no stage before"):
        Recipe.model_validate(raw)


def test_training_settings_are_those_of_the_stage_before(tmp_path: Path) -> None:
    raw = cut(tiny_recipe(tmp_path / "c.jsonl", learning_rate=0.5, schedule="linear"), 2, 2, train={"log_every": 7})
    first, second = Recipe.model_validate(raw).stages
    assert second.train == first.train.model_copy(update={"log_every": 7})
    assert first.train.learning_rate == 0.5


def test_chains_of_several_stages() -> None:
    def stage(steps: int, source: str, carry_on: bool) -> Stage:
        return Stage.model_validate(
            {"budget": {"steps": steps}, "data": {"source": {"type": "files", "path": source}}, "carry_on": carry_on}
        )

    stages = [
        stage(9, "a", False),
        stage(5, "a", False),
        stage(3, "a", True),
        stage(2, "b", True),
        stage(1, "b", False),
    ]
    chains = [chain_of(stages, number) for number in range(5)]
    assert [c.first for c in chains] == [0, 1, 1, 1, 4]
    assert [c.carries_on for c in chains] == [False, False, True, True, False]
    assert [c.end for c in chains] == [9, 5, 8, 10, 1]
    assert [c.total for c in chains] == [9, 10, 10, 10, 1]
    assert [c.same_rows for c in chains] == [False, False, True, False, False]
    assert [(c.rows_begin, c.rows_end) for c in chains] == [(0, 9), (0, 8), (0, 8), (8, 10), (0, 1)]


# ---- moments of another run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", ["load", "reset"])
def test_moments_are_loaded_or_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: str) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=4)
    one = carried_out(raw, tmp_path / "one")
    stage = raw["stages"][0]
    del stage["init"], stage["tokenizer"]
    stage["from"] = str(one / "stages/00-first/model")
    stage["train"]["moments"] = moments
    seen: list[dict[str, torch.Tensor]] = []
    original = Training.next_rows

    def next_rows(self: Training) -> Any:
        if self.counts.step == 0:
            seen.append({key: value.clone() for key, value in self.optimizer.state[self._trained[0]].items()})
        return original(self)

    monkeypatch.setattr(Training, "next_rows", next_rows)
    carried_out(raw, tmp_path / "two")
    saved = last_state(one, "00-first").tensors["optimizer"]
    if moments == "reset":
        assert seen == [{}], "AdamW makes zeros and a step count of 0 at its first step"
    else:
        assert set(seen[0]) == {"exp_avg", "exp_avg_sq", "step"}
        assert all(torch.equal(value, saved[f"transformer.wte.weight|{key}"]) for key, value in seen[0].items())
    counts = last_state(tmp_path / "two", "00-first").values["counts"]
    assert counts["step"] == 4, "the schedule and the counts begin anew in any case"


def test_moments_that_are_not_there(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2)
    one = carried_out(raw, tmp_path / "one")
    (one / "stages/00-first/model").rename(tmp_path / "model")
    stage = raw["stages"][0]
    del stage["init"], stage["tokenizer"]
    stage |= {"from": str(tmp_path / "model")}
    stage["train"]["moments"] = "load"
    with pytest.raises(UserError, match="no saved state beside it"):
        carried_out(raw, tmp_path / "two")
    with pytest.raises(ValueError, match="moments: 'load' needs weights"):
        Stage.model_validate({"init": {"like": "gpt2"}, "train": {"moments": "load"}})
