"""The JSON Schema says of a file what the check says, as far as a schema can."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from warmstart.catalog import study_file
from warmstart.part import ROOM_PACKAGES, parts
from warmstart.recipe import Recipe
from warmstart.recipe_schema import DIALECT, schema
from warmstart.recipe_text import read_file

TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}
KEYWORDS = {
    "$ref", "anyOf", "oneOf", "enum", "const", "type", "properties", "required", "additionalProperties", "items",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "minProperties", "minLength", "pattern",
    "title", "description", "default", "$defs", "$schema", "prefixItems", "maxItems", "uniqueItems", "propertyNames",
    "examples", "maxLength", "multipleOf",
}  # fmt: skip


def problems(value: Any, node: Any, root: dict[str, Any], path: str = "") -> Iterator[str]:
    """A small validator of the keywords that our schemas use; an unknown keyword is itself a problem."""
    if node is True or node == {}:
        return
    if node is False:
        yield f"{path}: nothing is allowed"
        return
    if unknown := set(node) - KEYWORDS:
        yield f"{path}: unknown keywords {unknown}"
    if "$ref" in node:
        yield from problems(value, root["$defs"][node["$ref"].removeprefix("#/$defs/")], root, path)
    for keyword, fits in (("anyOf", lambda n: n > 0), ("oneOf", lambda n: n == 1)):
        if keyword in node and not fits(sum(not list(problems(value, option, root)) for option in node[keyword])):
            yield f"{path}: {value!r:.40} fits none or too many of {keyword}"
    if "enum" in node and value not in node["enum"]:
        yield f"{path}: {value!r} is not in {node['enum']}"
    if "const" in node and value != node["const"]:
        yield f"{path}: {value!r} is not {node['const']!r}"
    if "type" in node:
        whole = node["type"] == "integer" and isinstance(value, float) and value.is_integer()
        if not (whole or isinstance(value, TYPES[node["type"]])) or (
            isinstance(value, bool) and node["type"] != "boolean"
        ):
            yield f"{path}: {value!r:.40} is no {node['type']}"
            return
    for keyword, bad in (
        ("minimum", lambda v, limit: v < limit),
        ("maximum", lambda v, limit: v > limit),
        ("exclusiveMinimum", lambda v, limit: v <= limit),
        ("exclusiveMaximum", lambda v, limit: v >= limit),
    ):
        if keyword in node and isinstance(value, int | float) and bad(value, node[keyword]):
            yield f"{path}: {value} against {keyword} {node[keyword]}"
    if isinstance(value, list):
        if len(value) < node.get("minItems", 0):
            yield f"{path}: too few"
        for number, item in enumerate(value):
            yield from problems(item, node.get("items", True), root, f"{path}.{number}")
    if isinstance(value, dict):
        if len(value) < node.get("minProperties", 0):
            yield f"{path}: too few"
        yield from (f"{path}: {name} is missing" for name in node.get("required", []) if name not in value)
        for key, item in value.items():
            inner = node.get("properties", {}).get(key, node.get("additionalProperties", True))
            yield from problems(item, inner, root, f"{path}.{key}")


GOOD: dict[str, Any] = {
    "stages": [
        {
            "init": {"like": "gpt2", "n_embd": 32},
            "tokenizer": {"train": 300},
            "data": {"source": ["python-stdlib", {"type": "python-stdlib"}], "length": 32},
            "objective": "causal",
            "train": {"clip": None, "optimizer": {"type": "adamw"}, "schedule": "cosine"},
            "budget": {"steps": 1e3},
        },
        {"from": "folder", "surgery": [{"type": "grow", "to": {"n_embd": 64}}], "data": {"source": "python-stdlib"}},
    ]
}


def changed(path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    node: Any = result
    for step in way:
        node = node[step]
    node[last] = value
    return result


@pytest.fixture(scope="module")
def recipe_schema() -> dict[str, Any]:
    return schema("recipe")


def test_a_good_recipe_fits(recipe_schema):
    assert recipe_schema["$schema"] == DIALECT
    assert list(problems(GOOD, recipe_schema, recipe_schema)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages", []),
        ("stages", "x"),
        ("sead", 1),
        ("stages.0.budgt", {}),
        ("stages.0.budget", {"steps": 0}),
        ("stages.0.budget", {"steps": 1.5}),
        ("stages.0.data", {}),
        ("stages.0.data.length", 2),
        ("stages.0.data.source", "python-stdlb"),
        ("stages.0.data.source", []),
        ("stages.0.data.on_error", "skipp"),
        ("stages.0.objective", "casual"),
        ("stages.0.objective", {"type": "casual"}),
        ("stages.0.objective", {}),
        ("stages.0.train.optimizer", {"type": "adamw", "weight_decy": 1}),
        ("stages.0.train.clip", -1),
        ("stages.0.init", {}),
        ("stages.1.from", 3),
        ("stages.1.surgery", [{"type": "grow"}]),
    ],
)
def test_what_the_check_refuses_the_schema_refuses(path, value, recipe_schema):
    assert list(problems(changed(path, value), recipe_schema, recipe_schema))


def test_the_schema_is_complete_down_to_every_setting_of_every_part(recipe_schema):
    text = json.dumps(recipe_schema)
    for room in ROOM_PACKAGES:
        for name, kind in parts(room).items():
            assert f'"const": "{name}"' in text
            for field, info in kind.model_fields.items():
                assert f'"{info.alias or field}": {{' in text
    assert json.loads(text) == recipe_schema


def test_all_references_lead_somewhere():
    for kind in ("recipe", "study"):
        body = schema(kind)
        for ref in {word for word in json.dumps(body).split('"') if word.startswith("#/$defs/")}:
            assert ref.removeprefix("#/$defs/") in body["$defs"]


def test_the_packaged_studies_fit_their_schema():
    body = schema("study")
    assert list(problems(read_file(study_file("bert2bert")).values, body, body)) == []


def test_a_study_may_leave_to_shared_what_a_recipe_must_say():
    body = schema("study")
    study = {
        "title": "t",
        "compare": {"baseline": "a", "flops": 1e9},
        "shared": {"data": {"source": "python-stdlib"}},
        "arms": {"a": [{"init": {"n_embd": 32}, "data": {"length": 64}}]},
    }
    assert list(problems(study, body, body)) == []
    assert list(problems(study | {"shared": {"data": {"lenght": 3}}}, body, body))
    assert list(problems(study | {"compare": {}}, body, body))
    assert list(problems({key: study[key] for key in ("title", "compare")}, body, body))
    assert "required" in json.dumps(Recipe.model_json_schema()), "the recipe's own schema is left as it was"
