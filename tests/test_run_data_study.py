"""Studies without training: what they may say, what they measure, and that verdict and page do without FLOPs."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from warmstart.plan import describe
from warmstart.recipe_study import Study
from warmstart.report.results import Results
from warmstart.report.table import comparison_markdown
from warmstart.run_study import study as carry_out
from warmstart.verdict import effect


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows' ids have the path as the recipe gives it, and draws depend on ids: a relative path gives the same draws."""
    monkeypatch.chdir(tmp_path)


def raw_study(folder: Path) -> dict[str, Any]:
    """A pool in which one entry has most rows."""
    texts = [f"cat number {n}" for n in range(60)] + [f"{name} number {n}" for name in ("dog", "cow") for n in range(5)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    match = {"type": "metadata-filter", "metadata": ["cat", "dog", "cow", "emu"]}
    return {
        "title": "flatten",
        "compare": {"metric": "rows/entropy", "better": "higher", "baseline": "random", "at": "no-training"},
        "shared": {
            "data": {"source": {"type": "files", "path": "rows.jsonl"}, "curate": [match]},
            "evaluate": {"evaluators": ["entry-histogram"]},
        },
        "arms": {
            "pool": [{}],
            "random": [{"data": {"curate": [match, {"type": "equal-size-sample", "threshold": 8}]}}],
            "balanced": [{"data": {"curate": [match, {"type": "metadata-balance", "threshold": 8}]}}],
        },
    }


def run(raw: dict[str, Any], out: Path) -> Results:
    carry_out(Study.model_validate(raw), slug="flatten", scale="smoke", out=out, console=Console(file=io.StringIO()))
    return Results.load(out / "results.json")


def test_measures_the_rows_of_every_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    results = run(raw_study(tmp_path), tmp_path / "out")
    assert not results.trained
    kept = {name: arm.measured["rows/kept"] for name, arm in results.arms.items()}
    assert kept["pool"] == [70, 70, 70]
    assert kept["random"] == kept["balanced"]  # of each seed
    assert len(set(results.arms["balanced"].final)) > 1  # another seed is another draw
    assert all(arm.flops == [0, 0, 0] for arm in results.arms.values())
    assert results.arms["balanced"].final == results.arms["balanced"].measured["rows/entropy"]
    balanced = results.effects["balanced"]
    assert balanced.verdict == "holds"
    assert balanced.difference.mean is not None
    assert balanced.difference.mean > 0
    assert balanced.saving.mean is None
    assert results.effects == results.recomputed()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What the rows hold" in page
    assert "without training" in page
    assert "What it saved" not in page
    assert "never reached" not in page + comparison_markdown(results)
    again = run(raw_study(tmp_path), tmp_path / "again")
    assert {name: arm.measured for name, arm in again.arms.items()} == {n: a.measured for n, a in results.arms.items()}


def test_a_plan_says_how_rows_are_made(tmp_path: Path) -> None:
    lines = "\n".join(describe(Study.model_validate(raw_study(tmp_path))))
    assert "metadata-balance (threshold 8.0)" in lines
    assert "entry-histogram" in lines
    assert "budget" not in lines


WRONG = [
    ("compare.flops", 1e9, "without training there are no FLOPs"),
    ("arms.pool.0.budget", {"steps": 3}, "budget: has no meaning"),
    ("arms.pool.0.from", "model", "from: has no meaning"),
    ("arms.pool.0.evaluate", {"evaluators": ["held-out"]}, "'held-out' needs a model"),
    ("arms.pool", [], "an arm is one stage, found 0"),
    ("sources", {"m": [{}]}, "no model is started from"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[path for path, *_ in WRONG])
def test_training_has_no_place(tmp_path: Path, path: str, value: Any, message: str) -> None:
    raw = copy.deepcopy(raw_study(tmp_path))
    node: Any = raw
    *steps, last = path.split(".")
    for step in steps:
        node = node[int(step) if isinstance(node, list) else step]
    node[last] = value
    with pytest.raises(ValidationError, match=message):
        Study.model_validate(raw)


def test_without_flops_the_difference_alone_decides() -> None:
    def curves(values: list[float]) -> list[Any]:
        return [[{"flops": 0.0, "value": value}] for value in values]

    base = curves([1.0, 1.1, 0.9])
    for values, verdict in (
        ([2.0, 2.1, 2.0], "holds"),
        ([0.1, 0.2, 0.1], "does not hold"),
        ([1.0, 1.2, 0.7], "unclear"),
    ):
        assert effect(curves(values), base, [0.0] * 3, "higher")["verdict"] == verdict
        flipped = {"holds": "does not hold", "does not hold": "holds"}.get(verdict, verdict)
        assert effect(curves(values), base, [0.0] * 3, "lower")["verdict"] == flipped
