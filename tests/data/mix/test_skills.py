"""Skill-It as a mix: rounds, targets, learning the graph, resume."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from warmstart.data.mix import Mix, Stock
from warmstart.data.mix.skill_it import SkillItMixer
from warmstart.errors import DataError, StateError

CHAIN = {"a": {"a": 1.0, "b": 0.5}, "b": {"b": 1.0, "c": 0.5}, "c": {"c": 1.0}}
MATRIX = np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
STOCK = Stock([50, 60, 70], ["a", "b", "c"])


def skill_it(**settings: Any) -> Any:
    return TypeAdapter(Mix).validate_python({"type": "skill-it", "graph": CHAIN, **settings})


def values(*losses: float) -> dict[str, float]:
    return {f"validation/{name}/loss": loss for name, loss in zip("abc", losses, strict=False)}


def shares(state: Any) -> list[float]:
    return [state.report()[f"mix/{name}"] for name in "abc"]


def test_an_evaluation_is_a_round_and_the_first_one_is_none() -> None:
    state, mixer = skill_it(eta=0.8).start(STOCK, seed=1), SkillItMixer(MATRIX, 0.8, 3)
    assert shares(state) == pytest.approx(mixer.shares)
    state.observe(values(3, 3, 3))
    assert shares(state) == pytest.approx(mixer.shares)
    for losses in ((1.0, 2.0, 3.0), (0.5, 2.0, 2.5), (0.1, 1.0, 2.0), (0.0, 0.1, 1.0)):
        state.observe(values(*losses) | {"validation/loss": 9.9})
        assert shares(state) == pytest.approx(mixer.update(losses))
    assert state.report()["rounds"] == 4


def test_a_round_is_drawn_at_its_shares() -> None:
    state = skill_it(eta=2.0).start(STOCK, seed=1)
    state.next(7)
    state.observe(values(1, 1, 1))
    state.observe(values(0.1, 0.5, 1.5))
    counts = Counter("abc"[source] for source, _ in state.next(100))
    assert all(abs(counts[name] - 100 * share) < 1 for name, share in zip("abc", shares(state), strict=True))
    assert sum(counts.values()) == 100


def test_some_skills_some_targets() -> None:
    tuned = skill_it(targets=["c"]).start(STOCK, seed=1)  # fine-tuning: all train, one counts
    assert shares(tuned) == pytest.approx(SkillItMixer(MATRIX[:, 2:], 0.5).shares)
    foreign = skill_it(graph={"a": {"c": 0.2}, "b": {"c": 0.9}}, skills=["a", "b"], targets=["c"]).start(STOCK, seed=1)
    assert shares(foreign)[2] == 0, "the target is out of the training domains: it is measured, never drawn"
    foreign.observe(values(1, 1, 1))
    foreign.observe({"validation/c/loss": 2.0})
    expected = SkillItMixer(np.array([[0.2], [0.9]]), 0.5).update([2.0])
    assert shares(foreign)[:2] == pytest.approx(expected)


def test_without_edges_each_skill_follows_its_own_loss() -> None:
    state = skill_it(graph="own", eta=0.3).start(STOCK, seed=1)
    for losses in ((9, 9, 9), (1, 2, 3)):
        state.observe(values(*losses))
    assert shares(state) == pytest.approx(np.exp([0.3, 0.6, 0.9]) / np.exp([0.3, 0.6, 0.9]).sum())


def test_negative_edges_count_only_unclipped() -> None:
    graph = {"a": {"a": 1.0, "b": -1.0}, "b": {"b": 1.0, "a": 0.5}, "c": {"c": 1.0}}
    clipped, whole = (skill_it(graph=graph, clip=clip).start(STOCK, seed=1) for clip in (True, False))
    assert shares(clipped) == pytest.approx(SkillItMixer(np.array([[1, 0, 0], [0.5, 1, 0], [0, 0, 1]]), 0.5).shares)
    assert shares(whole) == pytest.approx(SkillItMixer(np.array([[1, -1, 0], [0.5, 1, 0], [0, 0, 1]]), 0.5).shares)


@pytest.mark.parametrize("settings", [{}, {"window": None}, {"normalise": "initial", "window": 2}])
def test_resume_between_rounds(settings: dict[str, Any]) -> None:
    mix = skill_it(**settings)
    rounds = [values(3 - 0.1 * n, 3 - 0.2 * n, 3 - 0.25 * n) for n in range(9)]

    def go(state: Any, begin: int, end: int) -> list[Any]:
        drawn = []
        for n in range(begin, end):
            state.observe(rounds[n])
            drawn += [state.next(5), state.next(2), state.report()]
        return drawn

    whole = go(mix.start(STOCK, seed=5), 0, 9)
    for stop in range(9):
        part = mix.start(STOCK, seed=5)
        before = go(part, 0, stop)
        again = mix.start(STOCK, seed=5)
        again.load_state_dict(json.loads(json.dumps(part.state_dict())))
        assert before + go(again, stop, 9) == whole


def test_a_broken_state_is_refused() -> None:
    state = skill_it().start(STOCK, seed=1)
    for key, value in {"shares": [0.5], "history": [[1.0]], "initial": "x", "rounds": None}.items():
        with pytest.raises(StateError, match="skill-it cannot be read"):
            skill_it().start(STOCK, seed=1).load_state_dict(state.state_dict() | {key: value})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eta": -1}, "greater than or equal to 0"),
        ({"window": 0}, "greater than 0"),
        ({"graph": {"learn": 0}}, "greater than 0"),
        ({"graph": {"learn": 5, "mode": "brutal"}}, "brute-force"),
        ({"graph": {"a": {"b": float("inf")}}}, "finite"),
    ],
)
def test_bad_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        skill_it(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"graph": {"a": {"d": 1.0}}}, "mix.graph: there is no source 'd'; sources: a, b, c"),
        ({"graph": {"law": {"a": 1.0}}}, "mix.graph: there is no source 'law'"),
        ({"skills": ["a", "x"]}, "mix.skills: there is no source 'x'"),
        ({"targets": ["x"]}, "mix.targets: there is no source 'x'"),
        ({"graph": {"learn": 5}}, "no trials|none were run"),
    ],
)
def test_settings_that_do_not_fit_the_sources(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        skill_it(**settings).start(STOCK, seed=1)


def test_a_loss_that_was_not_measured_is_named() -> None:
    with pytest.raises(DataError, match="'validation/c/loss', which was not measured"):
        skill_it().start(STOCK, seed=1).observe(values(1, 1))


def test_density_is_warned_about_when_training_starts() -> None:
    full = {skill: dict.fromkeys("abc", 1.0) for skill in "abc"}
    with pytest.warns(UserWarning, match="nearly every skill"):
        skill_it(graph=full).start(STOCK, seed=1)


# ---- learning the graph in trials ------------------------------------------------------------------------------


@dataclass
class FakeTrial:
    before: dict[str, float]
    after: dict[str, float]


@dataclass
class FakeTrials:
    """Trains nothing: a loss falls by the chain above."""

    source_names: list[str] = field(default_factory=lambda: list("abc"))
    runs: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def run(self, *, steps: int, mix: Any = None, learning_rate: float | None = None) -> FakeTrial:
        given = mix.shares(STOCK)
        self.runs.append((steps, dict(zip("abc", given.tolist(), strict=True))))
        start = np.array([1.0, 2.0, 4.0])
        return FakeTrial(values(*start), values(*(start * (1 - 0.01 * steps * MATRIX.T @ given))))


def test_the_graph_is_learned_in_trials_and_written_into_the_mix() -> None:
    trials = FakeTrials()
    settled: Any = skill_it(graph={"learn": 20}).settle(trials)
    assert trials.runs == [(20, {name: float(name == skill) for name in "abc"}) for skill in "abc"]
    assert settled.graph == {
        "a": {"a": 0.2, "b": 0.1, "c": 0.0},
        "b": {"a": 0.0, "b": 0.2, "c": 0.1},
        "c": {"a": 0.0, "b": 0.0, "c": 0.2},
    }
    assert TypeAdapter(Mix).validate_python(json.loads(settled.model_dump_json())) == settled
    settled.start(STOCK, seed=1)
    assert settled.settle(None) is settled, "it is measured once"


def test_brute_force_trials_and_chosen_skills() -> None:
    trials = FakeTrials()
    skill_it(graph={"learn": 20, "mode": "brute-force"}).settle(trials)
    assert len(trials.runs) == 6
    assert trials.runs[3] == (20, {"a": 0.5, "b": 0.5, "c": 0.0})
    some: Any = skill_it(graph={"learn": 20}, skills=["a", "b"], targets=["c"]).settle(FakeTrials())
    assert some.graph == {"a": {"c": 0.0}, "b": {"c": 0.1}}
    with pytest.raises(DataError, match=r"no source 'aa'"):
        skill_it(graph={"learn": 20}, skills=["aa"]).settle(FakeTrials())


def test_a_given_graph_needs_no_trials() -> None:
    mix = skill_it()
    assert mix.settle(None) is mix
