"""A disk that fills up, writes that stop half-way, calls that fail: one line, nothing lost, and the same end."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from faults.child import End, run_in_child
from faults.disks import call_fails, files_may_not_exceed, small_disk
from faults.moments import when
from faults.runs import own_cache, result, two_stages

from warmstart.recipe import Recipe
from warmstart.train.checkpoint import _states, _verify

MOMENTS = [
    "warmstart.run_recipe:_open_folder",
    "warmstart.data.curated:_Pass.make",
    "warmstart.models.tokenizer:train_tokenizer",
    "warmstart.data.prepare:_make",
    "warmstart.train.state:save_tensors",
    "warmstart.train.loop:MetricsLog.restore",
    "warmstart.train.loop:MetricsLog.write",
    "warmstart.train.saving:save_state",
    "warmstart.run_recipe:save_model",
    "warmstart.run_recipe:files_left",
    "warmstart.run_recipe:_write_report",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe, what it ends with, and how much room it takes."""
    folder = tmp_path_factory.mktemp("disks")
    own_cache(folder)
    recipe = Recipe.model_validate(two_stages(folder / "text", trackers=["tensorboard"]))
    assert run_in_child(recipe, folder / "whole").how == "done"
    size = sum(f.stat().st_blocks * 512 for f in [*(folder / "whole").rglob("*"), *(folder / "cache").rglob("*")])
    return {"recipe": recipe, "expected": result(folder / "whole"), "size": size, "cache": folder / "cache"}


def check_refused(end: End, said: str, out: Path) -> None:
    """One line; and every state that stands in the run folder is whole."""
    assert end.how == "refused", end.said
    assert "\n" not in end.said
    assert said in end.said
    for states in out.glob("stages/*/state"):
        for state in _states(states):
            _verify(state)


@pytest.mark.slow
def test_a_full_disk(whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten sizes of a disk that holds the run and the cache; then there is room, and the run goes on."""
    stopped = {}
    for tenth in range(10):
        with small_disk(tmp_path / str(tenth), max(4096, whole["size"] * tenth // 10)) as resize:
            place = tmp_path / str(tenth)
            monkeypatch.setenv("WARMSTART_CACHE", str(place / "cache"))
            end = run_in_child(whole["recipe"], place / "run")
            check_refused(end, "No space left on device", place / "run")
            stopped[tenth] = end.said.replace(str(place), "")
            resize(whole["size"] * 4)
            assert run_in_child(whole["recipe"], place / "run").how == "done"
            assert result(place / "run") == whole["expected"]
            assert not [p for p in place.rglob("*") if ".tmp" in p.name], "drafts stay behind"
    print(stopped)
    assert len({line.split(":")[0] for line in stopped.values()}) > 3, "it always filled up at the same place"


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("limit", [0, 2_000])
def test_writes_that_stop_half_way(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, limit: int
) -> None:
    """From a moment on no file may become larger: in Python, and in the libraries that write by themselves."""
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    end = run_in_child(whole["recipe"], tmp_path / "run", when(moment, files_may_not_exceed(limit)))
    print(end.said.replace(str(tmp_path), ""))
    check_refused(end, "File too large", tmp_path / "run")
    assert run_in_child(whole["recipe"], tmp_path / "run").how == "done"
    assert result(tmp_path / "run") == whole["expected"]
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name], "drafts stay behind"


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_calls_that_fail(whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Every third fsync, rename and replace of a run; where the run can do without it, it goes on."""
    out, ends = tmp_path / "run", []
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    for number in range(1 + code % 3, 400, 17):
        end = run_in_child(whole["recipe"], out, call_fails(number, code))
        ends.append(end.how)
        print(number, end.how, end.said.replace(str(tmp_path), "")[-300:])
        if end.how == "done":
            break
        check_refused(end, os.strerror(code), out)
    assert ends.count("refused") > 3
    assert ends[-1] == "done"
    assert result(out) == whole["expected"]
