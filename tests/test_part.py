"""Parts are found by name: in their room, and in other installed packages through an entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ValidationError

from warmstart.errors import RecipeError
from warmstart.objectives import Objective
from warmstart.part import ROOM_PACKAGES, _parts, find, parts
from warmstart.train.schedules import Schedule

RECIPE = """\
stages:
  - init: {like: gpt2, n_embd: 32, n_head: 2, n_layer: 1}
    tokenizer: {train: 300}
    data: {source: python-stdlib, length: 32}
    budget: {steps: 5}
    train: {schedule: {type: triangle, peak: 0.25}}
"""
MODULE = '''
"""A schedule of another package."""
from typing import Annotated, Literal
from pydantic import Field
from warmstart.train.schedules import Schedule

class Triangle(Schedule):
    """Up to a peak and down again."""
    type: Literal["{name}"] = "{name}"
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def factor(self, step: int, progress: float) -> float:
        return progress / self.peak if progress < self.peak else (1 - progress) / (1 - self.peak)
'''
PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{package}"
version = "1.0"

[project.entry-points."warmstart.parts"]
{package} = "{module}"

[tool.setuptools]
py-modules = ["{package}"]
"""


def install(folder: Path, package: str, *, name: str = "triangle", module: str | None = None) -> Path:
    """Builds and installs a small package with one part; returns the folder to put on PYTHONPATH."""
    source, target = folder / f"{package}-source", folder / f"{package}-installed"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT.format(package=package, module=module or package))
    (source / f"{package}.py").write_text(MODULE.replace("{name}", name))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def warmstart(*arguments: object, path: Path) -> subprocess.CompletedProcess[str]:
    old = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), *([old] if old else [])])}
    command = [sys.executable, "-m", "warmstart.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def triangle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("packages"), "triangle_schedule")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_a_part_of_another_installed_package_is_found(triangle, recipe):
    done = warmstart("check", recipe, path=triangle)
    assert done.returncode == 0, done.stderr
    assert "triangle (peak 0.25)" in done.stdout
    recipe.write_text(RECIPE.replace("peak: 0.25", "peak: 7"))
    done = warmstart("check", recipe, path=triangle)
    assert done.returncode == 2
    assert done.stderr == f"error: {recipe}:6: stages.0.train.schedule.peak: found 7; must be less than 1\n"


@pytest.mark.slow
def test_a_part_of_another_installed_package_is_in_the_schema(triangle):
    schema = json.loads(warmstart("schema", path=triangle).stdout)
    names, *shapes = schema["$defs"]["Training"]["properties"]["schedule"]["anyOf"]
    assert {"triangle", "cosine"} <= set(names["enum"])
    shape = next(shape for shape in shapes if shape["properties"]["type"]["const"] == "triangle")
    assert shape["properties"]["peak"]["exclusiveMaximum"] == 1


@pytest.mark.slow
def test_an_entry_point_that_cannot_be_imported_is_named(tmp_path, recipe):
    path = install(tmp_path, "broken_parts", module="no_such_module")
    done = warmstart("check", recipe, path=path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the installed package 'broken_parts' offers parts by the entry point "
        "'broken_parts = no_such_module', which cannot be imported: ModuleNotFoundError: "
        "No module named 'no_such_module'\n"
    )


@pytest.mark.slow
def test_two_parts_of_one_name_are_an_error_that_names_both(tmp_path, recipe):
    path = install(tmp_path, "second_cosine", name="cosine")
    done = warmstart("check", recipe, path=path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "the installed package 'second_cosine': two parts are named 'cosine' in the room 'schedules'" in done.stderr
    assert "rename one" in done.stderr


@pytest.mark.slow
def test_without_the_package_the_part_is_unknown(recipe):
    done = subprocess.run(
        [sys.executable, "-m", "warmstart.cli", "check", str(recipe)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert ":6: stages.0.train.schedule.type: unknown schedules part 'triangle'" in done.stderr


# ---- inside one process


@pytest.fixture
def own():
    """A part that only this test knows."""

    class Own(Schedule):
        """A schedule for this test."""

        type: Literal["own-schedule"] = "own-schedule"
        height: float = 1.0

        def factor(self, step: int, progress: float) -> float:
            return self.height

    yield Own
    del _parts["schedules"]["own-schedule"]


class Holder(BaseModel):
    """Something with a part in it."""

    schedule: Schedule


def test_a_field_takes_a_part_a_name_or_a_mapping(own):
    for value in (own(), "own-schedule", {"type": "own-schedule"}, {"type": "own-schedule", "height": 1}):
        assert Holder(schedule=value).schedule == own()
    assert Holder(schedule={"type": "own-schedule", "height": 3}).schedule.height == 3


@pytest.mark.parametrize(
    "value", ["nope", {"type": "nope"}, {"type": ["own-schedule"]}, {"height": 1}, {}, 3, None, []]
)
def test_a_field_takes_nothing_else(own, value):
    with pytest.raises(ValidationError):
        Holder(schedule=value)


def test_a_part_of_another_room_is_not_taken():
    name, kind = next(iter(parts("objectives").items()))
    with pytest.raises(ValidationError):
        Holder(schedule=name)
    if not any(field.is_required() for field in kind.model_fields.values()):
        with pytest.raises(ValidationError):
            Holder(schedule=kind())


def test_a_subclass_that_says_no_type_does_not_take_its_parents_name(own):
    class Child(own):
        """Inherits the name."""

        height: float = 2.0

    assert Child.room == "schedules"
    assert find("schedules", "own-schedule") is own


def test_a_second_part_of_the_same_name_is_refused(own):
    with pytest.raises(RecipeError, match="two parts are named 'own-schedule' in the room 'schedules'"):

        class Second(Schedule):
            type: Literal["own-schedule"] = "own-schedule"

    assert find("schedules", "own-schedule") is own


def test_unknown_rooms_and_parts_are_named_with_the_nearest():
    with pytest.raises(RecipeError, match=r"no room 'schedule' \(did you mean 'schedules'\?\)"):
        parts("schedule")
    with pytest.raises(
        RecipeError, match=r"unknown schedules part 'cosin' \(did you mean 'cosine'\?\); known: .*cosine"
    ):
        find("schedules", "cosin")


def test_a_contract_is_no_part():
    for room in ROOM_PACKAGES:
        assert all(kind.room == room and "type" in kind.model_fields for kind in parts(room).values())
    assert Objective not in parts("objectives").values()


def test_a_part_inside_a_form_dumps_to_what_reads_back(own):
    held = Holder(schedule={"type": "own-schedule", "height": 3})
    dumped = held.model_dump(mode="json")
    assert dumped == {"schedule": {"type": "own-schedule", "height": 3.0}}
    assert Holder.model_validate(dumped) == held
