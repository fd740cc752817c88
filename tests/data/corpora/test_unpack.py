"""Archives are opened as if an enemy had made them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from archives import deb, tar, wheel

from warmstart.data.corpora import unpack as module
from warmstart.data.corpora.unpack import gunzip, text_digest, unpack
from warmstart.errors import DataError

FILES = {"package/data/a.txt": "one", "package/data/b.json": "{}", "package/deep/er/c.txt": b"\xff"}
KINDS = {
    "x.tgz": tar,
    "x.tar.gz": tar,
    "x.whl": wheel,
    "x.zip": wheel,
    "x.deb": deb,
    "y.deb": lambda files: deb(files, compression="gz"),
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_only_the_files_that_are_needed(tmp_path: Path, name: str) -> None:
    archive = write(tmp_path / name, KINDS[name](FILES))
    found = unpack(archive, ["package/*.txt"], tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in found] == [
        "package/data/a.txt",
        "package/deep/er/c.txt",
    ]
    assert [p.read_bytes() for p in found] == [b"one", b"\xff"]
    assert sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file()) == found


EVIL = ["../evil.txt", "package/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt", "package/.."]


@pytest.mark.parametrize("path", EVIL)
@pytest.mark.parametrize("name", ["x.tgz", "x.whl"])
def test_a_path_that_leads_out_ends_the_extraction(tmp_path: Path, name: str, path: str) -> None:
    archive = write(tmp_path / name, KINDS[name]({path: "evil", "package/a.txt": "fine"}))
    with pytest.raises(DataError, match="leads out of the archive"):
        unpack(archive, ["*"], tmp_path / "deep" / "out")
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {name}


@pytest.mark.parametrize("hard", [False, True])
def test_links_are_never_made(tmp_path: Path, hard: bool) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    inside = tar({"package/a.txt": "one"}, links={"package/b.txt": "package/a.txt" if hard else "a.txt"}, hard=hard)
    assert [p.name for p in unpack(write(tmp_path / "a.tgz", inside), ["package/*"], tmp_path / "a")] == ["a.txt"]
    outside = tar({"package/a.txt": "one"}, links={"package/b.txt": "../../secret.txt"}, hard=hard)
    with pytest.raises(DataError, match="leads out of the archive"):
        unpack(write(tmp_path / "b.tgz", outside), ["package/*"], tmp_path / "b")


def test_a_link_cannot_become_a_folder_to_write_through(tmp_path: Path) -> None:
    links = {"package/door": "/tmp"}
    content = deb({"package/door/a.txt": "one", "package/a.txt": "two"}, links=links)
    unpack(write(tmp_path / "a.deb", content), ["package/*"], tmp_path / "out")
    assert (tmp_path / "out/package/door/a.txt").read_text() == "one"
    assert not (tmp_path / "out/package/door").is_symlink()


@pytest.mark.parametrize("name", ["x.tgz", "x.whl", "x.deb"])
def test_a_bomb_is_not_extracted(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_BYTES", 2**20)
    archive = write(tmp_path / name, KINDS[name]({"a": b"0" * 2**19, "b": b"0" * 2**20}))
    assert archive.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than 1 MiB inside"):
        unpack(archive, ["*"], tmp_path / "out")
    unpack(archive, ["a"], tmp_path / "fine")


def test_too_many_files_and_one_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_FILES", 2)
    with pytest.raises(DataError, match="too many files"):
        unpack(write(tmp_path / "a.tgz", tar({"a": "", "b": "", "c": ""})), ["*"], tmp_path / "a")
    with pytest.raises(DataError, match="'a' twice"):
        unpack(write(tmp_path / "b.tgz", tar({"a": "", "./a": ""})), ["*"], tmp_path / "b")


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_archive_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    files = {f"package/{n}.txt": str(n * 7919) * 500 for n in range(30)}
    whole = KINDS[name](files)
    for content in (whole[: len(whole) // 2], b"", b"nonsense" * 100):
        with pytest.raises(DataError, match=f"{name}: damaged archive") as caught:
            unpack(write(tmp_path / name, content), ["*"], tmp_path / "out")
        assert "\n" not in str(caught.value)
        for left in (tmp_path / "out").rglob("*.txt"):
            left.unlink()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tgz", tar(FILES))
    with pytest.raises(DataError, match=r"no file 'package/\*\.csv' in it"):
        unpack(archive, ["package/*.txt", "package/*.csv"], tmp_path / "out")
    with pytest.raises(DataError, match="not an archive that can be read"):
        unpack(write(tmp_path / "a.rar", b""), ["*"], tmp_path / "out")
    with pytest.raises(DataError, match=r"data\.tar\.zst is compressed in a way"):
        unpack(write(tmp_path / "a.deb", deb(FILES).replace(b"data.tar.xz ", b"data.tar.zst")), ["*"], tmp_path / "out")


def test_gunzip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(b"text" * 100))
    assert gunzip(path) == b"text" * 100
    with pytest.raises(DataError, match="more than 399 bytes"):
        gunzip(path, 399)
    for content in (path.read_bytes()[:-9], b"plain"):
        with pytest.raises(DataError, match=r"a\.gz: damaged"):
            gunzip(write(path, content))


def test_the_digest_of_texts_knows_paths_and_contents_but_not_how_they_were_packed(tmp_path: Path) -> None:
    def digest(folder: str, files: dict[str, bytes]) -> str:
        paths = []
        for name, content in files.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            paths.append(write(tmp_path / folder / name, content))
        return text_digest(tmp_path / folder, paths)

    first = digest("a", {"x.gz": gzip.compress(b"one", 1, mtime=1), "y": b"two"})
    assert digest("b", {"y": b"two", "x.gz": gzip.compress(b"one", 9, mtime=2)}) == first
    assert digest("c", {"x.gz": gzip.compress(b"ont"), "y": b"wo"}) != first
    assert digest("d", {"z.gz": gzip.compress(b"one"), "y": b"two"}) != first
