"""APIs that grew: the functions and classes of five Python libraries, each in an old and a new release.

A row is one function or class at the top of a module, after those of the module's imports that it uses (relative ones
written out), so that every text says where the names in it come from. `change` says what a release brought:

    old      all of the old release
    added    in the new release, under a name that the library did not have
    changed  in the new release, under a known name with another text

What stands in both releases with the same text is in `old` alone. Tests, and files that Python 3 cannot read, are left
out. The libraries are small enough to be read whole, far from each other (graphs, input and output, SQL, networks,
quantum circuits), freely licensed, and refer to their own modules by name (`nx.`, `trio.`, `exp.`, `ops.`, `cirq.`).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from warmstart.data.corpora.corpus import Corpus, Package, Row

TESTS = {"tests", "_tests", "test", "testing", "conftest.py"}


@dataclass(frozen=True)
class Release:
    """A release of a library: its package on PyPI, and the sha256 of its wheel."""

    package: str
    version: str
    year: int
    sha256: str


LIBRARIES: dict[str, tuple[Release, Release]] = {
    "networkx": (
        Release("networkx", "1.11", 2016, "1b229b54fe9ccb009cee4de02a88552191497a542a7d5d34adab216b9f15c1ff"),
        Release("networkx", "3.3", 2024, "28575580c6ebdaf4505b22c6256a2b9de86b316dc63ba9e93abde3d78dfdbcf2"),
    ),
    "trio": (
        Release("trio", "0.9.0", 2018, "65cf596eccad597f46fce1d53220e5aca9a143e52cc99e11f33e429b0c4de33f"),
        Release("trio", "0.25.1", 2024, "e42617ba091e7b2e50c899052e83a3c403101841de925187f61e7b7eaebdf3fb"),
    ),
    "sqlglot": (
        Release("sqlglot", "10.0.8", 2022, "cb47aa8b4eb7d8fc5edad9ad1a2a2c78f5ad9846b6a5abfe0b92712f38dceb9a"),
        Release("sqlglot", "25.0.3", 2024, "810dedc451e2d4e947effe50eeb6a5e85a6f624053086bb77d0228a45b78e0b7"),
    ),
    "keras": (
        Release("keras", "2.1.6", 2018, "a7abff3e87b6706764fbbd0521ba8f54c48f0720fd0495860cd3d2fd67899d48"),
        Release("keras", "3.3.3", 2024, "260df9ef71c6b89eb6816ce1c60f139c38ccdddd16f24e7005d2be127cdef8e4"),
    ),
    "cirq": (
        Release("cirq-core", "0.11.1", 2021, "ffe63fe7f1320ee76e5ed515d387e7c914fb8b4cf3f01607921f268627b1e161"),
        Release("cirq-core", "1.3.0", 2023, "d46771ddf4adb0867d3fb6da8c4484b73bada5bfaa58c19e2444aa8838270fd9"),
    ),
}


@dataclass(frozen=True)
class Definition:
    """A function or class at the top of a module."""

    module: str
    name: str
    source: str
    imports: str


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per definition: `library`, `release`, `year`, `change`, `section` (module), `title` (name)."""
    for library, (old, new) in LIBRARIES.items():
        before = list(definitions(folder / place(old), library))
        texts, names = {found.source for found in before}, {found.name for found in before}
        for found in before:
            yield _row(found, library, old, "old")
        for found in definitions(folder / place(new), library):
            if found.source not in texts:
                yield _row(found, library, new, "changed" if found.name in names else "added")


def place(release: Release) -> str:
    """Where a release is extracted: two of one library have the same paths inside."""
    return f"{release.package}-{release.version}"


def definitions(folder: Path, library: str) -> Iterator[Definition]:
    """The definitions of a library's modules below `folder / library`, in the order of paths and lines."""
    for path in sorted((folder / library).rglob("*.py")):
        parts = PurePosixPath(path.relative_to(folder).as_posix()).parts
        if TESTS & set(parts) or parts[-1].startswith("test_") or parts[-1].endswith("_test.py"):
            continue
        try:
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of invalid escapes in old files
                tree = ast.parse(text)
        except (UnicodeDecodeError, SyntaxError):
            continue
        package = parts[:-1]
        module = ".".join([*package, path.stem] if path.stem != "__init__" else package)
        lines, bound = text.split("\n"), imported(tree, package)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
                wanted = dict.fromkeys(line for name, line in bound.items() if name in used)
                yield Definition(module, node.name, "\n".join(lines[first - 1 : node.end_lineno]), "\n".join(wanted))


def imported(tree: ast.Module, package: tuple[str, ...]) -> dict[str, str]:
    """The names that a module's imports bind outside of functions and classes, each with a line that imports it.

    Args:
        package: the package that the module is in, from which relative imports are written out.
    """
    bound = {}
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop(0)
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                bound[name] = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                line = f"from {origin} import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                bound[alias.asname or alias.name] = line
        elif isinstance(node, ast.If | ast.Try):
            nodes += ast.iter_child_nodes(node)
    return bound


def _row(found: Definition, library: str, release: Release, change: str) -> Row:
    return {
        "text": f"{found.imports}\n\n{found.source}".strip("\n"),
        "id": f"{place(release)}/{found.module}.{found.name}",
        "library": library,
        "release": release.version,
        "year": release.year,
        "change": change,
        "section": found.module,
        "title": found.name,
    }


CORPUS = Corpus(
    name="python-apis",
    title="Functions and classes of five Python libraries, in an old and a new release each",
    licence="BSD-3-Clause (networkx), MIT or Apache-2.0 (trio), MIT (sqlglot, keras 2), Apache-2.0 (keras 3, cirq)",
    megabytes=19.35,
    rows=10_394,
    read=read,
    packages=tuple(
        Package("pypi", release.package, release.version, (f"{library}/*.py",), release.sha256, into=place(release))
        for library, releases in LIBRARIES.items()
        for release in releases
    ),
    columns=("library", "release", "year", "change", "section", "title"),
)
