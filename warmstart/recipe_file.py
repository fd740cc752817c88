"""Recipe and study files: read, put scales and `--set` on top, check, and write in resolved form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from warmstart.catalog import study_file
from warmstart.errors import RecipeError, nearest
from warmstart.recipe import Recipe
from warmstart.recipe_errors import Origins, Override, recipe_error
from warmstart.recipe_limits import check_filled_in, check_setting, check_settings
from warmstart.recipe_merge import filled_in, override, position
from warmstart.recipe_study import Study
from warmstart.recipe_text import Document, Steps, read_file, read_text, write_text
from warmstart.yours import Given, settings

Form = TypeVar("Form", Recipe, Study)


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file.

    Args:
        overrides: `path=value` texts, e.g. `stages.0.budget.steps=10`; the value is YAML.

    Raises:
        RecipeError: one line per problem, with file, line, YAML path, what was found and what is allowed.
    """
    document = read_file(Path(path))
    _expect(document, "stages", f"it is a study; use: warmstart study {path}")
    return _check(Recipe, document, document.values, [], overrides)


def read_study(
    path_or_slug: Path | str,
    scale: str | None = "laptop",
    overrides: Sequence[str] = (),
    given: Given | None = None,
) -> Study:
    """The study in a file, or the packaged study with this slug, at one of its scales.

    Args:
        scale: a name among the study's `scales`; "laptop" also means the file as it is where it has no such
            scale; None leaves the scales alone.
        overrides: as in `read_recipe`; they lie on top of the scale.
        given: the user's own model and data, which the study says where to put; they lie below `overrides`.

    Raises:
        RecipeError: no such study or scale, it does not take what is given, or as `read_recipe`.
        ModelError: the given model is none.
    """
    path = study_file(path_or_slug)
    document = read_file(path)
    _expect(document, "arms", f"it is a recipe; use: warmstart run {path}")
    raw, applied = _at_scale(document, scale)
    found = list(settings(raw, given, path.stem)) if given else []
    check_settings(raw, len(found), document.name)
    for setting in found:
        if setting.whole:
            raw, _ = _apply(raw, setting.path, None, setting.option)
        raw, places = _apply(raw, setting.path, setting.value, setting.option)
        applied.append(Override(places, setting.value, label=setting.option))
    return _check(Study, document, raw, applied, overrides)


def read_any(path_or_slug: Path | str, overrides: Sequence[str] = ()) -> Recipe | Study:
    """The recipe in a file, or the study (at its default scale) in a file or with this slug.

    Raises:
        RecipeError: as `read_recipe` and `read_study`.
    """
    path = study_file(path_or_slug)
    document = read_file(path)
    if isinstance(document.values, Mapping) and "arms" in document.values:
        return read_study(path, overrides=overrides)
    _expect(document, "stages")
    return _check(Recipe, document, document.values, [], overrides)


def sizes(texts: Sequence[str], option: str) -> dict[str, int]:
    """`key=value` texts of an option such as `--to` as a mapping from names to sizes.

    Raises:
        RecipeError: a text without `=`, a key twice, a value that is no whole number above 0.
    """
    found: dict[str, int] = {}
    for text in texts:
        key, value = _assignment(text, option, "hidden_size=512")
        if key in found:
            raise RecipeError(f"{option} {text}: '{key}' is given twice")
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise RecipeError(f"{option} {text}: found {value!r:.40}; must be a whole number greater than 0")
        found[key] = value
    return found


def resolved(recipe: Recipe | Study) -> str:
    """The recipe or study as YAML text with every default written out; it reads back to an equal object.

    Fields that are null by default are left out where they are null.
    """
    raw = recipe.model_dump(mode="json", by_alias=True)
    shared = recipe.shared if isinstance(recipe, Study) else {}
    return write_text(_without_nulls(recipe, raw, shared))


def _without_nulls(value: Any, raw: Any, shared: Any) -> Any:
    """`raw` without fields that are null by default, except where `shared` would fill them in again."""
    if isinstance(value, Study):
        raw = dict(raw)
        for group in ("sources", "arms"):
            raw[group] = {
                name: stages
                if isinstance(stages, str)
                else [_without_nulls(s, r, shared) for s, r in zip(stages, raw[group][name], strict=True)]
                for name, stages in getattr(value, group).items()
            }
        for name in ("paper", "claim", "compare", "yours"):
            raw[name] = _without_nulls(getattr(value, name), raw[name], {})
        return {key: item for key, item in raw.items() if item is not None}
    if isinstance(value, BaseModel):
        raw = dict(raw)
        for name, field in type(value).model_fields.items():
            key, item = field.alias or name, getattr(value, name)
            below = shared.get(key) if isinstance(shared, Mapping) else None
            if item is None and field.default is None and below is None:
                raw.pop(key, None)
            elif key in raw:
                raw[key] = _without_nulls(item, raw[key], below)
        return raw
    if isinstance(value, list | tuple) and isinstance(raw, list):
        return [_without_nulls(v, r, None) for v, r in zip(value, raw, strict=True)]
    return raw


