"""Exact resume: a run killed at any moment ends with the weights of a run that was never killed.

The runs are forked from the test's own process (which has imported everything), so that dozens of kills take seconds.
A kill inside a save is made certain by counting the calls of `os.fsync`, `os.rename` and `os.replace`: the child sends
itself SIGKILL at the chosen call.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus
from kills import kill_at_disk_call, kill_at_step, run_killed

from warmstart.errors import StateError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter


def final_weights(out: Path) -> str:
    return json.loads((out / "stages" / "00-first" / "stage.json").read_text())["weights"]


@pytest.fixture(scope="module", params=["causal", "masked"])
def uninterrupted(request, tmp_path_factory) -> tuple[Recipe, str, Path]:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp(request.param)
    corpus = write_corpus(folder / "corpus.jsonl")
    recipe = Recipe.model_validate(
        tiny_recipe(
            corpus, objective=request.param, steps=80, save_every=7, save_in_background=request.param == "causal"
        )
    )
    os.environ["WARMSTART_CACHE"] = str(folder / "cache")
    run(recipe, folder / "whole", reporter=Reporter())
    return recipe, final_weights(folder / "whole"), folder


@pytest.mark.slow
def test_killed_at_random_moments(uninterrupted, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe, expected, folder = uninterrupted
    monkeypatch.setenv("WARMSTART_CACHE", str(folder / "cache"))
    draw = random.Random(0)
    facts = json.loads((folder / "whole/stages/00-first/stage.json").read_text())
    assert facts["data"]["statistics"]["train_tokens"] < facts["tokens"] / 1.5, "too short: it sees no second epoch"
    # in the first epoch, then again after it, then once more: first, second and third resume
    kills = [
        kill_at_step(draw.randrange(2, 20)),
        kill_at_step(draw.randrange(25, 50)),
        kill_at_step(draw.randrange(55, 79)),
    ]
    assert all(run_killed(recipe, tmp_path / "run", kill) for kill in kills)
    run(recipe, tmp_path / "run", reporter=Reporter())
    assert final_weights(tmp_path / "run") == expected
    assert metrics(tmp_path / "run") == metrics(folder / "whole")


@pytest.mark.slow
def test_killed_inside_saves(uninterrupted, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe, expected, folder = uninterrupted
    monkeypatch.setenv("WARMSTART_CACHE", str(folder / "cache"))
    draw = random.Random(1)
    killed = 0
    for number in [*draw.sample(range(1, 90), 6)]:
        killed += run_killed(recipe, tmp_path / "run", kill_at_disk_call(number))
    assert killed >= 2, "no kill fell into a save: the test does not test"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(recipe, tmp_path / "run", reporter=Reporter())
    assert final_weights(tmp_path / "run") == expected


def metrics(out: Path) -> list[dict]:
    """The lines of metrics.jsonl without the clock."""
    lines = [json.loads(line) for line in (out / "stages/00-first/metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def test_newest_state_broken(uninterrupted, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe, expected, folder = uninterrupted
    monkeypatch.setenv("WARMSTART_CACHE", str(folder / "cache"))
    assert run_killed(recipe, tmp_path / "run", kill_at_step(30))
    newest = sorted((tmp_path / "run/stages/00-first/state").glob("step-*"))[-1]
    weights = next(newest.glob("model*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.warns(UserWarning, match=newest.name):
        run(recipe, tmp_path / "run", reporter=Reporter())
    assert final_weights(tmp_path / "run") == expected


def test_changed_data_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    recipe = Recipe.model_validate(tiny_recipe(corpus, steps=8))
    assert run_killed(recipe, tmp_path / "run", kill_at_step(5))
    write_corpus(corpus, documents=61)
    with pytest.raises(StateError, match="--accept-changed-data"):
        run(recipe, tmp_path / "run", reporter=Reporter())
    run(recipe, tmp_path / "run", reporter=Reporter(), accept_changed_data=True)
    assert final_weights(tmp_path / "run")


def test_a_changed_further_set_is_refused(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "corpus.jsonl"), steps=8)
    old = write_corpus(tmp_path / "old.jsonl", seed=5)
    raw["stages"][0]["evaluate"]["also"] = {"old": {"source": {"type": "files", "path": str(old)}}}
    recipe = Recipe.model_validate(raw)
    run(recipe, tmp_path / "whole", reporter=Reporter())
    assert run_killed(recipe, tmp_path / "run", kill_at_step(5))
    before = old.read_bytes()
    write_corpus(old, documents=61)
    with pytest.raises(StateError, match=r"held-out set 'old'.*--accept-changed-data"):
        run(recipe, tmp_path / "run", reporter=Reporter())
    old.write_bytes(before)
    run(recipe, tmp_path / "run", reporter=Reporter())
    one, two = (json.loads((tmp_path / n / "stages/00-first/stage.json").read_text()) for n in ("whole", "run"))
    assert one["forgetting"] == two["forgetting"]


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    raw = tiny_recipe(corpus, steps=2)
    run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())
    with pytest.raises(StateError, match="another recipe"):
        run(Recipe.model_validate(raw | {"seed": 8}), tmp_path / "run", reporter=Reporter())
    run(Recipe.model_validate(raw | {"seed": 8}), tmp_path / "run", resume=False, reporter=Reporter())
    shutil.rmtree(tmp_path / "run")
