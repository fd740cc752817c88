"""What is wrong with a recipe, in one line per problem.

A line says where the value was written (file and line, or the `--set` that gave it), its YAML path, what was
found, what is allowed, and the nearest valid name. The difficulty is that the checked values are not the
written ones: a study's `shared` is merged under every stage, a scale and `--set` lie on top. `Origins` finds
the way back.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from warmstart.errors import RecipeError, nearest
from warmstart.part import SettingsError
from warmstart.recipe_form import Misfit
from warmstart.recipe_text import Document, Steps

MOST = 200
"""Problems that are looked at: a file can have a hundred thousand, and nobody reads them."""
REQUIREMENTS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of less than 4300 digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "none_required": "must be null",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


@dataclass
class Override:
    """A value that lies on top of the file: from `--set`, or from a scale of a study."""

    places: list[Steps]
    """Every place that it was put at (a `*` in its path gives several)."""
    values: Any
    label: str = ""
    """`--set path=value`; empty for a scale, whose values have lines in the file."""
    written: Steps = ()
    """Where a scale's entry is in the file: `("scales", "smoke", "compare.flops")`."""


@dataclass
class Origins:
    """Where the values of a checked recipe come from; `overrides` in the order in which they were applied."""

    document: Document
    overrides: list[Override] = field(default_factory=list)

    def find(self, steps: Steps) -> tuple[str, Steps]:
        """(`file:line` or `--set path=value`, the path as written) of a value, or of what should hold it."""
        for length in range(len(steps), -1, -1):
            for place in self._before_merging(steps[:length]):
                found = self._exactly(place)
                if found is not None:
                    return found[0], found[1] + steps[length:]
        return self.document.name, steps

    @staticmethod
    def _before_merging(steps: Steps) -> Iterator[Steps]:
        yield steps
        if len(steps) >= 4 and steps[0] in ("arms", "sources"):
            yield ("shared", *steps[3:])
        for place in range(len(steps) - 3):
            if steps[place : place + 2] == (
                "evaluate",
                "also",
            ):  # a further held-out set has the stage's own data below it
                yield from Origins._before_merging((*steps[:place], "data", *steps[place + 3 :]))

    def _exactly(self, steps: Steps) -> tuple[str, Steps] | None:
        for over in reversed(self.overrides):
            for place in over.places:
                rest = steps[len(place) :]
                if steps[: len(place)] == place and _holds(over.values, rest):
                    if over.label:
                        return over.label, steps
                    return self._line((*over.written, *rest)), (*over.written, *rest)
        if steps in self.document.places:
            return self._line(steps), steps
        for over in reversed(self.overrides):  # a mapping that exists only because an override reached through it
            if steps and any(place[: len(steps)] == steps for place in over.places):
                return over.label or self._line(over.written), steps
        return None

    def _line(self, steps: Steps) -> str:
        return f"{self.document.name}:{self.document.places[steps][0]}"


def _holds(values: Any, steps: Steps) -> bool:
    for step in steps:
        if (isinstance(values, Mapping) and step in values) or (
            isinstance(values, list) and step in range(len(values))
        ):
            values = values[step]
        else:
            return False
    return True


@dataclass
class _Problem:
    steps: Steps
    found: str
    must: str
    union: Steps | None = None
    """Set where the value could have had one of several forms: the place of that choice."""
    missing: bool = False
    """The last step is not in the file."""


def recipe_error(error: ValidationError, form: type[BaseModel], raw: Any, origins: Origins) -> RecipeError:
    """All problems of a check as one error, one line each.

    Args:
        error: what pydantic found.
        form: the form that was checked (`Recipe` or `Study`).
        raw: the values that were checked, `shared` merged in.
        origins: where those values were written.
    """
    lines: dict[str, int] = {}
    for problem in _joined(list(islice(_problems(error, form, raw, ()), MOST))):
        label, steps = origins.find(problem.steps)
        path = ".".join(str(step) for step in (steps[:-1] if problem.missing else steps))
        if label.startswith("--set ") and label.removeprefix("--set ").split("=", 1)[0] == path:
            path = ""
        message = "; ".join(filter(None, [problem.found, problem.must]))
        line = re.search(r":(\d+)$", label)
        lines[": ".join(filter(None, [label, path, message]))] = int(line[1]) if line else sys.maxsize
    return RecipeError(*sorted(lines, key=lines.__getitem__))


