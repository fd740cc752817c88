"""Pictures and sounds of rows: what a row's `image` or `audio` refers to, opened.

A row holds no pixels and no samples, only where they are: the path of a file, or a place inside a larger file
(`path#offset+size`), which may lie in the cache (`cache://...`), so that a cache can move. In a user's own files
a path counts from the folder of the file that names it; what stands in a row itself, as `datasets` and Parquet keep
pictures and sounds (`{bytes, path}`), goes into the cache under its hash. Opening is the objective's business, which
knows the size and the rate that it wants; preparing opens everything once, so that a broken file is found before
training starts.

What is opened was written by somebody else: a picture's size is looked at before it is decoded, a sound's length and
rate too, and no format is opened that is itself a program (PostScript).

Pictures are Pillow's (transparency becomes white), sounds are soundfile's: extras `[vision]` and `[audio]`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.data.cache import cache_folder, trouble_with
from warmstart.errors import DataError, UserError
from warmstart.places import expanded, is_file

PLACE = re.compile(r"(?P<path>.*)#(?P<offset>[0-9]{1,18})\+(?P<size>[0-9]{1,18})", re.DOTALL)
IN_CACHE = "cache://"
MEDIA_COLUMNS = ("image", "audio")
KEPT = "media"
"""The folder of the cache for what stood in rows."""
LARGEST_FILE = 512 * 2**20
"""Bytes of one picture or sound as it is stored."""
AGAIN = "remove the cache {}: what it holds is made again"
LARGEST_IMAGE = 20_000_000
"""Pixels; larger ones are refused before they are decoded: some files of a few kB unfold to gigabytes."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened as a picture. Pillow knows more; for PostScript it starts an interpreter."""
LONGEST_SOUND = 3600
"""Seconds."""
MOST_SAMPLES = 200_000_000
"""Of all channels together."""
RATES = range(1_000, 768_001)
"""Samples a second: resampling from 1 or from 2,147,483,647 takes gigabytes."""


def read_media(reference: str) -> bytes:
    """The bytes that a row's `image` or `audio` refers to.

    Raises:
        DataError: there is no such file, it is too short or too large.
    """
    found = PLACE.fullmatch(reference)
    path, offset, size = (found["path"], int(found["offset"]), int(found["size"])) if found else (reference, 0, -1)
    file = cache_folder() / path.removeprefix(IN_CACHE) if path.startswith(IN_CACHE) else Path(path)
    if path.startswith(IN_CACHE) and (".." in file.parts or not file.is_relative_to(cache_folder())):
        raise DataError(f"'{reference}' lies outside the cache")
    if not is_file(file):  # a device or a pipe would have no end
        raise DataError(f"'{reference}' cannot be read: No such file, or no ordinary one")
    if path.startswith(IN_CACHE) and (trouble := trouble_with(file)):
        raise DataError(f"'{reference}': {trouble}; {AGAIN.format(cache_folder())}")
    try:
        whole = file.stat().st_size
        if size > whole:
            raise DataError(f"'{reference}' is cut short: the file has {whole:,} bytes")
        if (whole if size < 0 else size) > LARGEST_FILE:
            raise DataError(f"'{reference}' is larger than {LARGEST_FILE >> 20} MiB")
        content = b""
        if whole:  # what has no size is empty, or a file of the kernel, which may wait for ever
            with file.open("rb") as stream:
                stream.seek(offset)
                content = stream.read(size)
    except OSError as error:
        raise DataError(f"'{reference}' cannot be read: {error.strerror or error}") from error
    if not content or (size >= 0 and len(content) < size):
        raise DataError(f"'{reference}' is {'empty' if not content else 'cut short'}")
    if path.startswith(f"{IN_CACHE}{KEPT}/") and hashlib.sha256(content).hexdigest() != file.name:
        raise DataError(f"'{reference}' is not what was kept there; {AGAIN.format(cache_folder())}")
    return content


def with_references(row: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """A row of a user's own whose `image` and `audio` are references.

    Args:
        folder: what relative paths count from.
        where: the row, for errors.

    Raises:
        DataError: such a column holds neither a path nor `{bytes, path}`.
    """
    found = {name: reference(row[name], folder, f"{where}, {name}") for name in MEDIA_COLUMNS if name in row}
    return row | found


def reference(value: Any, folder: Path, where: str) -> str | None:
    """What a row's value for a picture or a sound refers to; the bytes that it holds are put into the cache first."""
    if value is None or value == "":
        return None
    if isinstance(value, dict) and isinstance(content := value.get("bytes"), bytes):
        return keep_media(content)
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str):
        raise DataError(f"{where}: neither a path nor bytes, but {type(value).__name__}")
    if value.startswith(IN_CACHE):
        return value
    return str((folder / expanded(value)).absolute())


