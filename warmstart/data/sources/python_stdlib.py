"""The source and docstrings of Python's own standard library: real text wherever Python is, without a
download.

One `.py` file is one document; its top-level module is its domain (`section`, and `url` as a web address would have
it). The corpus differs between patch versions of Python, so the version is part
of the fingerprint; numbers from two versions are not comparable. Left out: installed packages, tables that
are data rather than code (`encodings`, `pydoc_data`), files that a build generates (they name the machine),
files that are not UTF-8, blank files, and by default the tests, which are more than half of the bytes and
missing from many distributions.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.errors import DataError, nearest

NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__", "lib-dynload"}
TABLES = {"encodings", "pydoc_data"}
TESTS = {"test", "tests", "idle_test"}
FORMAT = 2  # raised whenever rows get other columns or texts
GENERATED = ("_sysconfigdata", "config-", "sitecustomize")


class PythonStdlib(Source):
    """The running interpreter's standard library, one document per file; `id` is the path inside it."""

    type: Literal["python-stdlib"] = "python-stdlib"
    modules: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Only these top-level modules, e.g. [email, asyncio]; null: all."
    )
    tests: bool = Field(False, description="Also read the library's own tests, where the distribution ships them.")

    documents: Literal["file", "docstring"] = Field(
        "file", description="What one document is; docstring: the first line of each, a caption of what stands below."
    )

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for path in self._files():
            try:
                text = path.read_bytes().decode("utf-8-sig")
            except UnicodeDecodeError:
                continue  # a few test files are in other encodings on purpose
            name = path.relative_to(_folder())
            module = Path(name.parts[0]).stem
            places = {"section": module, "url": f"docs.python.org/{module}"}
            identity = name.as_posix()
            found = [(identity, text)] if self.documents == "file" else _docstrings(text, identity)
            for number, document in found:
                if document.strip():
                    yield {"text": document, "source": self.label or self.type, "id": number, **places}

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(f"{FORMAT} {platform.python_version()}".encode(), digest_size=16)
        for path in self._files():
            digest.update(f"\n{path.relative_to(_folder()).as_posix()} {path.stat().st_size}".encode())
        if self.documents != "file":
            digest.update(f"\n{self.documents}".encode())
        return digest.hexdigest()

    def _files(self) -> list[Path]:
        left_out = NOT_LIBRARY | TABLES | (set() if self.tests else TESTS)
        found = []
        for folder, folders, files in os.walk(_folder()):
            if Path(folder) == _folder():
                self._check_modules([Path(name).stem for name in (*folders, *files) if name not in NOT_LIBRARY])
            folders[:] = [name for name in folders if name not in left_out and not name.startswith(GENERATED)]
            found += [Path(folder, f) for f in files if f.endswith(".py") and not f.startswith(GENERATED)]
        if not found:
            raise DataError(
                f"python-stdlib: there are no .py files in {_folder()} (this Python has no library sources)"
            )
        if self.modules is not None:
            found = [path for path in found if Path(path.relative_to(_folder()).parts[0]).stem in self.modules]
        return sorted(found, key=lambda path: path.relative_to(_folder()).as_posix())

    def _check_modules(self, known: list[str]) -> None:
        for name in self.modules or []:
            if name not in known:
                raise DataError(f"python-stdlib: there is no module '{name}'{nearest(name, known)} in {_folder()}")


@cache
def _folder() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _docstrings(text: str, name: str) -> list[tuple[str, str]]:
    """`path:line` and the first line of each docstring of a file that Python can read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in old files
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                found.append((getattr(node, "lineno", 1), docstring.split("\n")[0].strip()))
    return [(f"{name}:{line}", first) for line, first in sorted(found)]
