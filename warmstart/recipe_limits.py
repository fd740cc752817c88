"""How much a recipe may become before it is checked.

A file of a few kilobytes can ask for gigabytes without a single alias: what a study shares is written under each of
its stages, a stage's data under each of its held-out sets, and a path with stars puts a mapping at every place that
an earlier one has made. All of that is counted before it is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.errors import RecipeError
from warmstart.recipe_text import MAX_DEPTH

MOST_VALUES = 500_000
"""Values of a study with everything that its stages inherit written out; the largest packaged one has 1,747 without."""
MOST_STAGES = 300
MOST_WORK = 2_000_000
"""Values of the study times the number of settings that are put on top of it."""


def size(value: Any) -> int:
    """The number of values in a value, itself and keys included."""
    count, waiting = 0, [value]
    while waiting:
        found = waiting.pop()
        count += 1
        if isinstance(found, Mapping):
            count += len(found)
            waiting.extend(found.values())
        elif isinstance(found, list | tuple):
            waiting.extend(found)
    return count


def check_settings(raw: Any, settings: int, where: str) -> None:
    """Makes sure that so many settings can be put on top of these values one after the other.

    Raises:
        RecipeError: they are too many.
    """
    if settings * size(raw) > MOST_WORK:
        raise RecipeError(f"{where}: {settings:,} settings on top of {size(raw):,} values are more than a study has")


def check_setting(raw: Any, path: str, value: Any, where: str) -> None:
    """Makes sure that a value put at every place that a path means does not make the whole too big.

    Raises:
        RecipeError: it does, or the path is too long.
    """
    steps = path.split(".")
    if len(steps) > MAX_DEPTH:
        raise RecipeError(f"{where}: a path of {len(steps):,} steps; at most {MAX_DEPTH}")
    places = [raw]
    for step in steps:
        places = [found for place in places for found in _below(place, step)]
    if len(places) * size(value) + size(raw) > MOST_VALUES:
        raise RecipeError(f"{where}: would make more than {MOST_VALUES:,} values; that is no recipe")


def _below(place: Any, step: str) -> list[Any]:
    """What a step of a path means; one value where it is yet to be made."""
    if step != "*":
        return [place.get(step) if isinstance(place, Mapping) else None]
    return list(place.values()) if isinstance(place, Mapping) else list(place) if isinstance(place, list) else []


def check_filled_in(raw: Any, name: str) -> None:
    """Makes sure that a recipe or study stays small when what its stages inherit is written under each of them.

    Raises:
        RecipeError: it does not.
    """
    if not isinstance(raw, Mapping):
        return
    shared = raw.get("shared")
    groups = [raw.get("stages")]
    for group in ("sources", "arms"):
        members = raw.get(group)
        groups += members.values() if isinstance(members, Mapping) else []
    stages = [stage for found in groups if isinstance(found, list) for stage in found]
    if len(stages) > MOST_STAGES:
        raise RecipeError(f"{name}: {len(stages):,} stages in all; at most {MOST_STAGES}")
    total = size(raw) + len(stages) * size(shared)
    for stage in stages:
        sets = _count(stage, ("evaluate", "also")) + _count(shared, ("evaluate", "also"))
        total += sets * (size(_at(stage, ("data",))) + size(_at(shared, ("data",))))
    if total > MOST_VALUES:
        raise RecipeError(
            f"{name}: what its stages share unfolds to more than {MOST_VALUES:,} values; that is no recipe"
        )


def _count(value: Any, steps: Sequence[str]) -> int:
    found = _at(value, steps)
    return len(found) if isinstance(found, Mapping) else 0


def _at(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
