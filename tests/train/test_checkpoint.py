"""States are whole or not there; broken ones are passed over loudly; nothing is lost in between."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from warmstart.errors import StateError, UserError
from warmstart.train import checkpoint
from warmstart.train.checkpoint import load_optimizer, load_state, optimizer_tensors, save_state


def save(folder: Path, step: int, keep: int = 2) -> Path:
    tensors = {"model": {"w": torch.full((4,), float(step))}, "optimizer": {"w|m": torch.arange(3.0)}}
    return save_state(folder, step, tensors, {"counts": {"step": step}}, keep=keep)


def test_round_trip_and_keep(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    for step in (1, 2, 10):
        save(tmp_path, step)
    state = load_state(tmp_path)
    assert state is not None
    assert state.step == 10
    assert torch.equal(state.tensors["model"]["w"], torch.full((4,), 10.0))
    assert state.values == {"counts": {"step": 10}}
    assert [p.name for p in checkpoint._states(tmp_path)] == ["step-00000002", "step-00000010"]


def test_the_same_step_again_does_not_remove_the_first(tmp_path: Path) -> None:
    first, second = save(tmp_path, 5), save(tmp_path, 5)
    assert first != second
    state = load_state(tmp_path)
    assert state is not None
    assert state.path == second
    assert state.step == 5


@pytest.mark.parametrize("victim", ["model.safetensors", "optimizer.safetensors", "values.json", "checksums.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_broken_newest_state(tmp_path: Path, victim: str, damage: str) -> None:
    save(tmp_path, 1)
    file = save(tmp_path, 2) / victim
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    with pytest.warns(UserWarning, match="step-00000002"):
        state = load_state(tmp_path)
    assert state is not None
    assert state.step == 1


def test_a_broken_state_that_the_run_went_back_behind_pushes_no_whole_one_out(tmp_path: Path) -> None:
    save(tmp_path, 100)
    (save(tmp_path, 120) / "values.json").write_text("{}")
    with pytest.warns(UserWarning, match="going on from step-00000100"):
        load_state(tmp_path)
    save(tmp_path, 110)
    assert [p.name for p in checkpoint._states(tmp_path)] == ["step-00000100", "step-00000110"]
    state = load_state(tmp_path)
    assert state is not None
    assert state.step == 110


def test_all_broken(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "values.json").write_text("{}")
    with pytest.raises(StateError, match="--fresh"):
        load_state(tmp_path)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "sync", full)
    with pytest.raises(UserError, match="No space left"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    state = load_state(tmp_path)
    assert state is not None
    assert state.step == 1


def test_really_full_disk(tmp_path: Path) -> None:
    """A file system of one megabyte, where the machine lets us make one."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=1m tmpfs {place} 2>/dev/null") != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        save(place, 1)
        with pytest.raises(UserError, match="older states are untouched"):
            save_state(place, 2, {"model": {"w": torch.zeros(10**6)}}, {})
        state = load_state(place)
        assert state is not None
        assert state.step == 1
        assert [p.name for p in place.iterdir()] == ["step-00000001"]
    finally:
        os.system(f"umount -l {place}")


@pytest.mark.slow
def test_killed_while_saving(tmp_path: Path) -> None:
    """A child saves as fast as it can and dies at a random moment, thirty times: there is always a whole state."""
    draw = random.Random(0)
    began = time.perf_counter()
    save(tmp_path, 0)
    once = time.perf_counter() - began  # a disk may need a millisecond for a save, or a hundred
    step = kills = 0
    while kills < 30 or step <= 10:  # where saving takes longer now than then, few saves are whole: go on
        kills += 1
        assert kills < 300
        child = os.fork()
        if child == 0:
            number = step
            while True:
                number += 1
                save(tmp_path, number)
        time.sleep(draw.uniform(0, 4 * once))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state = load_state(tmp_path)
        assert state is not None
        assert state.step >= step
        assert torch.equal(state.tensors["model"]["w"], torch.full((4,), float(state.step)))
        step = state.step


def test_optimizer_by_name_goes_on_bit_for_bit() -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(number))
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, optimizer = make()
    for number in range(4):
        step(whole, optimizer, number)
        if number == 1:
            weights = {k: v.clone() for k, v in whole.state_dict().items()}
            tensors, numbers = optimizer_tensors(optimizer, whole)
            tensors = {k: v.clone() for k, v in tensors.items()}
    resumed, other = make()
    resumed.load_state_dict(weights)
    load_optimizer(other, resumed, tensors, numbers)
    for number in (2, 3):
        step(resumed, other, number)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    with pytest.raises(StateError, match="does not have"):
        load_optimizer(other, resumed, {"2.weight|exp_avg": torch.zeros(1)}, {})
