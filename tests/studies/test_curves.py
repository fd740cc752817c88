"""Curves over stages: what is joined, and what is not comparable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpora import tiny_recipe

from warmstart.recipe import Recipe
from warmstart.studies.curves import curve_of, on_one_held_out_set


def two_stages(tmp_path: Path, *, same: bool) -> Recipe:
    """A recipe of two stages, and the metrics that they would have left: 5, 4, 3, then 9, 8, 7."""
    first = tiny_recipe(tmp_path / "one.jsonl")["stages"][0]
    data = first["data"] if same else first["data"] | {"source": {"type": "files", "path": str(tmp_path / "two.jsonl")}}
    second = {key: first[key] for key in ("train", "budget", "evaluate")} | {"data": data}
    for number in (0, 1):
        folder = tmp_path / f"run/stages/0{number}-stage"
        folder.mkdir(parents=True)
        used = [{"step": n, "flops": 10.0 * n, "tokens": n, "seconds": n} for n in range(3)]
        lines = [line | {"validation/loss": 5.0 + 4 * number - n, "probe/x": 1.0} for n, line in enumerate(used)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "stage.json").write_text(json.dumps(used[-1]))
    return Recipe.model_validate({"stages": [first | {"name": None}, second]})


@pytest.mark.parametrize("same", [True, False])
def test_a_stage_on_other_texts_begins_a_curve_of_its_own(tmp_path: Path, same: bool) -> None:
    recipe = two_stages(tmp_path, same=same)
    joined = curve_of(recipe, tmp_path / "run", "validation/loss")
    assert joined["values"] == [5.0, 4.0, 3.0, 8.0, 7.0]
    assert joined["flops"] == [0.0, 10.0, 20.0, 30.0, 40.0]
    cut = on_one_held_out_set(recipe, "validation/loss", joined)
    assert cut == ([5.0, 4.0, 3.0, 8.0, 7.0] if same else [None, None, None, 8.0, 7.0])
    other = curve_of(recipe, tmp_path / "run", "probe/x")  # the same rows in every stage
    assert on_one_held_out_set(recipe, "probe/x", other) == [1.0] * 5
