"""Re-warming: the formula step by step, in every unit, in our loop and in anybody's."""

from __future__ import annotations

import copy
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus

from warmstart.errors import UserError
from warmstart.recipe import Recipe
from warmstart.recipe_file import read_study
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter
from warmstart.train.schedules.infinite import Infinite
from warmstart.train.schedules.rewarm import Rewarm, rewarm_cosine


def by_hand(t: int, total: int, width: int, start: float, floor: float, decay: float) -> float:
    """The formula as it is written."""
    if t < width:
        return start + (1 - start) * (t + 1) / width
    if t > decay:
        return floor
    return floor + 0.5 * (1 - floor) * (1 + math.cos(math.pi * (t - width) / (decay - width)))


settings = st.tuples(st.integers(2, 400), st.floats(0, 0.4), st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 1))


@given(settings)
def test_equals_the_formula(drawn: tuple[int, float, float, float, float]) -> None:
    total, warmup, start, floor, decay = drawn
    width = round(warmup * total)
    part = Rewarm(warmup=warmup, start=start, floor=floor, decay=decay)
    curve = [part.factor(t, t / total, 1 / total) for t in range(total + 1)]
    expected = [by_hand(t, total, width, start, floor, decay * total) for t in range(total + 1)]
    assert curve == pytest.approx(expected, abs=1e-9)
    if width:
        assert curve[width - 1] == 1.0, "the step that ends the warm-up has the whole peak"
    else:
        assert curve[0] == 1.0
    assert max(curve) <= 1.0
    assert all(b >= a for a, b in pairwise(curve[:width]))
    assert all(b <= a + 1e-15 for a, b in pairwise(curve[width:]))
    at_end = part.factor(10**6, decay, 1 / total)
    assert at_end == pytest.approx(floor, abs=1e-12)


@given(st.integers(3, 300), st.data())
def test_a_share_and_steps_give_the_same_warm_up(total: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, total - 1))
    by_steps, by_share = Rewarm(warmup=float(width)), Rewarm(warmup=width / total)
    one = [by_steps.factor(t, t / total, 1 / total) for t in range(total)]
    assert one == pytest.approx([by_share.factor(t, t / total, 1 / total) for t in range(total)], abs=1e-9)


def test_where_the_size_of_a_step_is_not_known_it_is_the_limit_of_small_steps() -> None:
    part = Rewarm(warmup=0.1, start=0.2)
    for n in range(0, 1000, 7):
        assert part.factor(0, n / 1000) == pytest.approx(part.factor(n * 1000, n / 1000, 1e-6), abs=1e-4)


def test_without_warm_up_and_decay_it_is_the_constant_rate() -> None:
    part = Rewarm(warmup=0.0, floor=1.0)
    assert {part.factor(t, t / 10, 0.1) for t in range(11)} == {1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"warmup": -0.1}, "warmup"),
        ({"floor": 1.5}, "floor"),
        ({"start": 2}, "start"),
        ({"decay": 0}, "decay"),
        ({"warmup": 0.5, "decay": 0.4}, "ends before the warm-up"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rewarm.model_validate(wrong)


def test_a_warm_up_as_long_as_the_budget_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="10 steps are not fewer than the budget's 10"):
        Rewarm(warmup=10).factor(0, 0.0, 0.1)
    with pytest.raises(UserError, match="ends before the warm-up"):
        Rewarm(warmup=6, decay=0.5).factor(0, 0.0, 0.1)
    assert Rewarm(warmup=9).factor(0, 0.0, 0.1) == pytest.approx(1 / 9)
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=5, schedule={"type": "rewarm", "warmup": 5})
    with pytest.raises(UserError, match=r"train\.schedule\.warmup: 5 steps"):
        run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())


# ---- in the loop -----------------------------------------------------------------------------------------------------


def learned_rates(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "stages/00-first/metrics.jsonl").read_text().splitlines()]
    return [line["learning_rate"] for line in lines if "learning_rate" in line]


@pytest.mark.parametrize("unit", ["steps", "tokens", "flops"])
def test_the_loop_follows_the_formula_in_every_unit(tmp_path: Path, unit: str) -> None:
    schedule = {"type": "rewarm", "warmup": 0.2, "start": 0.1, "floor": 0.1}
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2, schedule=schedule, learning_rate=0.01)
    each = run(Recipe.model_validate(raw), tmp_path / "two", reporter=Reporter()).stages[0]["flops"] / 2
    raw["stages"][0]["budget"] = {unit: {"steps": 10, "tokens": 640, "flops": 10 * each}[unit]}
    run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())
    expected = [0.01 * by_hand(t, 10, 2, 0.1, 0.1, 10) for t in range(10)]
    assert learned_rates(tmp_path / "run") == pytest.approx(expected, rel=1e-9)
    assert max(learned_rates(tmp_path / "run")) == 0.01


def test_the_constant_control_is_rewarming_that_does_nothing(tmp_path: Path) -> None:
    """eta_max = eta_min = eta_end and W = 0: bit-equal weights after 10 steps."""
    corpus = write_corpus(tmp_path / "c.jsonl")
    weights = []
    for number, schedule in enumerate(["constant", {"type": "rewarm", "warmup": 0.0, "floor": 1.0}, "cosine"]):
        raw = tiny_recipe(corpus, steps=10, schedule=schedule)
        weights.append(
            run(Recipe.model_validate(raw), tmp_path / str(number), reporter=Reporter()).stages[0]["weights"]
        )
    assert weights[0] == weights[1] != weights[2]