def _expect(document: Document, key: str, other: str = "") -> None:
    """The document is a mapping and has `key` ('stages' or 'arms'); `other` is said of a file of the other
    kind."""
    values, name = document.values, document.name
    if values is None:
        raise RecipeError(f"{name} is empty; a recipe has 'stages', a study has 'arms' and 'compare'")
    if not isinstance(values, Mapping):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise RecipeError(f"{name}:{document.places[()][0]}: found {kind}; a recipe is a mapping with 'stages'")
    if key in values:
        return
    opposite = "arms" if key == "stages" else "stages"
    if opposite in values and other:
        raise RecipeError(f"{name}: {other}")
    wrong = next((k for k in values if nearest(key, [str(k)])), None)
    if wrong is not None:
        line = document.places[(wrong,)][0]
        raise RecipeError(f"{name}:{line}: unknown field '{wrong}' (did you mean '{key}'?)")
    raise RecipeError(f"{name}: '{key}' is missing; a recipe has 'stages', a study has 'arms' and 'compare'")


def _at_scale(document: Document, scale: str | None) -> tuple[dict[str, Any], list[Override]]:
    """The study's values with one of its scales on top, and what that scale put where."""
    raw: Any = dict(document.values)
    scales = raw.get("scales") or {}
    if scale is None or (scale == "laptop" and isinstance(scales, Mapping) and scale not in scales):
        return raw, []
    if not isinstance(scales, Mapping) or scale not in scales:
        known = [str(name) for name in scales] if isinstance(scales, Mapping) else []
        shown = ", ".join(dict.fromkeys([*known, "laptop"]))
        raise RecipeError(f"{document.name}: there is no scale '{scale}'{nearest(scale, known)}; scales: {shown}")
    entries = scales[scale]
    if entries is None:
        return raw, []
    if not isinstance(entries, Mapping):
        line = document.places[("scales", scale)][0]
        raise RecipeError(f"{document.name}:{line}: scales.{scale}: found {entries!r:.40}; must be a mapping")
    applied = []
    check_settings(raw, len(entries), f"{document.name}: scales.{scale}")
    for path, value in entries.items():
        written = ("scales", scale, path)
        where = f"{document.name}:{document.places[written][0]}: scales.{scale}.{path}"
        raw, places = _apply(raw, str(path), value, where)
        applied.append(Override(places, value, written=written))
    return raw, applied


def _apply(raw: Any, path: str, value: Any, where: str) -> tuple[Any, list[Steps]]:
    """`raw` with a value at a dotted path, and the places that the path meant."""
    check_setting(raw, path, value, where)
    try:
        changed = override(raw, path, value)
    except KeyError as error:
        missing = str(error.args[0])
        raise RecipeError(f"{where}: there is no '{missing}'{_what_there_is(raw, missing)}") from None
    return changed, list(_places(changed, path.split("."), ()))


def _what_there_is(raw: Any, path: str) -> str:
    """A hint for a path that leads nowhere: what its parent holds."""
    parents = list(_places(raw, path.split(".")[:-1], ()))
    parent = raw
    for step in parents[0] if parents else ():
        parent = parent[step]
    if isinstance(parent, list):
        return f"; the list has {len(parent)} entries, counted from 0"
    return "; it is a single value, not a mapping or a list"


def _places(raw: Any, path: list[str], done: Steps) -> Iterable[Steps]:
    if not path:
        yield done
    elif isinstance(raw, Mapping):
        for key in list(raw) if path[0] == "*" else [k for k in raw if str(k) == path[0]]:
            yield from _places(raw[key], path[1:], (*done, key))
    elif isinstance(raw, list):
        if path[0] == "*":
            numbers = list(range(len(raw)))
        else:
            number = position(path[0])
            numbers = [number % len(raw)] if raw and number is not None else []
        for number in numbers:
            yield from _places(raw[number], path[1:], (*done, number))


def _check(form: type[Form], document: Document, raw: Any, applied: list[Override], overrides: Sequence[str]) -> Form:
    for text in overrides:
        path, value = _assignment(text, "--set", "stages.0.budget.steps=10")
        label = f"--set {text}"
        raw, places = _apply(raw, path, value, label)
        applied = [*applied, Override(places, value, label=label)]
    check_filled_in(raw, document.name)
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        raise recipe_error(error, form, filled_in(raw), Origins(document, applied)) from None


def _assignment(text: str, option: str, example: str) -> tuple[str, Any]:
    """The two sides of `key=value`."""
    key, equals, value = text.partition("=")
    label = f"{option} {text}"
    if not equals or "" in key.split("."):
        raise RecipeError(f"{label}: expected key=value, e.g. {example}")
    try:
        return key, read_text(value, label).values
    except RecipeError as error:
        raise RecipeError(str(error).replace(f"{label}:1:", f"{label}:", 1)) from None
