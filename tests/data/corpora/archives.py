"""Tiny archives in each format, and a registry that gives them without a network."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

Files = dict[str, bytes | str]


def raw(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def tar(files: Files, compression: str = "gz", links: dict[str, str] | None = None, hard: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw(content))
            archive.addfile(member, io.BytesIO(raw(content)))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
            archive.addfile(member)
    return out.getvalue()


def wheel(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, raw(content))
    return out.getvalue()


def deb(files: Files, links: dict[str, str] | None = None, compression: str = "xz") -> bytes:
    """An ar file with the three members of a Debian package; one of odd length, which ar pads."""
    data = tar({f"./{name}": content for name, content in files.items()}, compression, links)
    out = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), (f"data.tar.{compression}", data)):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


class Clients:
    """Stands in for `subprocess.run`: pip, npm and apt-get over what was put in."""

    def __init__(self) -> None:
        self.archives: dict[str, tuple[str, bytes]] = {}  # by the word that asks for it
        self.index: dict[str, bytes] = {}  # apt's lists by file name
        self.says: dict[str, tuple[int, str]] = {}  # by client: its exit code and words, once
        self.calls: list[list[str]] = []
        self.offline = False

    def put(self, asked: str, file: str, content: bytes) -> None:
        self.archives[asked] = (file, content)

    def run(self, command: list[str], *, cwd: Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert "shell" not in options
        words = [Path(command[0]).name, *command[1:]]
        self.calls.append(words)
        client = "pip" if "pip" in words else words[0]
        if client == "apt-helper":
            return subprocess.CompletedProcess(command, 0, self.index[Path(words[-1]).name], b"")
        if self.offline or client in self.says:
            code, said = self.says.pop(client, (1, "E: Temporary failure resolving the host"))
            return subprocess.CompletedProcess(command, code, b"", said.encode())
        if client == "pip":
            asked, folder = Path(words[-1]).read_text().split()[0], Path(words[words.index("--dest") + 1])
        elif client == "npm":
            asked, folder = words[2], Path(words[-1])
        elif "update" in words:
            lists = next(Path(word.split("=")[1]) for word in words if word.startswith("Dir::State::lists="))
            language = next(word.split("=")[1] for word in words if word.startswith("Acquire::Languages="))
            for name in self.index:
                if "Translation-" not in name or name.endswith(f"-{language}.lz4"):
                    (lists / name).write_bytes(b"packed")
            return subprocess.CompletedProcess(command, 0, b"", b"")
        else:
            asked, folder = words[-1], cwd
        if asked not in self.archives:
            return subprocess.CompletedProcess(command, 100, b"", f"E: Unable to locate package {asked}".encode())
        name, content = self.archives[asked]
        (folder / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, b"", b"")
