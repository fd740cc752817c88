"""What a release of a library brought, on two releases of a tiny one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.corpora import python_apis
from warmstart.data.corpora.python_apis import Release, definitions, imported, read

OLD = """import os
from . import errors
def same(): return os
def other(a): return a
"""
NEW = '''"""The module."""
import os
import numpy.linalg as la, numpy.random
from .errors import Bad as Worse
try:
    from ..lib import deep
except ImportError:
    import deep
def same(): return os
class Fresh:
    @property
    def x(self):
        return numpy, Worse
@deep.wraps
@la
def other(a):
    import late
    return a, "os", late
constant = 1
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    releases = (Release("lib-py", "1.0", 2010, ""), Release("lib-py", "2.0", 2020, ""))
    monkeypatch.setattr(python_apis, "LIBRARIES", {"lib": releases})
    files = {
        "lib-py-1.0/lib/sub/mod.py": OLD.encode(),
        "lib-py-2.0/lib/sub/mod.py": NEW.encode(),
        "lib-py-2.0/lib/__init__.py": b"def top(): pass\r\n",
        "lib-py-2.0/lib/broken.py": b"print 'old'\ndef lost(): pass",
        "lib-py-2.0/lib/latin.py": b"def lost(): '\xe9'",
        "lib-py-2.0/lib/tests/test_mod.py": b"def lost(): pass",
        "lib-py-2.0/lib/sub/test_more.py": b"def lost(): pass",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_what_was_added_and_what_changed(folder: Path) -> None:
    rows = {row["id"]: row for row in read(folder, "en")}
    assert {name: row["change"] for name, row in rows.items()} == {
        "lib-py-1.0/lib.sub.mod.same": "old",
        "lib-py-1.0/lib.sub.mod.other": "old",
        "lib-py-2.0/lib.top": "added",
        "lib-py-2.0/lib.sub.mod.Fresh": "added",
        "lib-py-2.0/lib.sub.mod.other": "changed",
    }
    fresh: dict[str, Any] = rows["lib-py-2.0/lib.sub.mod.Fresh"]
    assert (fresh["library"], fresh["release"], fresh["year"]) == ("lib", "2.0", 2020)
    assert (fresh["section"], fresh["title"]) == ("lib.sub.mod", "Fresh")
    for row in rows.values():
        ast.parse(row["text"])


def test_a_text_begins_with_the_imports_that_it_uses(folder: Path) -> None:
    texts = {found.name: (found.imports, found.source) for found in definitions(folder / "lib-py-2.0", "lib")}
    assert texts["same"] == ("import os", "def same(): return os")
    assert texts["Fresh"][0] == "import numpy.random\nfrom lib.sub.errors import Bad as Worse"
    imports, source = texts["other"]
    assert imports == "import numpy.linalg as la\nfrom lib.lib import deep"
    assert source.startswith("@deep.wraps\n@la\ndef other(a):")


def test_imports_are_written_out() -> None:
    code = "from . import a\nfrom .. import b as c\nfrom ..d.e import f\nfrom g import *\n"
    code += "if 1:\n import h.i\ndef x(): import j"
    assert imported(ast.parse(code), ("p", "q")) == {
        "a": "from p.q import a",
        "c": "from p import b as c",
        "f": "from p.d.e import f",
        "*": "from g import *",
        "h": "import h.i",
    }


def test_every_release_is_pinned_and_has_a_place_of_its_own() -> None:
    packages = python_apis.CORPUS.packages
    assert len(packages) == 10
    assert len({package.into for package in packages}) == 10
    assert all(package.sha256 and len(package.sha256) == 64 for package in packages)