def _problems(error: ValidationError, form: type[BaseModel] | None, raw: Any, prefix: Steps) -> Iterator[_Problem]:
    for item in error.errors(include_url=False):
        steps, union = _navigate(item, raw)
        inside = item.get("ctx", {}).get("error")
        if isinstance(inside, SettingsError):
            yield from _problems(inside.error, inside.part, _at(raw, steps), (*prefix, *steps))
        elif isinstance(inside, ValidationError):
            yield from _problems(inside, None, _at(raw, steps), (*prefix, *steps))
        elif isinstance(inside, Misfit):
            for place, text in inside.problems:
                yield _Problem((*prefix, *steps, *place), "", text)
        else:
            found, must = _message(item, form, steps, raw)
            if item["type"] == "part_unknown" and _holds(raw, (*steps, "type")):
                steps = (*steps, "type")
            yield _Problem(
                (*prefix, *steps),
                found,
                must,
                None if union is None else (*prefix, *union),
                missing=item["type"] == "missing",
            )


def _navigate(item: ErrorDetails, raw: Any) -> tuple[Steps, Steps | None]:
    """pydantic's location without what is no key of the file (the labels of a union's members)."""
    steps: Steps = ()
    union: Steps | None = None
    for number, step in enumerate(item["loc"]):
        last = number == len(item["loc"]) - 1
        if _holds(raw, (step,)):
            raw = raw[step]
            steps = (*steps, step)
        elif last and item["type"] == "missing":
            steps = (*steps, step)
        elif step != "[key]" and union is None:
            union = steps
    return steps, union


def _joined(problems: list[_Problem]) -> list[_Problem]:
    """Of a value that could have had several forms, the deepest problems are meant; equals become one."""
    result: list[_Problem] = []
    for problem in problems:
        if problem.union is not None:
            rivals = [p for p in problems if p.union == problem.union]
            if len(problem.steps) < max(len(p.steps) for p in rivals):
                continue
            same = next((p for p in result if p.union == problem.union and p.steps == problem.steps), None)
            if same is not None:
                if problem.must not in same.must:
                    same.must += " or " + problem.must.removeprefix("must be ")
                continue
        result.append(problem)
    return result


def _at(raw: Any, steps: Steps) -> Any:
    for step in steps:
        raw = raw[step]
    return raw


def _message(item: ErrorDetails, form: type[BaseModel] | None, steps: Steps, raw: Any) -> tuple[str, str]:
    """(what was found, what must be) of one of pydantic's errors."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "missing":
        bare = _at(raw, steps[:-1])
        hint = f"write {{type: {bare}, {steps[-1]}: ...}}" if isinstance(bare, str) else ""
        return f"'{steps[-1]}' is missing", hint
    if item["loc"][-1:] == ("[key]",) and kind == "value_error":
        return "", item["msg"].removeprefix("Value error, ")
    if item["loc"][-1:] == ("[key]",):
        return f"the key {_shown(value)}", "must be text; put it in quotes"
    if kind == "invalid_key":
        return f"the key {_shown(value)}", "must be text; put it in quotes"
    if kind == "extra_forbidden":
        allowed = _fields(_form_at(form, steps[:-1]))
        near = nearest(str(steps[-1]), allowed)
        return f"unknown field '{steps[-1]}'{near}", f"allowed: {', '.join(allowed)}" if allowed else ""
    if kind in REQUIREMENTS:
        must = REQUIREMENTS[kind].format(**{key: _plain(item) for key, item in context.items()})
        if kind in ("literal_error", "enum") and isinstance(value, str):
            must += nearest(value, re.findall(r"'([^']*)'", str(context.get("expected", ""))))
        if kind == "string_type" and isinstance(value, int | float):
            must += "; put it in quotes"
        if kind in ("too_short", "too_long"):
            return f"found {context['actual_length']} entries", must
        return f"found {_shown(value)}", must
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "part_unknown":
        return "", message
    if isinstance(value, Mapping | list | BaseModel):
        return "", message
    return f"found {_shown(value)}", message


def _plain(limit: Any) -> Any:
    return f"{limit:g}" if isinstance(limit, float) else limit


def _shown(value: Any) -> str:
    """A value as the user wrote it, more or less, in a few characters."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(form: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in form.model_fields.items()] if form is not None else []


def _form_at(kind: Any, steps: Steps) -> type[BaseModel] | None:
    """The form of the mapping at `steps` below a type, where the type says it (a part inside does not)."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not steps:
            return kind
        for name, info in kind.model_fields.items():
            if steps[0] in (name, info.alias):
                return _form_at(info.annotation, steps[1:])
        return None
    members = get_args(kind)
    if get_origin(kind) in (Union, UnionType, Annotated):
        return next(filter(None, (_form_at(member, steps) for member in members)), None)
    if get_origin(kind) in (list, dict) and steps:
        return _form_at(members[-1], steps[1:])
    return None
