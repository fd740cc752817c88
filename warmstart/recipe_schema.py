"""The JSON Schema of recipe and study files, so that editors complete and check YAML, parts included."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

from warmstart.errors import UserError
from warmstart.recipe import Recipe
from warmstart.recipe_study import Study

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: Literal["recipe", "study"] = "recipe") -> dict[str, Any]:
    """The schema of one kind of file. Parts are those of this installation, other packages' included.

    In a study a stage may leave out what `shared` or a scale gives, so nothing inside a stage is required
    there; that the whole is complete is for `warmstart check` to say.

    Raises:
        RecipeError: an installed package offers parts that cannot be imported.
    """
    form = Recipe if kind == "recipe" else Study
    body = _with_partial_sets(form.model_json_schema(by_alias=True))
    if kind == "study":
        body = _with_partial_stages(body)
    return {"$schema": DIALECT, **body}


def write(kind: Literal["recipe", "study"], path: Path) -> None:
    """Writes a schema to a file.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(schema(kind), indent=2) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _with_partial_sets(body: dict[str, Any]) -> dict[str, Any]:
    """A further held-out set says only what is not as in the stage's own data."""
    body["$defs"]["FurtherData"] = {key: item for key, item in body["$defs"]["Data"].items() if key != "required"}
    body["$defs"]["Evaluation"]["properties"]["also"]["additionalProperties"] = {"$ref": "#/$defs/FurtherData"}
    return body


def _with_partial_stages(body: dict[str, Any]) -> dict[str, Any]:
    """Nothing is required inside a stage; `shared` has a stage's fields."""
    body = copy.deepcopy(body)
    for name in _reachable(body, "Stage"):
        _drop_required(body["$defs"][name])
    shared = body["properties"]["shared"]
    body["properties"]["shared"] = {"$ref": "#/$defs/Stage", "description": shared.get("description", "")}
    return body


def _reachable(body: dict[str, Any], name: str) -> set[str]:
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [ref.rsplit("/", 1)[-1] for ref in _references(body["$defs"][current])]
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in _references(value)]
    return [ref for value in node for ref in _references(value)] if isinstance(node, list) else []


def _drop_required(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("required"), list):  # a field could be called `required`: then it is a mapping
            del node["required"]
        for value in node.values():
            _drop_required(value)
    elif isinstance(node, list):
        for value in node:
            _drop_required(value)
