"""Runs as tasks of a Ray cluster of two cores: what comes out is what comes out on one machine, whoever is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from corpora import write_corpus
from rich.console import Console
from tiny_studies import tiny_study

from warmstart.data.engine import Engine
from warmstart.errors import UserError
from warmstart.recipe_file import read_study
from warmstart.recipe_study import Study
from warmstart.run_study import study as carry_out
from warmstart.studies.owners import first_line

SAVE_EVERY = 60
FLOPS = 4e9


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    study = Study.model_validate(tiny_study(tmp_path / "c.jsonl"))
    with pytest.raises(UserError, match=r"^--engine ray needs Ray: pip install 'warmstart\[ray\]'$"):
        carry_out(study, slug="t", scale="x", out=tmp_path / "out", engine=Engine("ray"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two cores on this machine."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMSTART_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        ray.shutdown()  # what the data tests may have left
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def two_arms(folder: Path) -> dict[str, Any]:
    raw = tiny_study(write_corpus(folder / "c.jsonl"), flops=FLOPS)
    del raw["arms"]["staged"]
    raw["shared"]["data"]["source"]["path"] = "c.jsonl"  # relative to where the study is started
    raw["shared"]["train"]["save_every"] = SAVE_EVERY
    raw["compare"]["seeds"] = 1
    return raw


def comparable(out: Path) -> Any:
    """A study's results without times, memory, and the place where they are."""
    text = (out / "results.json").read_text().replace(str(out), "OUT")

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in ("seconds", "peak_memory_bytes", "date")}
        return [without(v) for v in value] if isinstance(value, list) else value

    return without(json.loads(text))


def until(there: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None, "the study ended too soon"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_worker_and_ctrl_c_change_nothing_in_the_results(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(two_arms(tmp_path)))
    monkeypatch.chdir(tmp_path)
    study = read_study("tiny.yaml", "laptop")
    carry_out(study, slug="tiny", scale="laptop", out="local", jobs=2, cpus=1, console=Console(file=io.StringIO()))

    out = tmp_path / "spread"
    command = [sys.executable, "-m", "warmstart.cli", "study", "tiny.yaml", "--engine", "ray", "--out", "spread"]
    env = os.environ | {"RAY_ADDRESS": address}

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def step_of(arm: str) -> int:
        path = out / f"arms/{arm}/seed-0/stages/00-stage/metrics.jsonl"
        lines = path.read_text().splitlines()[:-1] if path.exists() else []
        return max((json.loads(line)["step"] for line in lines), default=0)

    def flops_at(arm: str, step: int) -> float:
        lines = (out / f"arms/{arm}/seed-0/stages/00-stage/metrics.jsonl").read_text().splitlines()
        return next(float(line["flops"]) for line in map(json.loads, lines) if line["step"] == step)

    first = begin()
    until(lambda: step_of("scratch") > SAVE_EVERY + 5, first)
    lease = out / "leases/arms/scratch/seed-0"
    os.kill(first_line(lease / "000001.jsonl")["pid"], signal.SIGKILL)
    until(lambda: (lease / "000002.jsonl").exists() and '"step"' in (lease / "000002.jsonl").read_text(), first)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 130, said
    assert "interrupted; every run has saved its state; resume with: warmstart study tiny.yaml --engine ray" in said
    [told] = [line for line in said.splitlines() if "goes on from" in line]
    assert told.startswith("scratch (seed 0): its worker was lost (")
    place, again = (int(word.split()[0]) for word in told.split("goes on from step ")[1].split("("))
    assert place % SAVE_EVERY == 0 < place
    assert 0 < again <= SAVE_EVERY
    steps = [
        line for line in map(json.loads, (lease / "000002.jsonl").read_text().splitlines()) if line["kind"] == "step"
    ]
    assert steps[0]["fraction"] > flops_at("scratch", place) / FLOPS  # it did go on from there
    assert not (out / "results.json").exists()
    assert "raylet" not in said

    second = begin()
    said = second.communicate(timeout=400)[0]
    assert second.returncode == 0, said
    assert comparable(out) == comparable(tmp_path / "local")


@pytest.mark.slow
def test_an_arm_with_an_error_is_not_tried_again_and_the_others_finish(tmp_path: Path, address: str) -> None:
    raw = two_arms(tmp_path)
    raw["shared"]["data"]["source"]["path"] = str(tmp_path / "c.jsonl")
    raw["compare"]["flops"] = 2e8
    raw["arms"] = {
        "scratch": raw["arms"]["scratch"],
        "bad": [raw["arms"]["scratch"][0] | {"train": {"learning_rate": 1e30}}],
    }
    out = tmp_path / "out"
    study = Study.model_validate(raw)
    with pytest.raises(UserError, match=r"^bad \(seed 0\) in .*/arms/bad/seed-0: the loss is nan at step \d+; lower"):
        carry_out(study, slug="t", scale="x", out=out, engine=Engine("ray"), console=Console(file=io.StringIO()))
    assert (out / "arms/scratch/seed-0/stages/00-stage/stage.json").exists()
    assert [path.name for path in (out / "leases/arms/bad/seed-0").iterdir()] == ["000001.jsonl"]
