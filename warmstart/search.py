"""Find systems by words and by meaning, offline and at once: TF-IDF over a study's words, the field's synonyms, and
character n-grams for endings and typing errors.

Every word of a query is looked for in every system; how well it is found depends on where (the slug and the title say
more than the names of parts) and how (the word itself, a word that means the same, a similar one). A rare word counts
more than a common one. The price of having no learned model: what neither the study's words nor `field_words.py` say is
not found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from warmstart.catalog import System, systems
from warmstart.field_words import GROUPS

STOP_WORDS = frozenset(
    """a about all am an and another any are as at be been before best better but by can could do does don each every
    for from get give go good had has have help helps how i if in instead into is it its just let like make makes making
    me method methods more most much my need no not of on one or other our paper papers should some something system
    systems than that the their them then there these they thing things this to use used using want was way ways we
    what when where which while who why will with without work works would you your""".split()  # noqa: SIM905
)
ENDINGS = ("ings", "ing", "ions", "ion", "ers", "er", "ies", "ied", "es", "ed", "ly", "s", "e")
SYNONYM = 0.7  # of a word that means the same
SIMILAR = 0.6  # of a word whose n-grams are all the same; below SIMILAR_FROM of them: nothing
SIMILAR_FROM = 0.5
# A comparative is not its adjective: most papers are about large models, few about larger ones.
IRREGULAR = {"larger": "bigger", "bigger": "bigger", "grew": "grow", "grown": "grow", "learnt": "learn"}
FIELDS = (1.0, 0.9, 0.8, 0.6, 0.5)  # slug; title; idea; claim and paper; family, modality, parts and arms
FURTHER = 0.15  # of a word that another field has too
NAMED = 0.3  # on top, where the query is the slug
LEAST = 0.2  # of what a query could reach
LEAST_OF_BEST = 0.5


@dataclass(frozen=True)
class Words:
    """The stems and the meanings (numbers of groups) of a text."""

    stems: tuple[str, ...]
    meanings: frozenset[int]


def search(query: str = "", among: Sequence[System] | None = None) -> list[System]:
    """The systems that a query means, best first; without words all, in their own order.

    Args:
        among: where to look; default: the packaged systems.
    """
    found = list(systems() if among is None else among)
    asked = _units(query)
    if not asked:
        return [] if query.strip() else found
    fields = [_fields(system) for system in found]
    table = [[_found(unit, system) for system in fields] for unit in asked]
    weights = [_rarity(row) for row in table]
    most = sum(weights)
    scores = [sum(w * row[k] for w, row in zip(weights, table, strict=True)) / most for k in range(len(found))]
    scores = [score + NAMED * _named(query, system) for score, system in zip(scores, found, strict=True)]
    least = max(LEAST, LEAST_OF_BEST * max(scores, default=0.0))
    order = sorted(range(len(found)), key=lambda k: (-round(scores[k], 3), len(found[k].slug), k))
    return [found[k] for k in order if scores[k] >= least]


def stem(word: str) -> str:
    """A word without its common English endings: `growing` and `grows` meet in `grow`, `padding` and `padded` in
    `pad`."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    for ending in ENDINGS:
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and not (ending == "s" and word.endswith("ss")):
            double = len(rest) > 3 and rest[-1] == rest[-2] and rest[-1] not in "aeiouls"
            return rest[:-1] if double else rest
    return word


def _lower(text: str) -> str:
    """Small letters; a part of speech is no speech."""
    return re.sub("parts?[- ]of[- ]speech", "pos", text.lower())


def stems(text: str) -> list[str]:
    """The stems of a text's words; a prefix with a hyphen belongs to its word (`pre-training`)."""
    joined = re.sub(r"\b(re|pre|un|up|de|multi|fine)-(?=[a-z])", r"\1", _lower(text))
    return [stem(word) for word in re.findall(r"[a-z0-9]+", joined)]


@cache
def _groups() -> list[list[tuple[str, ...]]]:
    """Each group of words as sequences of stems."""
    return [[tuple(stems(word.replace("_", " "))) for word in line.split()] for line in GROUPS.split("\n") if line]


def meanings(found: Sequence[str]) -> frozenset[int]:
    """The numbers of the groups of which a word or a phrase is in a text of stems."""
    inside = {tuple(found[i : i + n]) for n in (1, 2, 3, 4) for i in range(len(found) - n + 1)}
    return frozenset(number for number, group in enumerate(_groups()) if any(phrase in inside for phrase in group))


def _units(query: str) -> list[Words]:
    """What is looked for: each word, and each phrase that has a meaning of its own."""
    words = re.findall(r"[a-z0-9.]+", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", _lower(query)))
    kept = [stem(word.strip(".")) for word in words if word not in STOP_WORDS and word.strip(".")]
    joined = stems(query)
    units = [Words((word,), meanings([word])) for word in dict.fromkeys(kept)]
    alone = frozenset().union(*(unit.meanings for unit in units))
    phrases = meanings(joined) - alone
    return units + [Words((), frozenset({meaning})) for meaning in sorted(phrases)]


def _fields(system: System) -> list[Words]:
    paper, claim = system.paper, system.claim
    texts = (
        f"{system.slug} {system.slug.replace('-', ' ')}",
        system.title,
        system.idea,
        f"{claim.get('what', '')} {claim.get('where', '')} {paper.get('title', '')} {paper.get('arxiv', '')} "
        f"{paper.get('year', '')}",
        " ".join((system.family, system.modality, *system.parts, *system.arms)),
    )
    result = []
    for text in texts:
        words = _lower(text)  # as they are too: arXiv numbers, slugs, what a hyphen joins
        found = [*stems(text), *re.findall(r"[a-z0-9.]+", words), *re.findall(r"[a-z0-9-]+", words)]
        result.append(Words(tuple(dict.fromkeys(found)), meanings(stems(text))))
    return result


def _found(unit: Words, fields: Sequence[Words]) -> float:
    """How well a unit is found in a system, 0 to 1."""
    hits = sorted((weight * _hit(unit, words) for weight, words in zip(FIELDS, fields, strict=True)), reverse=True)
    return min(1.0, hits[0] + FURTHER * sum(hits[1:]))


def _hit(unit: Words, words: Words) -> float:
    if any(word in words.stems for word in unit.stems):
        return 1.0
    best = SYNONYM if unit.meanings & words.meanings else 0.0
    for word in unit.stems:
        for other in words.stems:
            alike = similarity(word, other)
            if alike >= SIMILAR_FROM:
                best = max(best, SIMILAR * alike)
    return best


@cache
def similarity(one: str, other: str) -> float:
    """The share of letter pairs and triples that two words have in common (Dice), with their beginnings and ends."""
    if min(len(one), len(other)) < 4 or one[0] != other[0]:
        return 0.0
    first, second = _ngrams(one), _ngrams(other)
    return 2 * len(first & second) / (len(first) + len(second))


@cache
def _ngrams(word: str) -> frozenset[str]:
    marked = f"^{word}$"
    return frozenset(marked[i : i + n] for n in (2, 3) for i in range(len(marked) - n + 1))


def _named(query: str, system: System) -> float:
    """How much a query is the slug itself, typing errors aside."""
    alike = similarity("".join(re.findall(r"[a-z0-9]+", query.lower())), system.slug.replace("-", ""))
    return alike if alike >= SIMILAR_FROM else 0.0


def _rarity(row: Sequence[float]) -> float:
    """The weight of a word: more where fewer systems have it; most where none has, so that it counts against all."""
    return math.log(1 + len(row) / max(sum(row), 0.5))
