"""Pictures of a user's own: named by files, or inside of Parquet files and data sets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmstart.data.media import open_image, read_media
from warmstart.data.sources.files import Files
from warmstart.data.sources.hugging_face import HuggingFace
from warmstart.errors import DataError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def test_paths_count_from_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "red.png").write_bytes(png((255, 0, 0)))
    rows = [{"text": "red", "image": "pictures/red.png"}, {"text": "none"}]
    (tmp_path / "mine" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    red, none = Files(path="mine/*.jsonl", columns=["image"]).rows()
    monkeypatch.chdir("/")
    assert (open_image(red["image"]) == (255, 0, 0)).all()
    assert none["image"] is None


def test_bytes_in_parquet_are_kept_once_in_the_cache(tmp_path: Path) -> None:
    red, blue = png((255, 0, 0)), png((0, 0, 255))
    pictures = [{"bytes": red, "path": "a.png"}, {"bytes": blue, "path": None}, {"bytes": red, "path": None}]
    pq.write_table(pa.table({"text": ["a", "b", "c"], "image": pictures}), tmp_path / "rows.parquet")
    a, b, c = Files(path=str(tmp_path / "rows.parquet"), columns=["image"]).rows()
    assert a["image"] == c["image"] != b["image"]
    assert a["image"].startswith("cache://media/")
    assert (read_media(a["image"]), read_media(b["image"])) == (red, blue)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_pictures_of_a_data_set(tmp_path: Path, streaming: bool) -> None:
    picture = Image.fromarray(np.full((3, 3, 3), 7, np.uint8))
    data = datasets.Dataset.from_dict({"text": ["seven"], "image": [picture]}).cast_column("image", datasets.Image())
    data.save_to_disk(str(tmp_path / "set"))
    (row,) = HuggingFace(path=str(tmp_path / "set"), columns=["image"], streaming=streaming).rows()
    assert (open_image(row["image"]) == 7).all()


def test_what_is_no_reference(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "image": 5}\n{"text": "b", "image": "cache://../secret"}\n')
    skipped: list[DataError] = []
    (row,) = Files(path=str(tmp_path / "rows.jsonl"), columns=["image"]).rows(skipped.append)
    assert str(skipped[0]).endswith("rows.jsonl, line 1, image: neither a path nor bytes, but int")
    with pytest.raises(DataError, match="outside the cache"):
        read_media(row["image"])