def keep_media(content: bytes) -> str:
    """Puts bytes into the cache and returns what refers to them; the same bytes are kept once."""
    name = hashlib.sha256(content).hexdigest()
    path = cache_folder() / KEPT / name[:2] / name
    if not (path.is_file() and path.stat().st_size == len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(path)
    return IN_CACHE + path.relative_to(cache_folder()).as_posix()


def open_image(reference: str, size: int | None = None) -> np.ndarray:
    """A picture on white: uint8 `(height, width, 3)`.

    Args:
        size: the picture is shrunk or enlarged to `size` x `size`, its middle cut to a square first.

    Raises:
        DataError: it cannot be read, is no picture, or has more than 20 million pixels.
        UserError: Pillow is missing.
    """
    return (_kept(reference, size) if size is not None else _decoded(reference, None)).copy()


@lru_cache(maxsize=16384)
def _kept(reference: str, size: int) -> np.ndarray:
    """Pictures at the size that a model takes fit into memory; whole ones, which preparing looks at, do not."""
    return _decoded(reference, size)


def _decoded(reference: str, size: int | None) -> np.ndarray:
    image_of = _pillow()
    content = read_media(reference)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, and of what it puts right by itself
            with image_of.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > LARGEST_IMAGE:
                    raise DataError(
                        f"'{reference}' has {image.width} x {image.height} pixels; at most {LARGEST_IMAGE:,}"
                    )
                layers = image.convert("RGBA")
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise whatever they come upon
        raise DataError(f"'{reference}' is no picture that can be opened ({', '.join(FORMATS)}): {error}") from error
    ground = image_of.new("RGBA", layers.size, "white")
    ground.alpha_composite(layers)
    picture = ground.convert("RGB")
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), image_of.Resampling.BILINEAR)
    return np.asarray(picture)


def open_audio(reference: str, rate: int = 16_000) -> np.ndarray:
    """A sound, its channels averaged, at `rate` samples a second: float32 `(samples,)` between -1 and 1.

    Raises:
        DataError: it cannot be read, is no sound, or has no samples.
        UserError: soundfile is missing.
    """
    soundfile = _soundfile()
    content = read_media(reference)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            _check_sound(reference, sound.frames, sound.channels, sound.samplerate)
            samples, found = sound.read(dtype="float32", always_2d=True), sound.samplerate
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"'{reference}' is no sound that can be opened: {error}") from error
    if not len(samples):
        raise DataError(f"'{reference}' has no samples")
    return resampled(samples.mean(axis=1), int(found), rate)


def _check_sound(reference: str, frames: int, channels: int, rate: int) -> None:
    """Makes sure that what a header says of a sound can be, before memory is taken for it.

    Raises:
        DataError: it cannot.
    """
    if rate not in RATES:
        raise DataError(f"'{reference}' says {rate:,} samples a second; {RATES[0]:,} to {RATES[-1]:,} can be opened")
    if frames > LONGEST_SOUND * rate or frames * channels > MOST_SAMPLES:
        raise DataError(
            f"'{reference}' says {frames:,} samples of {channels} channels at {rate:,} a second; at most an hour and "
            f"{MOST_SAMPLES:,} in all can be opened"
        )


def resampled(samples: np.ndarray, found: int, wanted: int) -> np.ndarray:
    """Samples at another rate, by a polyphase filter."""
    if found == wanted:
        return samples.astype(np.float32, copy=False)
    from scipy.signal import resample_poly

    common = int(np.gcd(found, wanted))
    return resample_poly(samples, wanted // common, found // common).astype(np.float32)


def check_media(row: dict[str, Any]) -> None:
    """Opens what a row refers to.

    Raises:
        DataError: something cannot be opened.
    """
    if row.get("image") is not None:
        open_image(row["image"])
    if row.get("audio") is not None:
        open_audio(row["audio"])


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need Pillow: pip install 'warmstart[vision]'") from None
    return Image


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError:
        raise UserError("sounds need soundfile: pip install 'warmstart[audio]'") from None
    return soundfile
