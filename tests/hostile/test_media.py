"""Pictures and sounds that somebody else made: bombs, headers that lie, formats that are programs, strange places."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from canary import EVIL_TEXT, changed_bytes, fuzz, little_memory, nothing_run, refused_or_fine
from hypothesis import strategies as st

from warmstart.data import media
from warmstart.data.media import open_audio, open_image, read_media, reference
from warmstart.errors import DataError

Image = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")


def picture(form: str = "PNG", size: tuple[int, int] = (9, 7), mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(target, form)
    return target.getvalue()


def sound(form: str = "WAV", rate: int = 8000, seconds: float = 0.1) -> bytes:
    target = io.BytesIO()
    tone = np.sin(np.arange(int(rate * seconds)) / 5).astype(np.float32)
    soundfile.write(target, tone, rate, format=form)
    return target.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG file whose header says what it likes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def refusal(path: Path, content: bytes, kind: str = "image") -> str:
    path.write_bytes(content)
    with nothing_run(), little_memory(), pytest.raises(DataError) as caught:
        open_image(str(path)) if kind == "image" else open_audio(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [(5_000, 4_001), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 20_000_001)])
def test_a_picture_that_unfolds_to_gigabytes(size: tuple[int, int], tmp_path: Path) -> None:
    data = zlib.compress(b"\0" * 2**24, 9)
    assert len(data) < 20_000
    message = refusal(tmp_path / "a.png", png(*size, data))
    assert "pixels" in message


def test_a_picture_as_large_as_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(5_000, 4_000, zlib.compress(b"\0" * (5_001 * 4_000), 9)))
    assert open_image(str(tmp_path / "a.png"), 8).shape == (8, 8, 3)


def test_whole_pictures_are_not_kept(tmp_path: Path) -> None:
    """Preparing looks at every picture once, whole: keeping those would take 60 MB each."""
    (tmp_path / "a.png").write_bytes(picture())
    before = media._kept.cache_info().currsize
    media.check_media({"image": str(tmp_path / "a.png")})
    assert media._kept.cache_info().currsize == before
    open_image(str(tmp_path / "a.png"), 4)
    assert media._kept.cache_info().currsize == before + 1


def test_text_in_a_picture_that_unfolds_to_gigabytes(tmp_path: Path) -> None:
    whole = picture()
    text = b"a\0\0" + zlib.compress(b"x" * 2**27, 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    (tmp_path / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
    with little_memory():
        refused_or_fine(lambda: open_image(str(tmp_path / "a.png")))


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(opened) (w) file closefile\nshowpage\n%%EOF",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://localhost:1/x'/></svg>",
        b"<html><script>alert(1)</script>",
        b"#define a_width 9\n#define a_height 9\nstatic char a_bits[] = {0x00};",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\xff\xff\xff\xffWEBP",
    ],
)
def test_what_is_a_program_or_no_picture_is_not_opened(content: bytes, tmp_path: Path) -> None:
    assert "no picture that can be opened (PNG, JPEG, GIF, BMP, WEBP, TIFF, PPM)" in refusal(
        tmp_path / "a.png", content
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_every_format_that_is_named_is_opened(form: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(picture(form))
    assert open_image(str(tmp_path / "a")).shape == (7, 9, 3)


def wav(rate: int, channels: int, claimed: int, data: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * channels * 2, 2**32 - 1), channels * 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", claimed) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(frames: int) -> bytes:
    """A FLAC file whose header claims so many samples."""
    whole = bytearray(sound("FLAC"))
    packed = int.from_bytes(whole[18:26], "big") & ~(2**36 - 1) | frames
    whole[18:26] = packed.to_bytes(8, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (wav(1, 1, 4000, b"\0" * 4000), "says 1 samples a second"),
        (wav(2**31 - 1, 1, 4000, b"\0" * 4000), "says 2,147,483,647 samples a second"),
        (wav(1_000, 1, 8_000_000, b"\0" * 8_000_000), "at most an hour"),
        (flac(2**36 - 1), "says 68,719,476,735 samples of 1 channels"),
        (b"RIFF", "no sound that can be opened"),
        (b"", "is empty"),
        (picture(), "no sound that can be opened"),
    ],
)
def test_a_sound_whose_header_lies(content: bytes, fragment: str, tmp_path: Path) -> None:
    assert fragment in refusal(tmp_path / "a.wav", content, "audio")


def test_a_header_that_claims_more_than_there_is_gives_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(16_000, 1, 2**31, b"\1\0" * 1_000))
    with little_memory():
        message = refused_or_fine(lambda: open_audio(str(tmp_path / "a.wav")))
    assert message is None or "can be opened" in message


@pytest.mark.parametrize(
    "place",
    ["/dev/zero", "/dev/random", "/proc/kmsg", ".", "~nobody/x", "a\0b", "x" * 5_000,
     "http://localhost:1/x.png", "\ud800",
     "pipe", "a.png#0+99999999999999999999", "a.png#999999999999999999+1", "a.png#0+999999999999",
     "cache:///etc/passwd", "cache://../x"],
)  # fmt: skip
def test_a_strange_place_is_refused_at_once(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").write_bytes(picture())
    with nothing_run(), little_memory(), pytest.raises(DataError):
        read_media(str(reference(place, tmp_path, "row 1")))


def test_a_file_larger_than_any_picture(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    with little_memory(), pytest.raises(DataError, match="is larger than 512 MiB"):
        read_media(str(tmp_path / "a.png"))


# ---- fuzzers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_fuzz_pictures(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with little_memory():
            refused_or_fine(lambda: open_image(str(path)))

    fuzz(check, changed_bytes(picture(form)))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_fuzz_sounds(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with little_memory():
            refused_or_fine(lambda: open_audio(str(path)))

    fuzz(check, changed_bytes(sound(form)))


def test_fuzz_places(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    values = (
        EVIL_TEXT
        | st.dictionaries(st.sampled_from(["path", "bytes"]), EVIL_TEXT | st.binary() | st.none())
        | st.integers()
    )

    def check(value: object) -> None:
        refused_or_fine(lambda: read_media(reference(value, tmp_path, "row 1") or "none"))

    fuzz(check, values | EVIL_TEXT.map(lambda text: f"a.png#{text}"), examples=80)
