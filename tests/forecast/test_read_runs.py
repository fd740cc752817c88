"""Curves from runs, and the command that forecasts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from warmstart.cli import app
from warmstart.errors import DataError
from warmstart.forecast.read_runs import decays, kind_of, metrics_file, read_curve
from warmstart.part import find


def run_folder(
    folder: Path, points: list[tuple[float, float]], schedule: Any = "cosine", metric: str = "validation/loss"
) -> Path:
    stage = folder / "stages" / "00-stage"
    stage.mkdir(parents=True)
    lines = [{"step": 0, "tokens": 0, "flops": 0.0, metric: 9.0}, {"step": 1, "tokens": 5, "flops": 1.0, "loss": 8.0}]
    lines += [{"step": k + 2, "tokens": t, "flops": 2.0 * t, metric: v} for k, (t, v) in enumerate(points)]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"stages": [{"train": {"schedule": schedule}}]}))
    return folder


def losses(tokens: float) -> float:
    return 2 + 3 * (tokens / 1000) ** -0.5


def one_run(folder: Path, schedule: Any = "constant") -> Path:
    return run_folder(folder, [(1000 * k, losses(1000 * k)) for k in range(1, 21)], schedule)


def test_the_ends_of_several_runs_are_a_curve(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / str(k), [(500, 7.0), (1000 * k, losses(1000 * k))]) for k in (3, 1, 2, 4)]
    found = read_curve(runs)
    assert list(found.curve.x) == [1000, 2000, 3000, 4000]
    assert list(found.curve.mean) == pytest.approx([losses(x) for x in found.curve.x])
    assert found.curve.kind == "loss"
    assert not found.notes
    assert list(read_curve(runs, axis="flops").curve.x) == [2000, 4000, 6000, 8000]


def test_runs_of_one_amount_are_orders_and_every_amount_has_as_many(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / f"{k}-{s}", [(1000 * k, 5.0 + s - k)]) for k in (1, 2, 3) for s in (0, 1)]
    assert read_curve(runs).curve.values.tolist() == [[4, 3, 2], [5, 4, 3]]
    with pytest.raises(DataError, match="1 of the runs end at 3000 tokens, 2 at others"):
        read_curve(runs[:-1])


def test_one_run_is_a_curve_only_while_its_rate_stands_still(tmp_path: Path) -> None:
    steady = read_curve([one_run(tmp_path / "steady")])
    assert steady.curve.levels == 20
    assert not steady.notes
    decayed = read_curve([one_run(tmp_path / "decayed", {"type": "cosine", "warmup": 0.1})])
    assert "learning rate decays (cosine)" in decayed.notes[0]
    assert "not a learning curve" in decayed.notes[0]
    bare = one_run(tmp_path / "bare") / "stages" / "00-stage" / "metrics.jsonl"
    (tmp_path / "bare" / "recipe.yaml").unlink()
    assert "only if its learning rate did not decay" in read_curve([bare]).notes[0]


@pytest.mark.parametrize(
    ("name", "falls"), [("constant", False), ("cosine", True), ("linear", True), ("wsd", True), ("inverse-sqrt", True)]
)
def test_which_schedules_decay(name: str, falls: bool) -> None:
    assert decays(find("schedules", name)()) is falls  # type: ignore[arg-type]


def test_what_a_metric_is_by_how_it_moves() -> None:
    assert kind_of([5, 4]) == "loss"
    assert kind_of([0.2, 0.9]) == "share"
    assert kind_of([20, 90]) == "accuracy"


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run")
    with pytest.raises(DataError, match=r"no metric 'validation/los' \(did you mean 'validation/loss'\?\)"):
        read_curve([run], "validation/los")
    with pytest.raises(DataError, match="no such file or folder"):
        metrics_file(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no metrics\.jsonl in it"):
        metrics_file(tmp_path / "empty")
    with pytest.raises(DataError, match="at least 3 points, found 2"):
        read_curve([run_folder(tmp_path / "short", [(10, 5.0), (20, 4.0)])])
    with pytest.raises(DataError, match="not evaluated after the first step"):
        read_curve([run_folder(tmp_path / "none", [])])


# ---- the command -----------------------------------------------------------------------------------------------------


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, ["forecast", *map(str, words)])


def test_the_command_forecasts_with_an_interval(tmp_path: Path) -> None:
    shown = invoke(one_run(tmp_path / "run"), "--at", 80000, "--goal", 2.3, "--tolerance", 1.0)
    assert shown.exit_code == 0
    assert f"at 80,000 tokens: {losses(80000):.4g} [" in shown.output
    assert "(95 %)" in shown.output
    assert "limit 2, 0.671 left to gain" in shown.output
    assert "2.3 needs 1e+05 tokens" in shown.output
    assert "at most 1 left to gain from: level 9, 9,000 tokens" in shown.output
    assert "█" in shown.output


def test_the_command_says_that_it_is_too_early(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", [(1000 * k, losses(1000 * k)) for k in range(1, 6)])
    shown = invoke(run, "--goal", 2.5)
    assert shown.exit_code == 0
    assert "no forecast yet: 5 points of 8" in shown.output
    assert "learning rate decays" in shown.output
    assert "needs" not in shown.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give runs to forecast, or --replay"),
        (("run", "--replay", "."), "one of the two"),
        (("nowhere",), "nowhere: no such file or folder"),
        (("run", "--forecaster", "learning-curv"), "did you mean 'learning-curve'?"),
        (("run", "--at", "-3"), "an amount above 0, found -3"),
        (("run", "--goal", "-1"), "--goal: found -1"),
        (("run", "--forecaster", "last-value", "--goal", "1"), "no curve that could reach a goal"),
        (("--replay", "nowhere"), "nowhere: no results of a study"),
        (("--replay", "run"), "run: no results of a study"),
    ],
)
def test_the_command_tells_what_is_wrong_in_one_line(tmp_path: Path, monkeypatch, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    one_run(tmp_path / "run")
    shown = invoke(*words)
    assert shown.exit_code == 2
    assert message in shown.output
    assert shown.output.count("error: ") == 1


def test_the_command_replays_committed_results() -> None:
    results = Path(__file__).resolve().parents[2] / "results"
    shown = invoke("--replay", results)
    assert shown.exit_code == 0
    assert "weights/bert2bert.json: " in shown.output
    assert "curation/metaclip.json: nothing to replay" in shown.output
    assert "each arm as the baseline in turn" in shown.output
    alone = invoke("--replay", results / "weights" / "bert2bert.json")
    assert "bert2bert.json: " in alone.output
