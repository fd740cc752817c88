"""What a module holds: every storage once, put back in place, kept as it was while something is measured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from warmstart.disk import remove_left, told
from warmstart.errors import ModelError


def untied(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's state with every storage once: safetensors refuses shared ones."""
    seen: set[int] = set()
    result = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            result[name] = tensor
    return result


def load_tensors(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Puts saved tensors back in place; tied names follow."""
    state = module.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != tensor.shape:
                raise ModelError(f"the saved state does not fit the model: {name} is {tuple(tensor.shape)}")
            state[name].copy_(tensor)


Buffers = list[tuple[torch.Tensor, torch.Tensor]]


def kept_buffers(module: nn.Module) -> Buffers:
    """Running statistics and counters (batch normalisation, a sampler's table), each with a copy of its value."""
    return [(buffer, buffer.clone()) for buffer in module.buffers()]


def put_back(buffers: Buffers) -> None:
    """Gives buffers the values that were kept of them."""
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)


@contextlib.contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """A module's buffers are put back at the end."""
    kept = kept_buffers(module)
    try:
        yield
    finally:
        put_back(kept)


def save_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Writes a safetensors file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    draft = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    with told(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            remove_left(file)
            save_file(tensors, draft)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU, in memory of its own."""
    tensor = tensor.detach()
    return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()
