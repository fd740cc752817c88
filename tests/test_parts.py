"""What holds for every part of every room. A new part is tested here without a line of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from corpora import save_tiny_model
from every_part import ALL, MODEL, SETTINGS, TWO_SOURCES, make, small_run
from pydantic import TypeAdapter, ValidationError

from warmstart.data.mix import Stock
from warmstart.data.steps import joined, size
from warmstart.errors import DataError
from warmstart.part import ROOM_PACKAGES, _contracts, parts
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter

every_part = pytest.mark.parametrize(("room", "name"), ALL, ids=[f"{room}-{name}" for room, name in ALL])


@pytest.fixture(scope="module", autouse=True)
def _a_model() -> Iterator[None]:
    save_tiny_model(MODEL)
    yield
    shutil.rmtree(MODEL)


def of_room(room: str) -> Any:
    names = [name for r, name in ALL if r == room]
    return pytest.mark.parametrize("name", names or [pytest.param("", marks=pytest.mark.skip(f"no {room} yet"))])


def test_every_room_has_a_contract_with_a_docstring():
    for room in ROOM_PACKAGES:
        parts(room)
        assert _contracts[room].__doc__


def test_every_room_has_parts():
    assert {room for room, _ in ALL} == set(ROOM_PACKAGES)


@every_part
def test_a_part_has_a_proper_name_and_a_docstring(room, name):
    kind = parts(room)[name]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), "names are kebab-case"
    assert kind.__doc__, "a part says what it does"
    assert kind.__doc__ != _contracts[room].__doc__
    assert issubclass(kind, _contracts[room])
    assert make(room, name).name == name


@every_part
def test_a_part_survives_a_round_trip_through_json(room, name):
    part = make(room, name)
    text = json.dumps(part.model_dump(mode="json", by_alias=True))
    again = TypeAdapter(_contracts[room]).validate_python(json.loads(text))
    assert again == part
    assert type(again) is type(part)
    assert TypeAdapter(_contracts[room]).dump_python(again, mode="json") == json.loads(text)


@every_part
def test_a_part_is_frozen(room, name):
    part = make(room, name)
    for field in type(part).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, getattr(part, field))


@every_part
def test_a_part_refuses_an_unknown_field(room, name):
    with pytest.raises(ValidationError, match="no_such_field"):
        parts(room)[name].model_validate({"type": name, **SETTINGS.get((room, name), {}), "no_such_field": 1})


@every_part
def test_a_parts_schema_describes_it(room, name):
    schema = TypeAdapter(_contracts[room]).json_schema()
    names, *shapes = schema["anyOf"]
    assert name in names["enum"]
    resolved = [schema["$defs"][s["$ref"].rsplit("/", 1)[-1]] if "$ref" in s else s for s in shapes]
    shape = next(s for s in resolved if s["properties"]["type"].get("const") == name)
    assert shape["required"][0] == "type"
    assert shape["additionalProperties"] is False
    assert set(shape["properties"]) == {info.alias or field for field, info in parts(room)[name].model_fields.items()}


@of_room("schedules")
def test_a_schedule_is_a_pure_function_between_0_and_1(name):
    schedule = make("schedules", name)
    moments = [(step, step / 100) for step in (0, 1, 2, 5, 10, 50, 99, 100)]
    first = [schedule.factor(step, progress) for step, progress in moments]
    backwards = [schedule.factor(step, progress) for step, progress in reversed(moments)]
    assert first == backwards[::-1]
    assert all(0 <= factor <= 1 for factor in first)
    assert max(first) > 0


@of_room("mix")
@pytest.mark.parametrize("sizes", [[5], [7, 3], [1, 20, 4]])
def test_a_mix_goes_on_after_a_restore_where_it_was(name, sizes):
    mix = make("mix", name)
    stock = stock_of(sizes)
    if len(sizes) == 1 and name in TWO_SOURCES:
        with pytest.raises(DataError, match="mix"):
            mix.start(stock, seed=3)
        return
    whole = mix.start(stock, seed=3)
    rows = []
    for number in range(30):
        if number % 10 == 0:
            whole.observe(evaluation(sizes, number))
        rows.append(whole.next(4, number / 30))
    assert all(0 <= source < len(sizes) and 0 <= row < sizes[source] for step in rows for source, row in step)
    state = mix.start(stock, seed=3)
    again = []
    for number in range(30):
        if number in (0, 7, 8, 21):  # also in mid-epoch, twice, and after an epoch's end
            saved = json.loads(json.dumps(state.state_dict()))
            state = mix.start(stock, seed=3)
            state.load_state_dict(saved)
        if number % 10 == 0:
            state.observe(evaluation(sizes, number))
        again.append(state.next(4, number / 30))
    assert again == rows
    assert state.state_dict() == whole.state_dict()
    assert state.report() == whole.report()
    if sum(sizes) > 5:
        other = mix.start(stock, seed=4)
        assert [other.next(4, number / 30) for number in range(30)] != rows


@of_room("mix")
def test_a_mix_gives_the_same_rows_in_other_portions(name):
    mix = make("mix", name)
    small, large = mix.start(stock_of([7, 3]), seed=1), mix.start(stock_of([7, 3]), seed=1)
    assert [row for _ in range(12) for row in small.next(2)] == large.next(24)


def evaluation(sizes: list[int], number: int) -> dict[str, float]:
    """What an evaluation after so many steps might say."""
    losses = {f"validation/{chr(97 + n)}/loss": 3 / (1 + n + number) for n in range(len(sizes))}
    return {"validation/loss": 3 / (1 + number), **losses}


def stock_of(sizes: list[int]) -> Stock:
    """Sources `a`, `b`, ... whose rows have scores."""
    generator = np.random.default_rng(0)
    return Stock(sizes, [chr(97 + n) for n in range(len(sizes))], [generator.random(size) for size in sizes])


ROWS = {
    "text": ["one two three", "two", "one two three", " two ", "three\n\nthree", "four"],
    "source": ["a"] * 6,
    "id": list("012345"),
    "row": list(range(6)),
    "url": ["https://en.wikipedia.org/wiki/X", None, "a.org", "a.org", "b.org/c", "b.org"],
    "label": ["x", "y", "x", "y", "x", "y"],
    "language": ["en"] * 6,
}


@pytest.mark.parametrize(("room", "name"), [(r, n) for r, n in ALL if r in ("curate", "rewrite")])
def test_a_row_step_does_the_same_with_rows_alone_as_with_all_together(room, name):
    """What a step does with a row depends on that row and on `fit` alone; in place it changes nothing."""
    step = make(room, name)
    given = {key: list(values) for key, values in ROWS.items()}
    singles = [{key: [values[row]] for key, values in ROWS.items()} for row in range(6)]
    fitted = step.fit(iter([step.measure(given)])) if step.fits else None
    fitted_apart = step.fit(step.measure(single) for single in singles) if step.fits else None
    together = step.apply(given, fitted)
    assert given == ROWS
    apart = joined([one for one in (step.apply(single, fitted_apart) for single in singles) if size(one)])
    assert together == (apart or {column: [] for column in together})  # a filter may drop them all
    assert len({len(values) for values in together.values()}) == 1
    assert set(together) >= set(ROWS)
    stream = step.stream()
    assert (stream is None) <= step.fits
    if stream is not None:
        streamed = joined([one for one in map(stream, singles) if size(one)])
        assert (streamed or {column: [] for column in together}) == together


@pytest.mark.parametrize(
    ("room", "name"), [(r, n) for r, n in ALL if r in ("objectives", "trainable", "penalties", "gradients")]
)
def test_a_run_with_it_is_resumed_exactly(room, name, tmp_path, monkeypatch):
    """Killed inside the first stage, at the boundary and inside the second, it ends with the same weights."""
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.model_validate(small_run(room, name, tmp_path))
    whole = run(recipe, tmp_path / "whole", reporter=Reporter())
    for step in (3, 9, 11):
        kill_at_nth_step(step, lambda: run(recipe, tmp_path / "cut", reporter=Reporter()), monkeypatch)
    again = run(recipe, tmp_path / "cut", reporter=Reporter())
    assert [stage["weights"] for stage in again.stages] == [stage["weights"] for stage in whole.stages]
    assert len({stage["weights"] for stage in whole.stages}) == 2


def kill_at_nth_step(number: int, go: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Carries something out until the step with this number over the whole run is about to be taken."""

    class Killed(BaseException):
        pass

    step = Training.step

    def counted(self: Training) -> Any:
        place = self.counts.step + (6 if self.folder.name.endswith("second") else 0)
        if place == number:
            raise Killed
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", counted)
        with pytest.raises(Killed):
            go()
