"""Archives that somebody else made: paths that lead out, links, bombs. More in tests/data/corpora/test_unpack.py."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from canary import changed_bytes, fuzz, little_memory, nothing_run, refused_or_fine

from warmstart.data.corpora import unpack as unpacking
from warmstart.data.corpora.unpack import gunzip, unpack
from warmstart.errors import DataError


def tar(*members: tuple[str, bytes | str]) -> bytes:
    """A `.tar.gz`; a member whose content is text is a symbolic link to it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def zipped(*members: tuple[str, bytes], **settings: Any) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **settings) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def deb(data: bytes, name: str = "data.tar.gz") -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return b"!<arch>\n" + header + data


OUT = {
    "up": "../x/a.txt",
    "absolute": "/tmp/a.txt",
    "up in the middle": "x/../../a.txt",
    "on Windows": "..\\a.txt",
    "a drive": "C:/a.txt",
}


@pytest.mark.parametrize("case", OUT)
@pytest.mark.parametrize("form", ["a.tar.gz", "a.zip", "a.deb"])
def test_nothing_is_written_outside(case: str, form: str, tmp_path: Path) -> None:
    member = (OUT[case], b"content")
    content = {"a.tar.gz": tar(member), "a.zip": zipped(member), "a.deb": deb(tar(member))}[form]
    (tmp_path / form).write_bytes(content)
    with nothing_run(), pytest.raises(DataError, match="leads out of the archive"):
        unpack(tmp_path / form, ["*"], tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {form, "deep"}
    assert not list(tmp_path.rglob("a.txt"))


@pytest.mark.parametrize("target", ["/etc", "../..", "x"])
def test_a_link_is_never_written_through(target: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar(("link", target), ("link/passwd", b"evil")))
    refused_or_fine(lambda: unpack(tmp_path / "a.tar.gz", ["*"], tmp_path / "out"))
    assert not (tmp_path / "out" / "link").is_symlink()
    assert Path("/etc/passwd").read_bytes() != b"evil"


@pytest.mark.parametrize("form", ["a.tar.gz", "a.zip", "a.deb"])
def test_a_bomb_fills_neither_disk_nor_memory(form: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(unpacking, "LIMIT_BYTES", 2**22)
    member = ("a.txt", b"\0" * 2**26)
    content = {
        "a.tar.gz": tar(member),
        "a.zip": zipped(member, compression=zipfile.ZIP_DEFLATED),
        "a.deb": deb(tar(member)),
    }[form]
    assert len(content) < 2**17
    (tmp_path / form).write_bytes(content)
    with little_memory(2**27), pytest.raises(DataError, match="more than 4 MiB inside; it is not extracted"):
        unpack(tmp_path / form, ["*"], tmp_path / "out")


@pytest.mark.parametrize("form", ["a.tar.gz", "a.deb"])
def test_a_bomb_among_what_is_passed_over(form: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(unpacking, "LIMIT_STREAM", 2**22)
    packed = tar(("bomb", b"\0" * 2**26), ("a.txt", b"content"))
    (tmp_path / form).write_bytes(packed if form == "a.tar.gz" else deb(packed))
    with little_memory(2**27), pytest.raises(DataError, match="GiB inside; it is not extracted"):
        unpack(tmp_path / form, ["a.txt"], tmp_path / "out")


def test_a_gzip_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0" * 2**26))
    with little_memory(2**26), pytest.raises(DataError, match="more than 1,048,576 bytes inside"):
        gunzip(tmp_path / "a.gz", limit=2**20)


def test_a_file_that_is_a_folder_too(tmp_path: Path) -> None:
    members = (("a.txt", b"1"), ("a.txt/b.txt", b"2"))
    for form, content in (("a.tar.gz", tar(*members)), ("a.zip", zipped(*members))):
        (tmp_path / form).write_bytes(content)
        with pytest.raises(DataError, match="damaged archive"):
            unpack(tmp_path / form, ["*"], tmp_path / "out" / form)


def test_a_zip_file_that_points_before_its_beginning(tmp_path: Path) -> None:
    """Found by the fuzzer: the operating system refuses to go to a negative place."""
    (tmp_path / "a.zip").write_bytes(zipped(("a.txt", b"content"))[1:])
    with pytest.raises(DataError, match="damaged archive"):
        unpack(tmp_path / "a.zip", ["*"], tmp_path / "out")


def test_a_zip_file_with_a_file_without_a_name(tmp_path: Path) -> None:
    """Found by the fuzzer: Python's zipfile looks for the name's last sign."""
    (tmp_path / "a.zip").write_bytes(zipped(("a", b"content")).replace(b"a", b"\0"))
    with pytest.raises(DataError, match="a file in it has no name"):
        unpack(tmp_path / "a.zip", ["*"], tmp_path / "out")


WHOLE = {
    "a.tar.gz": tar(("a.txt", b"content"), ("b/c.txt", b"more")),
    "a.zip": zipped(("a.txt", b"content"), ("b/c.txt", b"more")),
    "a.whl": zipped(("a.txt", b"content" * 50), compression=zipfile.ZIP_DEFLATED),
    "a.deb": deb(tar(("a.txt", b"content"))),
}


@pytest.mark.parametrize("form", sorted(WHOLE))
def test_fuzz_archives(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    number = iter(range(10**9))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with little_memory():
            refused_or_fine(lambda: unpack(path, ["*.txt"], tmp_path / str(next(number))))

    fuzz(check, changed_bytes(WHOLE[form]))


def test_fuzz_the_inside_of_tar_files(tmp_path: Path) -> None:
    """A changed tar file, packed anew, so that its checksum is right."""
    path = tmp_path / "a.tar.gz"
    number = iter(range(10**9))

    def check(content: bytes) -> None:
        path.write_bytes(gzip.compress(content, 1))
        with little_memory():
            refused_or_fine(lambda: unpack(path, ["*.txt"], tmp_path / str(next(number))))

    fuzz(check, changed_bytes(gzip.decompress(WHOLE["a.tar.gz"])))
