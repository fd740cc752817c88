"""Ctrl-C and SIGTERM at every phase of a run: one line that says how to go on, exit code 130, and the same end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.child import run_in_child
from faults.moments import when
from faults.processes import Started
from faults.runs import own_cache, result, two_stages

from warmstart.recipe import Recipe
from warmstart.train.interrupts import terminated_like_ctrl_c

PHASES = {
    "data": "warmstart.data.prepare:_make",
    "tokenizer": "warmstart.models.tokenizer:train_tokenizer",
    "step": "warmstart.train.loop:Training.clip",
    "evaluation": "warmstart.train.loop:Training.evaluate",
    "saving": "warmstart.train.saving:save_state",
    "export": "warmstart.run_recipe:save_model",
    "finish": "warmstart.run_recipe:_finish_stage",
    "report": "warmstart.run_recipe:_write_report",
}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("signals")
    own_cache(folder)
    recipe = Recipe.model_validate(two_stages(folder / "text"))
    assert run_in_child(recipe, folder / "whole").how == "done"
    return {"recipe": recipe, "expected": result(folder / "whole")}


def send(number: int) -> Callable[[], None]:
    def fault() -> None:
        os.kill(os.getpid(), number)

    return fault


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, phase: str
) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    end = run_in_child(whole["recipe"], tmp_path / "run", lambda: arm(phase, number))
    assert end.how == "interrupted", end.said
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name], "drafts stay behind"
    assert run_in_child(whole["recipe"], tmp_path / "run").how == "done"
    assert result(tmp_path / "run") == whole["expected"]


def arm(phase: str, number: int) -> None:
    """In the child: what the command line does about SIGTERM, and the signal."""
    global handled  # the child ends inside of it
    handled = terminated_like_ctrl_c()
    handled.__enter__()
    when(PHASES[phase], send(number), call=2 if phase == "step" else 1)()


@pytest.mark.slow
@SIGNALS
def test_what_the_command_line_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(two_stages(tmp_path, steps=4000, save_every=500)))
    started = Started(recipe, tmp_path / "run")
    metrics = tmp_path / "run/stages/00-first/metrics.jsonl"
    started.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 20)
    started.process.send_signal(number)
    assert started.end() == 130
    said = started.said().strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("interrupted at step ")
    assert "the state is saved; resume with: warmstart run" in said[0]
