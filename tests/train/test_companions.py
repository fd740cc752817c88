"""Penalties and gradients over several stages: the naive run where they do nothing, their cost, what they refuse."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from continual import carried_out, stages, weights_of
from corpora import write_corpus

from warmstart.data.batch.blocks import Blocks
from warmstart.errors import DataError, ModelError
from warmstart.recipe import Recipe
from warmstart.run_recipe import RunResult
from warmstart.train.gradients import a_gem

NOTHING: dict[str, dict[str, Any]] = {
    "ewc": {"penalties": [{"type": "ewc", "strength": 0}]},
    "synaptic-intelligence": {"penalties": [{"type": "synaptic-intelligence", "strength": 0}]},
    "rwalk": {"penalties": [{"type": "rwalk", "strength": 0}]},
    "replay": {"penalties": [{"type": "replay", "ratio": 0}]},
}
SOMETHING: dict[str, dict[str, Any]] = {
    "ewc": {"penalties": [{"type": "ewc", "strength": 1e4}]},
    "synaptic-intelligence": {"penalties": [{"type": "synaptic-intelligence", "strength": 1e4}]},
    "rwalk": {"penalties": [{"type": "rwalk", "strength": 1.0}]},
    "replay": {"penalties": [{"type": "replay"}]},
    "a-gem": {"gradients": "a-gem"},
}


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("naive")
    return folder, carried_out(stages(folder), folder / "run")


@pytest.mark.parametrize("name", NOTHING)
def test_without_strength_it_is_the_naive_run_bit_for_bit(naive: Any, tmp_path: Path, name: str) -> None:
    folder, plain = naive
    result = carried_out(stages(folder, **NOTHING[name]), tmp_path / "run")
    assert weights_of(result) == weights_of(plain)


@pytest.mark.parametrize("name", NOTHING)
def test_the_first_stage_is_the_naive_one_and_the_second_is_not(naive: Any, tmp_path: Path, name: str) -> None:
    folder, plain = naive
    result = carried_out(stages(folder, **SOMETHING[name]), tmp_path / "run")
    assert weights_of(result)[0] == weights_of(plain)[0]
    assert weights_of(result)[1] != weights_of(plain)[1]


def test_a_gem_that_never_projects_is_the_naive_run(
    naive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plain = naive
    asked: list[float] = []
    project = a_gem.project

    def along(gradient: Any, reference: Any) -> bool:
        """As if the reference were the gradient itself: never against it."""
        asked.append(1.0)
        return project(gradient, {name: g.clone() for name, g in gradient.items()})

    monkeypatch.setattr(a_gem, "project", along)
    result = carried_out(stages(folder, gradients="a-gem"), tmp_path / "run")
    assert len(asked) == 6
    assert weights_of(result) == weights_of(plain)


def test_no_stage_reads_rows_of_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a stage runs, blocks are read of its own data (and held-out sets) alone."""
    read: list[set[str]] = []
    get, names = Blocks.__getitem__, Blocks.__init__

    def named(self: Blocks, name: Path, **settings: Any) -> None:
        names(self, name, **settings)
        self.folder = name.parent.name  # type: ignore[attr-defined]

    def watched(self: Blocks, number: int) -> Any:
        read[-1].add(self.folder)  # type: ignore[attr-defined]
        return get(self, number)

    monkeypatch.setattr(Blocks, "__init__", named)
    monkeypatch.setattr(Blocks, "__getitem__", watched)
    import warmstart.run_recipe as module

    run_stage = module._run_stage

    def counted(*given: Any, **more: Any) -> None:
        read.append(set())
        run_stage(*given, **more)

    monkeypatch.setattr(module, "_run_stage", counted)
    every = [part for given in SOMETHING.values() for part in given.get("penalties", [])]
    carried_out(stages(tmp_path, every, count=3, gradients="a-gem"), tmp_path / "run")
    assert [len(folders) for folders in read] == [1, 1, 1]
    assert len(set().union(*read)) == 3


def test_the_flops_of_a_gem_are_those_of_both_gradients(naive: Any, tmp_path: Path) -> None:
    folder, plain = naive
    raw = stages(folder, gradients={"type": "a-gem", "batch": 4})  # as many rows as a step has
    result = carried_out(raw, tmp_path / "run")
    assert result.stages[0]["flops"] == plain.stages[0]["flops"]
    assert result.stages[1]["flops"] == pytest.approx(2 * plain.stages[1]["flops"])


def test_what_a_stage_measures_at_its_end_is_counted_and_paid_by_the_next(naive: Any, tmp_path: Path) -> None:
    folder, plain = naive
    per_step = plain.stages[0]["flops"] / 6
    raw = stages(folder, [{"type": "ewc", "batches": 2}])
    raw["stages"][1]["budget"] = {"flops": 6 * per_step}
    result = carried_out(raw, tmp_path / "run")
    assert result.stages[0]["finish_flops"] == pytest.approx(2 * per_step)  # forward and backward
    assert result.stages[1]["steps"] == 4
    assert result.stages[1]["flops"] == pytest.approx(6 * per_step)
    assert plain.stages[0]["finish_flops"] == 0


def test_the_same_penalty_twice(tmp_path: Path) -> None:
    for name in ("ewc", "synaptic-intelligence", "rwalk", "replay"):
        with pytest.raises(ValueError, match=f"penalties: '{name}' stands there 2 times; it may stand only once"):
            Recipe.model_validate(stages(tmp_path, [{"type": name}, {"type": name}]))


def test_a_model_that_grew_and_one_that_shrank(tmp_path: Path) -> None:
    """Weights that grew are pulled where they were known; what is new is free. A smaller model is refused."""
    every = [part for name in ("ewc", "synaptic-intelligence", "rwalk") for part in SOMETHING[name]["penalties"]]
    raw = stages(tmp_path, every)
    raw["stages"][1]["surgery"] = [{"type": "grow", "to": {"n_embd": 24}}]
    result = carried_out(raw, tmp_path / "grown")
    assert result.stages[1]["parameters"] > result.stages[0]["parameters"]


def test_rows_of_another_length(tmp_path: Path) -> None:
    for settings in (SOMETHING["replay"], SOMETHING["a-gem"]):
        raw = stages(tmp_path, **copy.deepcopy(settings))
        raw["stages"][1]["data"]["length"] = 8
        name = next(iter(settings))
        with pytest.raises(DataError, match=f"{name} .*: remembered rows have 16 tokens, those of this stage 8"):
            carried_out(raw, tmp_path / name)


def test_another_tokenizer_and_smaller_weights(tmp_path: Path) -> None:
    from corpora import save_tiny_model

    from warmstart.train.penalties.ewc import Ewc

    other = str(save_tiny_model(tmp_path / "other"))
    raw = stages(tmp_path, [{"type": "replay"}])
    raw["stages"][1]["tokenizer"] = {"load": other}
    write_corpus(tmp_path / "1.jsonl", seed=1)
    with pytest.raises(ModelError, match="penalties replay: remembered rows are ids of another tokenizer"):
        carried_out(raw, tmp_path / "run")
    assert Ewc().once
