"""The saved state of a run: atomic, verified, never lost.

    state/step-00000200/<group>.safetensors   tensors, one file per group (model, optimizer, extra)
    state/step-00000200/values.json           everything that is not a tensor
    state/step-00000200/checksums.json        xxh3 of every file above, written last

A state is written into a temporary folder, synced to the disk and renamed: at every moment there is a whole newest
state, or the one before it. On loading every checksum is verified; a broken state is passed over with a warning.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from warmstart.disk import checksum, errno_of, sync
from warmstart.errors import StateError, UserError

Tensors = dict[str, torch.Tensor]
PREFIX = "step-"
TEMPORARY = ".tmp-"


@dataclass
class State:
    """A saved state: groups of tensors and JSON values."""

    path: Path
    step: int
    tensors: dict[str, Tensors]
    values: dict[str, Any]


def save_state(
    folder: Path,
    step: int,
    tensors: dict[str, Tensors],
    values: dict[str, Any],
    keep: int = 2,
    spare: int | None = None,
) -> Path:
    """Writes a state and removes all but the newest `keep`, and those of step `spare`. Returns the state's folder.

    Raises:
        UserError: the disk is full or cannot be written; older states are untouched.
    """
    final = _free_name(folder, step)
    draft = folder / f"{TEMPORARY}{step:08d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_drafts(folder)
        draft.mkdir()
        for group, members in tensors.items():
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in members.items()},
                draft / f"{group}.safetensors",
            )
        (draft / "values.json").write_text(json.dumps(values), encoding="utf-8")
        sums = {path.name: checksum(path) for path in sorted(draft.iterdir())}
        (draft / "checksums.json").write_text(json.dumps(sums), encoding="utf-8")
        for path in draft.iterdir():
            sync(path)
        sync(draft)
        os.rename(draft, final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not errno_of(error):
            raise
        said = os.strerror(errno_of(error))
        raise UserError(
            f"cannot save the state of step {step} in {folder}: {said}; older states are untouched"
        ) from error
    found = _states(folder)
    # States of later steps are broken ones that the run went back behind: kept, they would push out whole ones.
    ahead = [path for path in found if _order(path) > _order(final)]
    behind = [path for path in found if path not in ahead]
    for old in [*ahead, *(path for path in behind[:-keep] if _order(path)[0] != spare)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_state(folder: Path, step: int | None = None) -> State | None:
    """The newest whole state, or that of a given step; None where nothing of the kind was ever saved.

    Raises:
        StateError: there are states, and all of them are broken.
    """
    found = [path for path in _states(folder) if step is None or _order(path)[0] == step]
    broken: list[str] = []
    for path in reversed(found):
        try:
            _verify(path)
            values = json.loads((path / "values.json").read_text(encoding="utf-8"))
            tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            broken.append(f"{path.name} ({error})")
            continue
        if broken:
            warnings.warn(f"{folder}: broken saved state: {'; '.join(broken)}; going on from {path.name}", stacklevel=2)
        return State(path, _order(path)[0], tensors, values)
    if broken:
        raise StateError(f"{folder}: every saved state is broken: {'; '.join(broken)}; start again with --fresh")
    return None


def newest_step(folder: Path) -> int:
    """The step of the newest saved state, whole or not; 0 where nothing was ever saved."""
    found = _states(folder)
    return _order(found[-1])[0] if found else 0


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[Tensors, dict[str, Any]]:
    """An optimizer's state by the names of the weights: tensors, and everything else as JSON values."""
    names = {id(p): name for name, p in model.named_parameters()}
    tensors: Tensors = {}
    numbers: dict[str, Any] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            where = f"{names[id(parameter)]}|{key}"
            if isinstance(value, torch.Tensor):
                tensors[where] = value
            else:
                numbers[where] = value
    return tensors, numbers


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Tensors, numbers: dict[str, Any]
) -> None:
    """Puts an optimizer's state back; the weights are found by name.

    Raises:
        StateError: the state names a weight that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for where, value in [*tensors.items(), *numbers.items()]:
        name, _, key = where.rpartition("|")
        if name not in parameters:
            raise StateError(f"the saved optimizer state has '{name}', which the model does not have")
        parameter = parameters[name]
        if isinstance(value, torch.Tensor):
            # Adam keeps its step counter where the fused kernel wants it: with the weight.
            value = value.to(parameter.device).clone()
        optimizer.state[parameter][key] = value


def _free_name(folder: Path, step: int) -> Path:
    """`step-00000012`, or `step-00000012.1` where that is taken: a state is never removed to make room for another."""
    path, again = folder / f"{PREFIX}{step:08d}", 0
    while path.exists():
        again += 1
        path = folder / f"{PREFIX}{step:08d}.{again}"
    return path


def _order(path: Path) -> tuple[int, int]:
    step, _, again = path.name.removeprefix(PREFIX).partition(".")
    return int(step), int(again or 0)


def _states(folder: Path) -> list[Path]:
    """The saved states, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if re.fullmatch(rf"{PREFIX}\d+(\.\d+)?", p.name)), key=_order)


def _remove_drafts(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _verify(path: Path) -> None:
    """Raises ValueError (or OSError) where a file is missing, shorter, longer or changed."""
    sums = json.loads((path / "checksums.json").read_text(encoding="utf-8"))
    present = {file.name for file in path.iterdir()} - {"checksums.json"}
    if present != set(sums):
        raise ValueError(f"files {sorted(present ^ set(sums))} are missing or too many")
    for name, expected in sums.items():
        if checksum(path / name) != expected:
            raise ValueError(f"{name} does not have the checksum it was saved with")
