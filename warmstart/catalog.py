"""The catalog: every published system that has a study here, what it claims, and where our own results are.

Reads the study files as plain values; imports nothing heavy, so that looking something up is quick. What the results
say is `report/gallery.py`; finding by words is `search.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, nearest
from warmstart.places import is_file, is_folder
from warmstart.recipe_text import read_file

STUDIES = Path(__file__).parent / "recipes"
RESULTS = (Path(__file__).parent.parent / "results", Path(__file__).parent / "results")
"""Where committed results are: in a checkout beside the package, or packaged with it."""

# Fields of a stage and of its data that hold parts.
PART_FIELDS = frozenset(
    {"source", "curate", "rewrite", "packing", "mix", "objective", "surgery", "optimizer", "schedule", "trainable",
     "layout", "evaluators", "documents", "learning_rate", "like"}
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """A published system with a study.

    Attributes:
        paper: `title`, `arxiv`, `year`, `url`, as far as the study gives them.
        claim: `what`, `value`, `where` and `arm`, as far as the study gives them.
        yours: what the study takes of a user's own (`warmstart/yours.py`).
        arms: the names of its arms.
        parts: the names of the parts that it uses.
        file: the study's file.
        results: the file of our own results; None where the study has not been run.
    """

    slug: str
    family: str
    title: str
    file: Path
    idea: str = ""
    modality: str = "text"
    paper: Mapping[str, Any] = field(default_factory=dict)
    claim: Mapping[str, Any] = field(default_factory=dict)
    yours: Mapping[str, Any] = field(default_factory=dict)
    arms: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    results: Path | None = None


def study_file(path_or_slug: Path | str) -> Path:
    """The file of a study that is given as a file, a slug, or `family/slug`.

    Raises:
        RecipeError: no such file or packaged study; the message names the nearest slug.
    """
    text = str(path_or_slug)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or is_file(path) or is_folder(path):
        return path
    found = {f"{p.parent.name}/{p.stem}": p for p in sorted(STUDIES.glob("*/*.yaml"))}
    for name, file in found.items():
        if text in (name, file.stem):
            return file
    slugs = [file.stem for file in found.values()]
    near = nearest(text.rsplit("/", 1)[-1], slugs)
    raise RecipeError(f"there is no file and no study '{text}'{near}; studies: {', '.join(slugs) or 'none'}")


def systems() -> list[System]:
    """All systems, by family and slug.

    Raises:
        RecipeError: a packaged study cannot be read.
    """
    return [system(file) for file in sorted(STUDIES.glob("*/*.yaml"), key=lambda file: (file.parent.name, file.stem))]


def system(file: Path) -> System:
    """The system of one study file.

    Raises:
        RecipeError: it cannot be read, or is no mapping.
    """
    raw = read_file(file).values
    if not isinstance(raw, Mapping):
        raise RecipeError(f"{file}: a study is a mapping")
    family, slug = file.parent.name, file.stem
    trained = {key: raw.get(key) for key in ("shared", "sources", "arms")}
    return System(
        slug=slug,
        family=family,
        title=str(raw.get("title", slug)),
        file=file,
        idea=str(raw.get("idea", "")),
        modality=str(raw.get("modality", "text")),
        paper=_mapping(raw.get("paper")),
        claim=_mapping(raw.get("claim")),
        yours=_mapping(raw.get("yours")),
        arms=tuple(map(str, _mapping(raw.get("arms")))),
        parts=tuple(dict.fromkeys(_parts(trained))),
        results=_results(family, slug),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _parts(node: Any, inside: bool = False) -> Iterator[str]:
    """The names of parts below a node: bare ones where a field holds a part, and every `type`."""
    if isinstance(node, str) and inside:
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _parts(item, inside)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _parts(value, key in PART_FIELDS or key == "type")


def _results(family: str, slug: str) -> Path | None:
    files = (folder / family / f"{slug}.json" for folder in RESULTS)
    return next((file for file in files if file.is_file()), None)
