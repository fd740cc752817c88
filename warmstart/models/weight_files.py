"""The safetensors files of a model folder: what their headers say, checked before anything believes it.

A file is 8 bytes of header length, a header in JSON that lists every tensor's type, shape and place, and the tensors'
bytes. A header can lie: be longer than the file, give two tensors the same bytes or one tensor bytes that are not
there, say a shape that its bytes do not fill, name a tensor twice; an index can name files of other folders. All of
that is found from the header alone, in milliseconds, before memory is taken for a single weight.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from warmstart.errors import ModelError
from warmstart.places import is_file, is_folder
from warmstart.visible import visible

INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors library has the same limit."""
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz")
NEVER = "other formats (.bin, .pt, .pkl, ...) are never opened: they may run code; convert to safetensors"


@dataclass(frozen=True)
class Entry:
    """A tensor as a header describes it; `begin` and `end` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those of its index, or `model.safetensors`, or all that there are.

    Raises:
        ModelError: there are none, or the index is broken or names a file that is not in the folder.
    """
    index = folder / INDEX
    if is_file(folder / "model.safetensors") and not is_file(index):
        return [folder / "model.safetensors"]
    if is_file(index):
        return [folder / name for name in _names(index)]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise ModelError(f"'{folder}' has no *.safetensors weights ({NEVER})")
    return found


def check_folder(folder: Path, said: str | Path | None = None) -> int:
    """Makes sure that a folder has safetensors weights whose headers are true, and counts its tensors.

    Args:
        said: what the user called the folder.

    Raises:
        ModelError: it has none, is no folder, or a header or the index is broken.
    """
    said = folder if said is None else said
    if not is_folder(folder):
        if is_file(folder):
            hint = f"; {NEVER}" if folder.suffix.lower() in PICKLED else ""
            raise ModelError(f"'{said}' is a file; give the model's folder, with config.json and *.safetensors{hint}")
        raise ModelError(f"there is no model folder '{said}'")
    if not is_file(folder / "config.json"):
        if is_file(folder / "adapter_config.json"):
            raise ModelError(f"'{said}' is an adapter, not a model; merge it into its model and save that")
        raise ModelError(f"'{said}' is not a model folder: it has no config.json")
    if is_file(folder / "adapter_config.json"):
        raise ModelError(
            f"'{said}' has an adapter_config.json beside its config.json, which would bring in weights from elsewhere; "
            "merge the adapter, or take that file away"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"'{said}' has no *.safetensors weights ({NEVER})")
    files = dict.fromkeys([*weight_files(folder), *sorted(folder.glob("*.safetensors"))])
    return sum(len(header(file)) for file in files)


def header(path: Path) -> dict[str, Entry]:
    """The tensors of a file by name.

    Raises:
        ModelError: the file cannot be read, or its header is broken or says what cannot be true.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise _lies(path, f"{size} bytes are too few for a header")
            (length,) = struct.unpack("<Q", start)
            if length > min(LONGEST_HEADER, size - 8):
                raise _lies(path, f"a header of {length:,} bytes in a file of {size:,}, at most {LONGEST_HEADER:,}")
            raw = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _lies(path, str(error) or "nested too deeply") from None
    if not isinstance(raw, dict):
        raise _lies(path, f"the header is {type(raw).__name__}, not a mapping")
    raw.pop("__metadata__", None)
    found = {name: _entry(path, name, entry) for name, entry in raw.items()}
    _check_places(path, found, size - 8 - length)
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return found


def _entry(path: Path, name: str, raw: Any) -> Entry:
    if not isinstance(raw, Mapping):
        raise _lies(path, f"'{name}' is {type(raw).__name__}, not a mapping")
    if visible(name) != name or "\n" in name:
        raise _lies(path, f"the name '{name}' has control characters")
    dtype, shape, place = raw.get("dtype"), raw.get("shape"), raw.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _lies(path, f"'{name}' has the type {dtype!r:.40}, which safetensors does not know")
    if not _whole_numbers(shape) or len(shape) > 64:
        raise _lies(path, f"'{name}' has the shape {shape!r:.60}")
    if not _whole_numbers(place) or len(place) != 2 or place[0] > place[1]:
        raise _lies(path, f"'{name}' has the place {place!r:.60}")
    bits = BITS[dtype]
    for side in shape:
        bits *= side
        if bits > 2**70:
            break
    if bits != 8 * (place[1] - place[0]):
        raise _lies(path, f"'{name}', {dtype} of shape {shape!r:.60}, does not fill bytes {place[0]} to {place[1]}")
    return Entry(dtype, tuple(shape), place[0], place[1])


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)


def _check_places(path: Path, found: Mapping[str, Entry], size: int) -> None:
    """Every byte belongs to exactly one tensor, as the format demands."""
    place = 0
    for name, entry in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != place:
            what = "shares bytes with another tensor" if entry.begin < place else "leaves bytes before it to nobody"
            raise _lies(path, f"'{name}' at byte {entry.begin} {what}")
        place = entry.end
    if place != size:
        raise _lies(path, f"its tensors fill {place:,} bytes, but {size:,} follow the header")


def _names(index: Path) -> list[str]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except OSError as error:
        raise ModelError(f"{index} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is no index of weights: {type(error).__name__}: {error}") from None
    for name in names:
        if not isinstance(name, str) or not name.endswith(".safetensors") or name != Path(name).name or "\\" in name:
            raise ModelError(f"{index}: weight_map names '{name}', which is no *.safetensors file of its own folder")
        if not is_file(index.parent / name):
            raise ModelError(f"{index}: weight_map names '{name}', which is not there")
    return names


def _lies(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is broken: {what}")
