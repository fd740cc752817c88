"""A part's field that names a model is found and filled in wherever it stands."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from warmstart.named_models import ModelName, located, named_models
from warmstart.part import Part
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True)
    teacher: ModelName
    note: str = "small"


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True)
    plain: str = "small"
    one: ModelName | None = None
    several: list[ModelName] = []
    by_name: dict[str, ModelName] = {}
    inside: list[Inner] = []
    words: list[str] = ["small"]
    maybe: ModelName | None = Field(None, description="with a description")


FORM = Outer(
    one="small",
    several=["large", "stage", "small"],
    by_name={"small": "third"},
    inside=[Inner(teacher="fourth"), Inner(teacher="large")],
)


def test_names_are_found_at_any_depth_once_and_in_order() -> None:
    assert named_models(FORM) == ["small", "large", "third", "fourth"]
    assert named_models(Outer()) == []


def test_only_names_of_models_are_replaced() -> None:
    found = located(FORM, {"small": "/a", "third": "/c", "fourth": "/d"})
    assert found.one == "/a"
    assert found.several == ["large", "stage", "/a"]
    assert found.by_name == {"small": "/c"}
    assert [each.teacher for each in found.inside] == ["/d", "large"]
    assert (found.plain, found.words, found.inside[0].note) == ("small", ["small"], "small")
    assert FORM.one == "small"
    assert located(FORM, {"none": "/x"}) is FORM


def test_a_stage_names_what_its_parts_name() -> None:
    raw = {
        "from": "a",
        "tokenizer": {"load": "b"},
        "data": {"source": "python-stdlib", "curate": [{"type": "model-loss", "model": "c"}]},
        "budget": {"steps": 1},
        "evaluate": {"decode": {"type": "emulated", "base": "d", "tuned": ["stage", "e"], "reference": "a"}},
    }
    stage = Stage.model_validate(raw)
    assert sorted(named_models(stage)) == ["a", "b", "c", "d", "e"]
    there = located(stage, {name: f"/{name}" for name in "abcde"})
    assert there.from_ == "/a"
    assert there.tokenizer is not None
    assert there.tokenizer.load == "/b"
    assert there.evaluate.decode is not None
    assert there.evaluate.decode.model_dump()["tuned"] == ["stage", "/e"]
    # what was located is a recipe that reads back the same, as a run's process gets it
    recipe = Recipe(stages=[there])
    assert Recipe.model_validate(recipe.model_dump(mode="json", by_alias=True)) == recipe


def test_a_new_part_needs_nothing_but_the_type() -> None:
    class Teacher(Part):
        type: Literal["teacher"] = "teacher"
        model: ModelName

    assert named_models(Teacher(model="x")) == ["x"]
    assert located(Teacher(model="x"), {"x": "/y"}).model == "/y"
    with pytest.raises(ValueError, match="model"):
        Teacher(model=3)  # type: ignore[arg-type]