def test_a_continued_run_starts_with_the_upstream_models_losses(tmp_path: Path) -> None:
    """Before the first update, on the old corpus and on the new one."""
    old, new = write_corpus(tmp_path / "old.jsonl"), write_corpus(tmp_path / "new.jsonl", seed=5)
    raw = tiny_recipe(old, steps=6, learning_rate=1e-2)
    sources = {name: {"source": {"type": "files", "path": str(path)}} for name, path in (("old", old), ("new", new))}
    raw["stages"][0]["evaluate"]["also"] = {"new": sources["new"]}
    upstream = run(Recipe.model_validate(raw), tmp_path / "up", reporter=Reporter())
    stage = copy.deepcopy(raw["stages"][0])
    del stage["init"], stage["tokenizer"]
    stage["from"] = str(upstream.model)
    stage["data"] |= sources["new"]
    stage["evaluate"]["also"] = {"old": sources["old"]}
    stage["train"]["schedule"] = {"type": "rewarm"}
    run(Recipe.model_validate(raw | {"stages": [stage]}), tmp_path / "down", reporter=Reporter())
    first = json.loads((tmp_path / "down/stages/00-first/metrics.jsonl").read_text().splitlines()[0])
    final = upstream.stages[0]["final"]
    assert first["step"] == 0
    assert first["old/loss"] == pytest.approx(final["validation/loss"], abs=1e-6)
    assert first["validation/loss"] == pytest.approx(final["new/loss"], abs=1e-6)
    assert first["old/loss"] != pytest.approx(first["validation/loss"], abs=1e-3)


# ---- in anybody's loop -----------------------------------------------------------------------------------------------


def optimizer_of(rates: list[float]) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def rates_of(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_groups_keep_their_ratios_and_their_peaks() -> None:
    optimizer = optimizer_of([0.1, 0.4])
    found = rates_of(optimizer, rewarm_cosine(optimizer, 20, warmup=0.2, floor=0.1), 20)
    assert found == [
        pytest.approx([0.1 * by_hand(t, 20, 4, 0, 0.1, 20), 0.4 * by_hand(t, 20, 4, 0, 0.1, 20)]) for t in range(20)
    ]
    assert found[3] == [0.1, 0.4]


def test_a_saved_scheduler_goes_on_with_the_same_rates() -> None:
    optimizer = optimizer_of([0.3])
    whole = rates_of(optimizer, rewarm_cosine(optimizer, 20, warmup=5), 20)
    optimizer = optimizer_of([0.3])
    scheduler = rewarm_cosine(optimizer, 20, warmup=5)
    first = rates_of(optimizer, scheduler, 8)
    saved = json.loads(json.dumps({k: v for k, v in scheduler.state_dict().items() if k != "lr_lambdas"}))
    state = optimizer.state_dict()
    again = optimizer_of([0.3])
    resumed = rewarm_cosine(again, 20, warmup=5)
    again.load_state_dict(state)
    resumed.load_state_dict(saved | {"lr_lambdas": [None]})
    assert first + rates_of(again, resumed, 12) == whole


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_steps": 0},
        {"total_steps": 10, "warmup": 10},
        {"total_steps": 10, "warmup": -1},
        {"total_steps": 10, "floor": 1.1},
        {"total_steps": 10, "warmup": 6, "decay_steps": 5},
        {"total_steps": 10, "warmup": 0.6, "decay_steps": 5},
    ],
)
def test_wrong_settings_in_anybodys_loop(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"total_steps|warm-?up|floor|decay"):
        rewarm_cosine(optimizer_of([0.1]), **wrong)


# ---- the infinite schedule -------------------------------------------------------------------------------------------


def test_the_infinite_schedule_has_four_stretches() -> None:
    part = Infinite(warmup=0.1, cooldown=0.3, constant=0.5, anneal=0.2, floor=0.05)
    at = [part.factor(0, p / 100) for p in range(101)]
    assert at[10] == 1.0
    assert at[25] == pytest.approx(0.75), "half-way down"
    assert at[40:81] == pytest.approx([0.5] * 41)
    assert at[90] == pytest.approx(math.sqrt(0.5 * 0.05)), "exponential: half-way is the geometric mean"
    assert at[100] == pytest.approx(0.05)
    assert all(b <= a + 1e-12 for a, b in pairwise(at[10:]))
    assert Infinite(anneal=0.0).factor(0, 1.0) == 0.5
    with pytest.raises(ValidationError, match="at most 1"):
        Infinite(cooldown=0.9, anneal=0.2)
    with pytest.raises(ValidationError, match="above the constant"):
        Infinite(constant=0.05)


def test_the_study_is_fine_at_every_scale_and_compares_losses_in_the_same_tokens() -> None:
    for scale in ("smoke", "demo", "laptop", "gpu"):
        study = read_study("rewarm", scale)
        assert study.arms["scratch"][0].tokenizer is not None
        assert study.arms["scratch"][0].tokenizer.load == "upstream"
        assert all(stages[0].tokenizer is None for name, stages in study.arms.items() if name != "scratch")
        for stages in study.arms.values():
            also = stages[0].evaluate.also
            assert also["new"].sources == study.arms["rewarm"][0].data.sources  # type: ignore[union-attr]
            assert also["old"].sources == study.sources["upstream"][0].data.sources  # type: ignore[union-attr]
        peaks = {name: stages[0].train.learning_rate for name, stages in study.arms.items()}
        peak = peaks["rewarm"]
        assert (peaks["rewarm-half"], peaks["rewarm-double"]) == (peak / 2, peak * 2)
        floor = study.sources["upstream"][0].train.schedule.floor  # type: ignore[attr-defined]
        assert peaks["constant"] == pytest.approx(floor * study.sources["upstream"][0].train.learning_rate)
        assert study.sources["upstream"][0].train.learning_rate == peak
        trained, again = study.sources["upstream"][0].data, study.arms["again"][0].data
        assert trained is not None
        assert again is not None
        assert trained.split.train[1] == again.split.train[0], "no document is in both"
