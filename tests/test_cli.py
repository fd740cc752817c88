"""The command line: exit codes, one line per error, and nothing heavy before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import warmstart
from warmstart.cli import app
from warmstart.data.engine import Engine
from warmstart.errors import Interrupted, ModelError
from warmstart.part import ROOM_PACKAGES, parts

RECIPE = """\
stages:
  - init: {like: gpt2, n_embd: 32, n_head: 2, n_layer: 1}
    tokenizer: {train: 300}
    data: {source: python-stdlib, length: 32}
    budget: {steps: 5}
"""
STUDY = """\
title: growth
compare: {baseline: scratch, flops: 1e10}
shared: {data: {source: python-stdlib, length: 32}, tokenizer: {train: 300}}
arms:
  scratch: [{init: {like: gpt2, n_embd: 32, n_head: 2, n_layer: 1}}]
scales: {smoke: {compare.seeds: 1}}
"""


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "growth.yaml"
    path.write_text(STUDY)
    return path


class Workers:
    """Stands in for the functions that do the work and remembers how each was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.monkeypatch = monkeypatch
        for room in ROOM_PACKAGES:  # found for good, before a module of theirs is replaced
            parts(room)
        self.replace("warmstart.run_recipe", "run", types.SimpleNamespace(model=Path("there/model")))
        self.replace("warmstart.run_study", "study", {})
        growth = types.SimpleNamespace(
            old_parameters=1000,
            new_parameters=4000,
            promise="exactly",
            reason="why",
            largest=1e-7,
            mean=1e-8,
            seconds=2,
        )
        self.replace("warmstart.surgery.grow", "grow", growth)
        self.replace("warmstart.report.page", "render", Path("there/report.html"))

    def replace(self, module: str, name: str, outcome: Any) -> None:
        def work(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((args, kwargs))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        fake = types.ModuleType(module)
        setattr(fake, name, work)
        self.monkeypatch.setitem(sys.modules, module, fake)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


@pytest.mark.slow
def test_help_and_version_import_nothing_heavy():
    script = """
import sys
from warmstart.cli import app
for arguments in (["--help"], ["--version"], ["study", "--help"], ["catalog"], ["catalog", "grow", "--json"]):
    try:
        app(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
heavy = {"torch", "transformers", "numpy", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"warmstart {warmstart.__version__}" in done.stdout
    for command in ("run", "study", "grow", "check", "catalog", "report", "schema"):
        assert command in done.stdout


@pytest.mark.slow
def test_a_bad_recipe_in_a_real_process_ends_with_code_2_and_one_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(RECIPE.replace("steps: 5", "stpes: 5"))
    done = subprocess.run(
        [sys.executable, "-m", "warmstart.cli", "run", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines == [
        f"error: {path}:5: stages.0.budget.stpes: unknown field 'stpes' (did you mean 'steps'?); "
        "allowed: steps, tokens, flops, seconds, share"
    ]
    assert list(tmp_path.iterdir()) == [path], "nothing may be left behind"


def test_several_problems_are_several_lines(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(RECIPE.replace("steps: 5", "steps: 0").replace("length: 32", "length: x"))
    result = invoke("check", path)
    assert result.exit_code == 2
    assert [line[: len("error: ")] for line in result.stderr.splitlines()] == ["error: ", "error: "]


def test_run_passes_everything_on(recipe, workers, tmp_path):
    result = invoke(
        "run", recipe, "--out", tmp_path / "o", "--fresh", "--set", "stages.0.budget.steps=7", "--set", "seed=3"
    )
    assert result.exit_code == 0, result.output
    (read, out), options = workers.calls[0]
    assert read.stages[0].budget.steps == 7
    assert read.seed == 3
    assert out == tmp_path / "o"
    assert options["resume"] is False
    assert "there/model" in result.stdout
    invoke("run", recipe)
    (_, out), options = workers.calls[1]
    assert out == Path("runs/small")
    assert options["resume"] is True


def test_study_passes_everything_on(study, workers, tmp_path):
    result = invoke(
        "study", study, "--scale", "smoke", "--seeds", 2, "--arms", "scratch, other", "--jobs", 1,
        "--cpus", 2, "--gpus", 0.5, "--engine", "ray", "--workers", 3,
        "--out", tmp_path / "o", "--results", tmp_path / "r", "--set", "shared.data.length=16",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (read,), options = workers.calls[0]
    assert read.compare.seeds == 1
    assert read.arms["scratch"][0].data.length == 16
    options.pop("console")
    assert options == {
        "slug": "growth",
        "scale": "smoke",
        "out": tmp_path / "o",
        "seeds": 2,
        "arms": ["scratch", "other"],
        "jobs": 1,
        "cpus": 2,
        "gpus": 0.5,
        "resume": True,
        "results": tmp_path / "r",
        "engine": Engine("ray", 3),
    }
    assert invoke("study", "bert2bert", "--scale", "smoke", "--fresh").exit_code == 0
    options = workers.calls[1][1]
    assert options["slug"] == "bert2bert"
    assert options["out"] == Path("runs/bert2bert-smoke")
    assert options["arms"] is None
    assert options["resume"] is False


def test_grow_passes_everything_on(workers):
    result = invoke(
        "grow",
        "small",
        "large",
        "--to",
        "n_embd=64",
        "--to",
        "n_layer=3",
        "--width",
        "aki",
        "--depth",
        "identity",
        "--variant",
        "paired",
        "--mapping",
        "random",
        "--noise",
        0.1,
        "--seed",
        5,
    )
    assert result.exit_code == 0, result.output
    args, options = workers.calls[0]
    assert args == ("small", Path("large"))
    assert options == {
        "to": {"n_embd": 64, "n_layer": 3},
        "width": "aki",
        "depth": "identity",
        "variant": "paired",
        "mapping": "random",
        "noise": 0.1,
        "seed": 5,
    }
    assert "1,000 -> 4,000 weights" in result.stdout
    assert "largest logit difference 1e-07" in result.stdout
    assert invoke("grow", "small", "large", "--to", "n_embd").exit_code == 2
    assert invoke("grow", "small", "large").exit_code == 2
    assert invoke("grow", "small", "large", "--to", "a=1", "--width", "wider").exit_code == 2
    assert len(workers.calls) == 1


def test_report_says_where_the_page_is(workers):
    assert "there/report.html" in invoke("report", "folder").stdout


def test_the_wrong_command_names_the_right_one(recipe, study):
    result = invoke("run", study)
    assert result.exit_code == 2
    assert result.stderr == f"error: {study}: it is a study; use: warmstart study {study}\n"
    result = invoke("study", recipe)
    assert result.exit_code == 2
    assert result.stderr == f"error: {recipe}: it is a recipe; use: warmstart run {recipe}\n"


def test_user_errors_of_the_work_are_one_line(recipe, workers):
    workers.replace("warmstart.run_recipe", "run", ModelError("the model 'x' has no weights"))
    result = invoke("run", recipe)
    assert (result.exit_code, result.stderr) == (2, "error: the model 'x' has no weights\n")


@pytest.mark.parametrize("error", [Interrupted("interrupted; state saved"), KeyboardInterrupt()])
def test_an_interruption_says_how_to_resume(error, recipe, workers):
    workers.replace("warmstart.run_recipe", "run", error)
    result = invoke("run", recipe, "--fresh", "--set", "title=a b")
    assert result.exit_code == 130
    assert result.stderr.endswith(f"resume with: warmstart run {recipe} --set 'title=a b'\n")
    assert len(result.stderr.splitlines()) == 1


def test_a_defect_keeps_its_traceback(recipe, workers):
    workers.replace("warmstart.run_recipe", "run", ZeroDivisionError("ours"))
    result = invoke("run", recipe)
    assert isinstance(result.exception, ZeroDivisionError)


def test_check_says_what_would_happen(recipe, study):
    result = invoke("check", recipe)
    assert result.exit_code == 0, result.output
    for fragment in ("1 stage", "a new gpt2 model with 55,136 weights", "python-stdlib", "5 steps", "causal", "adamw"):
        assert fragment in result.stdout
    result = invoke("check", study)
    assert result.exit_code == 0, result.output
    for fragment in ("arm scratch (baseline)", "1e+10 flops, about 3e+04 tokens", "scales: smoke", "3 seeds"):
        assert fragment in result.stdout
    assert "1 seed," in invoke("check", study, "--scale", "smoke").stdout
    assert invoke("check", recipe, "--scale", "smoke").exit_code == 2


def test_check_finds_what_only_one_scale_breaks(study):
    study.write_text(STUDY.replace("compare.seeds: 1", "compare.seeds: 0"))
    result = invoke("check", study)
    assert result.exit_code == 2
    assert "scales.smoke.compare.seeds: found 0; must be greater than 0" in result.stderr


def test_check_finds_a_field_that_the_model_does_not_have(recipe):
    result = invoke("check", recipe, "--set", "stages.0.init.n_emd=3")
    assert result.exit_code == 2
    assert "did you mean 'n_embd'?" in result.stderr


def test_check_of_the_packaged_study():
    result = invoke("check", "bert2bert")
    assert result.exit_code == 0, result.output
    assert "width aki" in result.stdout
    assert "keeps the function exactly" in result.stdout


@pytest.mark.parametrize("words", [[], ["grow a model"], ["skillit"], ["data"]])
def test_catalog_fits_80_columns(words):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["catalog", *words])
    assert result.exit_code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_catalog_shows_all_in_short_and_what_was_looked_for_in_full():
    every = invoke("catalog").stdout
    assert "bert2bert" in every
    assert "meco" in every
    assert "warmstart study" not in every
    found = " ".join(invoke("catalog", "grow", "a", "model").stdout.split())
    assert found.index("bert2bert") == 0
    for piece in ("47 % training compute saved", "holds", "aki-two-stage", "GPT_BASE (117M)", "1.07 M parameters"):
        assert piece in found
    assert "warmstart study bert2bert --model MODEL --to width=WIDTH --data DATA" in found
    assert "no system fits 'quantum'" in invoke("catalog", "quantum").stdout


def test_catalog_for_scripts_and_as_a_page(tmp_path):
    found = json.loads(invoke("catalog", "bert2bert", "--json").stdout)
    assert found[0]["slug"] == "bert2bert"
    assert found[0]["verdict"] == "holds"
    assert found[0]["arms"]["aki-short-source"] == "unclear"
    assert json.loads(invoke("catalog", "quantum", "--json").stdout) == []
    assert invoke("catalog", "--html", tmp_path / "g.html").exit_code == 0
    assert "bert2bert" in (tmp_path / "g.html").read_text()


def test_catalog_writes_and_checks_the_docs(tmp_path):
    result = invoke("catalog", "--docs", tmp_path, "--check")
    assert result.exit_code == 2
    assert "gallery.md" in result.stderr
    assert f"warmstart catalog --docs {tmp_path}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert invoke("catalog", "--docs", tmp_path).exit_code == 0
    assert invoke("catalog", "--docs", tmp_path, "--check").exit_code == 0
    assert invoke("catalog", "--check").exit_code == 2
    assert invoke("catalog", "meco", "--docs", tmp_path).exit_code == 2


def test_schema_to_the_terminal_and_to_a_file(tmp_path):
    shown = json.loads(invoke("schema", "study").stdout)
    assert "arms" in shown["properties"]
    assert "stages" in json.loads(invoke("schema").stdout)["properties"]
    assert invoke("schema", "study", "--out", tmp_path / "s.json").exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text()) == shown
    result = invoke("schema", "--out", tmp_path / "none" / "s.json")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
