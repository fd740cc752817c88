"""The catalog: every published system that has a study here, what it claims, and what our own runs say.

Reads the study files' headers only; imports nothing heavy, so that looking something up is quick.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, nearest
from warmstart.recipe_text import read_file

STUDIES = Path(__file__).parent / "recipes"
RESULTS = (Path(__file__).parent.parent / "results", Path(__file__).parent / "results")
"""Where committed results are: in a checkout beside the package, or packaged with it."""


@dataclass(frozen=True)
class System:
    """A published system with a study.

    Attributes:
        paper: title, arXiv number and year, as far as the study gives them.
        claim: what the paper says, in a few words; empty where the study names no claim.
        verdicts: our own verdict for each arm, from the committed results; empty where there are none.
    """

    slug: str
    family: str
    title: str
    idea: str = ""
    modality: str = "text"
    paper: str = ""
    claim: str = ""
    scale: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The arms' verdicts in a few words: `holds 3, unclear 2 (laptop)`; without results `not run`."""
        if not self.verdicts:
            return "not run"
        counts = Counter(self.verdicts.values()).most_common()
        words = counts[0][0] if len(counts) == 1 else ", ".join(f"{verdict} {count}" for verdict, count in counts)
        return f"{words} ({self.scale})" if self.scale else words


def study_file(path_or_slug: Path | str) -> Path:
    """The file of a study that is given as a file, a slug, or `family/slug`.

    Raises:
        RecipeError: no such file or packaged study; the message names the nearest slug.
    """
    text = str(path_or_slug)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.exists():
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
    return [_system(file) for file in sorted(STUDIES.glob("*/*.yaml"))]


def search(query: str = "") -> list[System]:
    """The systems in which all words of the query occur (endings aside), best first; no words: all."""
    words = _stems(query)
    if not words:
        return systems()
    scored = []
    for system in systems():
        weights = Counter[str]()
        for weight, text in (
            (4, f"{system.slug} {system.family}"),
            (2, f"{system.title} {system.idea}"),
            (1, f"{system.paper} {system.claim} {system.modality} {system.verdict}"),
        ):
            for stem in set(_stems(text)):
                weights[stem] += weight
        scores = [max((w for stem, w in weights.items() if _alike(word, stem)), default=0) for word in words]
        if all(scores):
            scored.append((-sum(scores), system.family, system.slug, system))
    return [entry[-1] for entry in sorted(scored, key=lambda entry: entry[:3])]


def _alike(word: str, stem: str) -> bool:
    """Equal, or the one begins the other: `optim` finds `optimizer`, `grown` finds `grow`."""
    return word == stem or (len(word) >= 3 and stem.startswith(word)) or (len(stem) >= 4 and word.startswith(stem))


def _stems(text: str) -> list[str]:
    """Lower-case words without common English endings: `growing` and `grows` meet in `grow`."""
    result = []
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        for ending in ("ings", "ing", "ers", "er", "ies", "ied", "es", "ed", "s"):
            if word.endswith(ending) and len(word) - len(ending) >= 4:
                word = word.removesuffix(ending)
                break
        result.append(word)
    return result


def _system(file: Path) -> System:
    raw = read_file(file).values
    if not isinstance(raw, Mapping):
        raise RecipeError(f"{file}: a study is a mapping")
    family, slug = file.parent.name, file.stem
    paper, claim = raw.get("paper") or {}, raw.get("claim") or {}
    results = _results(family, slug)
    effects = results.get("effects", {})
    return System(
        slug=slug,
        family=family,
        title=str(raw.get("title", slug)),
        idea=str(raw.get("idea", "")),
        modality=str(raw.get("modality", "text")),
        paper=", ".join(
            str(part)
            for part in (
                paper.get("title"),
                f"arXiv {paper['arxiv']}" if paper.get("arxiv") else None,
                paper.get("year"),
            )
            if part
        ),
        claim=_claim(claim),
        scale=str(results.get("scale", "")),
        verdicts={arm: str(effect.get("verdict")) for arm, effect in effects.items() if effect.get("verdict")},
    )


def _claim(claim: Mapping[str, Any]) -> str:
    value = claim.get("value")
    amount = (
        f" {100 * value:.3g} %" if isinstance(value, float) and 0 < abs(value) < 1 else f" {value}" if value else ""
    )
    where = f" ({claim['where']})" if claim.get("where") else ""
    return f"{claim.get('what', '')}{amount}{where}".strip()


def _results(family: str, slug: str) -> dict[str, Any]:
    for folder in RESULTS:
        file = folder / family / f"{slug}.json"
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RecipeError(f"{file} is not JSON: {error}") from error
            return found if isinstance(found, dict) else {}
    return {}
