"""Pictures and sounds of rows: what opens, at which size and rate, and what a broken one says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from warmstart.data.media import check_media, open_audio, open_image, read_media, resampled
from warmstart.errors import DataError

Image = pytest.importorskip("PIL.Image")


def test_a_place_inside_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    (tmp_path / "all.bin").write_bytes(b"abcdefgh")
    assert read_media(f"{tmp_path}/all.bin") == b"abcdefgh"
    assert read_media(f"{tmp_path}/all.bin#2+3") == b"cde"
    assert read_media("cache://all.bin#0+1") == b"a"
    for reference, message in (
        ("cache://all.bin#6+3", "cut short"),
        ("cache://all.bin#9+3", "empty"),
        (f"{tmp_path}/none.png", "cannot be read: No such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_media(reference)


def test_transparency_is_white_and_the_middle_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 4), np.uint8)
    pixels[:, 2:6] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = open_image(str(tmp_path / "a.png"))
    assert whole.shape == (4, 8, 3)
    assert (whole[:, 0] == 255).all()
    assert (whole[:, 3] == (10, 20, 30)).all()
    square = open_image(str(tmp_path / "a.png"), 2)
    assert square.shape == (2, 2, 3)
    assert (square == (10, 20, 30)).all()
    square[:] = 0  # a caller may change its copy
    assert (open_image(str(tmp_path / "a.png"), 2) == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["P", "LA", "L", "1", "CMYK"])
def test_every_kind_of_picture(tmp_path: Path, mode: str) -> None:
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (5, 5)).save(name)
    assert open_image(str(name), 3).shape == (3, 3, 3)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match="no picture that can be opened"):
        open_image(str(tmp_path / "a.png"))
    header = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(header, "PNG")
    (tmp_path / "bomb.png").write_bytes(header.getvalue())
    with pytest.raises(DataError, match=r"30000 x 30000 pixels; at most 20,000,000|decompression bomb"):
        open_image(str(tmp_path / "bomb.png"))


def test_sounds(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(8000) / 8000
    tone = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(8000)], axis=1)
    soundfile.write(tmp_path / "a.wav", tone, 8000)
    samples = open_audio(str(tmp_path / "a.wav"))
    assert samples.dtype == np.float32
    assert samples.shape == (16000,)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() == 440
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)  # the mean of a tone and silence
    soundfile.write(tmp_path / "none.wav", tone[:0], 8000)
    with pytest.raises(DataError, match="has no samples"):
        open_audio(str(tmp_path / "none.wav"))
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="no sound that can be opened"):
        check_media({"audio": str(tmp_path / "b.wav")})


def test_the_same_rate_is_left_alone() -> None:
    samples = np.linspace(-1, 1, 7, dtype=np.float32)
    assert resampled(samples, 8000, 8000) is samples
    assert len(resampled(samples, 44_100, 16_000)) == 3
