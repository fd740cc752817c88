"""safetensors files, read and written one tensor at a time.

A file is 8 bytes of header length, a header in JSON that lists every tensor's type, shape and place, and the tensors'
bytes. So a file can be written from front to back while only one tensor is in memory, if all shapes are known before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from warmstart.errors import ModelError
from warmstart.models.weight_files import header, weight_files

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
UNSHARDED = 5 * 2**30
"""Bytes of the largest file that is made from a checkpoint in a single file."""


@dataclass(frozen=True)
class Spec:
    """A tensor's type and shape, as a safetensors header says them."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * int(torch.Size(self.shape).numel())


class Checkpoint:
    """The safetensors files of a folder, read tensor by tensor.

    Raises:
        ModelError: there are none, or one is broken.
    """

    def __init__(self, folder: Path) -> None:
        files = weight_files(folder)
        self._file: dict[str, Path] = {}
        self.specs: dict[str, Spec] = {}
        for file in files:
            for name, entry in header(file).items():
                self._file[name] = file
                if entry.dtype in DTYPES:
                    self.specs[name] = Spec(DTYPES[entry.dtype], entry.shape)
        self.shard_bytes = max(f.stat().st_size for f in files) if len(files) > 1 else UNSHARDED

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, mapped from its file; the map is gone with the tensor."""
        try:
            with safe_open(self._file[name], framework="pt") as file:
                return file.get_tensor(name)
        except SafetensorError as error:
            raise ModelError(f"{self._file[name]} is broken: {error}") from error


def write_shards(folder: Path, layout: Mapping[str, Spec], make: Callable[[str], torch.Tensor], limit: int) -> None:
    """Files of at most `limit` bytes (a larger tensor has one of its own), in the layout's order, and their index.

    Args:
        layout: every tensor by name.
        make: gives the tensor of a name, called once for each in the layout's order.
    """
    shards: list[dict[str, Spec]] = [{}]
    for name, spec in layout.items():
        if shards[-1] and sum(s.bytes for s in shards[-1].values()) + spec.bytes > limit:
            shards.append({})
        shards[-1][name] = spec
    place: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / file, shard, make)
        place |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(spec.bytes for spec in layout.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def write_file(path: Path, specs: Mapping[str, Spec], make: Callable[[str], torch.Tensor]) -> None:
    """One file; arguments as for `write_shards`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        header[name] = {
            "dtype": NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [end, end + spec.bytes],
        }
        end += spec.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, spec in specs.items():
            tensor = make(name)
            assert (tensor.dtype, tuple(tensor.shape)) == (spec.dtype, spec.shape), (name, tensor.shape, spec)
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
            del tensor
