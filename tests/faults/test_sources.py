"""The folder that the data, or the weights, come from is removed: while the run works, and between two runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from corpora import save_tiny_model
from faults.child import run_in_child
from faults.moments import when
from faults.runs import own_cache, result, two_stages

from warmstart.recipe import Recipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sources")
    own_cache(folder)
    raw = two_stages(folder / "text")
    del raw["stages"][0]["init"], raw["stages"][0]["tokenizer"]
    raw["stages"][0]["from"] = str(save_tiny_model(folder / "model"))
    recipe = Recipe.model_validate(raw)
    assert run_in_child(recipe, folder / "whole").how == "done"
    return {"recipe": recipe, "expected": result(folder / "whole"), "folder": folder}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["text", "model"])
@pytest.mark.parametrize(
    ("moment", "call"),
    [
        ("warmstart.run_recipe:prepare", 1),
        ("warmstart.data.curated:_Pass.read_source", 2),
        ("warmstart.train.loop:Training.clip", 5),
        ("warmstart.train.loop:Training.clip", 17),
        ("warmstart.run_recipe:save_model", 1),
    ],
)
def test_a_folder_is_removed(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, moment: str, call: int
) -> None:
    """Where the run still needs it, it says what is missing; when the folder is back, it goes on to the same end."""
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    place, aside = whole["folder"] / what, whole["folder"] / "aside"
    try:
        end = run_in_child(whole["recipe"], tmp_path / "run", when(moment, lambda: shutil.move(place, aside), call))
        again = run_in_child(whole["recipe"], tmp_path / "run")
    finally:
        shutil.move(aside, place)
    for one in (end, again):
        assert one.how in ("done", "refused"), one.said
        if one.how == "refused":
            assert str(place) in one.said
            assert "\n" not in one.said
    print(what, moment, call, end.how, again.how, again.said.replace(str(whole["folder"]), ""))
    assert run_in_child(whole["recipe"], tmp_path / "run").how == "done"
    assert result(tmp_path / "run") == whole["expected"]
