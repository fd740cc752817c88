"""Forgetting and transfer on matrices whose answers are known, and over the stages of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from continual import carried_out, lines_of, stages
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st

from warmstart.errors import DataError
from warmstart.evaluate.continual import (
    Stream,
    backward_transfer,
    forgotten,
    forgotten_from_best,
    forward_transfer,
)

MATRIX = [[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.8, 0.5, 0.9]]
sizes = st.integers(2, 6)


def test_by_hand() -> None:
    assert run_example(forgotten, forgotten=forgotten)["lost"] == pytest.approx([0.3])
    assert forgotten(MATRIX) == pytest.approx([0.1, 0.3])
    assert forgotten_from_best([[0.6, 0.2, 0.1], [0.9, 0.8, 0.3], [0.8, 0.5, 0.9]]) == pytest.approx([0.1, 0.3])
    assert forgotten_from_best([[0.5, 0.2], [0.9, 0.8]]) == pytest.approx([-0.4])  # the last row is not what was before
    assert backward_transfer(MATRIX) == pytest.approx(-0.2)
    assert forward_transfer(MATRIX, [0.0, 0.1, 0.1]) == pytest.approx((0.1 + 0.2) / 2)


@given(sizes, st.floats(-5, 5))
def test_nothing_is_forgotten_on_a_constant_matrix(size: int, score: float) -> None:
    matrix = [[score] * size] * size
    assert forgotten(matrix) == forgotten_from_best(matrix, "lower") == [0.0] * (size - 1)
    assert backward_transfer(matrix) == forward_transfer(matrix, [score] * size) == 0


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_losses_are_scores_upside_down(matrix: list[list[float]]) -> None:
    losses = [[-score for score in row] for row in matrix]
    assert forgotten(losses, "lower") == pytest.approx(forgotten(matrix))
    assert forgotten_from_best(losses, "lower") == pytest.approx(forgotten_from_best(matrix))
    start = [0.5] * len(matrix)
    assert forward_transfer(losses, [-0.5] * len(matrix), "lower") == pytest.approx(forward_transfer(matrix, start))
    assert all(b >= a - 1e-12 for a, b in zip(forgotten(matrix), forgotten_from_best(matrix), strict=True))


def test_matrices_that_are_none() -> None:
    for question in (forgotten, forgotten_from_best):
        with pytest.raises(ValueError, match="no rows"):
            question([])
        with pytest.raises(ValueError, match="after 2 experiences"):
            question([[1.0], [1.0]])
    with pytest.raises(ValueError, match="two experiences"):
        backward_transfer([[1.0]])
    with pytest.raises(ValueError, match="two experiences"):
        forward_transfer([[1.0]], [1.0])


def with_stream(folder: Path, sets: list[str], **settings: Any) -> dict[str, Any]:
    raw = stages(folder, count=3)
    for stage in raw["stages"]:
        paths = {name: raw["stages"][number]["data"]["source"]["path"] for number, name in enumerate("abc")}
        stage["evaluate"]["also"] = {n: {"source": {"type": "files", "path": p}} for n, p in paths.items()}
        stage["evaluate"]["evaluators"].append({"type": "stream", "sets": sets, **settings})
    return raw


def test_over_the_stages_of_a_run(tmp_path: Path) -> None:
    result = carried_out(with_stream(tmp_path, ["a", "b", "c"]), tmp_path / "run")
    ends = [stage["final"] for stage in result.stages]
    start = [result.stages[0]["first"][f"{name}/loss"] for name in "abc"]
    matrix = [[end[f"{name}/loss"] for name in "abc"] for end in ends]
    last = ends[-1]
    assert last["stream/loss"] == pytest.approx(sum(matrix[-1]) / 3)
    assert last["stream/loss/forgetting"] == pytest.approx(sum(forgotten(matrix, "lower")) / 2)
    assert last["stream/loss/forgetting_from_best"] == pytest.approx(sum(forgotten_from_best(matrix, "lower")) / 2)
    assert last["stream/loss/backward_transfer"] == pytest.approx(-last["stream/loss/forgetting"])
    assert last["stream/loss/forward_transfer"] == pytest.approx(forward_transfer(matrix, start, "lower"))
    assert ends[1]["stream/loss/seen"] == pytest.approx((matrix[1][0] + matrix[1][1]) / 2)
    assert ends[1]["stream/loss/forgetting"] == pytest.approx(matrix[1][0] - matrix[0][0])
    first = [line for line in lines_of(result, 0) if "stream/loss" in line]
    assert len(first) == 3
    assert not any("stream/loss/forgetting" in line for line in first)


def test_a_set_that_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluator stream: 'bb/loss' is not measured \(did you mean 'b/loss'\?\)"):
        carried_out(with_stream(tmp_path, ["a", "bb"]), tmp_path / "run")
    with pytest.raises(ValueError, match="sets"):
        Stream(sets=["a"])
