"""Saving in the background: what is saved is what was there when it was asked for, and errors come to light."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from warmstart.errors import UserError
from warmstart.train import saving
from warmstart.train.checkpoint import load_state, save_state
from warmstart.train.saving import Saving


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is written before the event is set."""
    go_on = threading.Event()

    def wait_and_save(*given: Any, **settings: Any) -> Path:
        assert go_on.wait(10)
        return save_state(*given, **settings)

    monkeypatch.setattr(saving, "save_state", wait_and_save)
    yield go_on
    go_on.set()


def test_what_changes_meanwhile_is_not_saved(tmp_path: Path, slow_disk: threading.Event) -> None:
    weight, values = torch.zeros(3), {"mix": {"drawn": [1]}}
    with Saving(tmp_path, 2, background=True) as states:
        states.save(4, {"model": {"w": weight}}, values)
        weight += 1
        values["mix"]["drawn"].append(2)
        assert load_state(tmp_path) is None  # the training went on before anything was written
        slow_disk.set()
    state = load_state(tmp_path)
    assert state is not None
    assert state.step == 4
    assert state.values == {"mix": {"drawn": [1]}}
    assert torch.equal(state.tensors["model"]["w"], torch.zeros(3))


def test_a_second_save_waits_for_the_first(tmp_path: Path, slow_disk: threading.Event) -> None:
    with Saving(tmp_path, 5, background=True) as states:
        states.save(1, {"model": {}}, {})
        threading.Timer(0.05, slow_disk.set).start()
        states.save(2, {"model": {}}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_is_told_of(tmp_path: Path, background: bool) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    states = Saving(tmp_path / "taken", 2, background=background)

    def save() -> None:
        states.save(3, {"model": {"w": torch.zeros(1)}}, {})
        states.wait()

    with pytest.raises(UserError, match=r"cannot save the state of step 3 .*older states are untouched"):
        save()
    states.raise_what_went_wrong()  # told once


def test_leaving_waits_and_tells(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot save"), Saving(tmp_path / "taken", 2, background=True) as states:
        states.save(3, {"model": {}}, {})


def test_another_error_goes_first(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    def train() -> None:
        with Saving(tmp_path / "taken", 2, background=True) as states:
            states.save(3, {"model": {}}, {})
            raise ValueError("of the training")

    with pytest.raises(ValueError, match="of the training"):
        train()
    assert not any(thread.name.startswith("save-") for thread in threading.enumerate())
