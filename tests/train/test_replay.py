"""Replay: the loss over new and old rows together, which rows come, and when the memory fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from continual import NOW, Distance, Point, carried_out, ground_of, lines_of, stages, weights_of
from docstring_examples import run_example
from pydantic import ValidationError
from tiny_models import TOKENS, build

from warmstart.objectives.causal import Causal
from warmstart.train.penalties import Moment
from warmstart.train.penalties.replay import Memory, Replay, joined_mean
from warmstart.train.reservoir import Reservoir


def state_of(model: Point, data: Any, **settings: Any) -> Memory:
    made = Replay(**settings).start(ground_of(model, data))
    assert isinstance(made, Memory)
    return made


def test_the_loss_is_the_mean_over_all_targets_of_old_and_new_rows() -> None:
    """Texts of different lengths: targets count, not rows."""
    model, objective = build("gpt2"), Causal()

    def row(length: int) -> dict[str, np.ndarray]:
        documents = np.where(np.arange(12) < length, 0, -1)
        return {"tokens": TOKENS[0].numpy(), "positions": np.arange(12), "documents": documents}

    def loss(*lengths: int) -> Any:
        return objective.loss(model, objective.collate([row(n) for n in lengths], None, np.random.default_rng(0)))

    new, old, both = loss(12, 5), loss(3), loss(12, 5, 3)
    assert (new.total + joined_mean(new, old)).item() == pytest.approx(both.total.item(), abs=1e-6)
    gradients = [
        torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        for total in (new.total + joined_mean(new, old), both.total)
    ]
    for one, other in zip(*gradients, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_it_begins_with_the_second_stage_and_holds_rows_of_the_first() -> None:
    model = Point([0.0])
    state = state_of(model, [(float(n),) for n in range(50)], rows=8, ratio=2.0)
    assert not state.active(NOW)
    state.seen([{"x": np.array([1000.0])}])  # filled after the stage, not by its steps
    assert not state.active(NOW)
    state.finish()
    assert state.active(NOW)
    assert len(state.reservoir) == 8
    batch = {"x": torch.zeros(3, 1, dtype=torch.float64)}
    loss = Distance().loss(model, batch)
    extra = state.loss(batch, loss, NOW)
    assert extra is not None
    old = float(loss.parts["replay/old_loss"])
    drawn = {float(row["x"][0]) ** 2 / 2 for row in state.reservoir.rows}
    assert min(drawn) <= old <= max(drawn)
    assert extra.item() == pytest.approx(6 / 9 * (old - loss.total.item()))


def test_micro_batches_share_the_steps_draw() -> None:
    model = Point([0.0])
    seen: list[list[float]] = []
    ground = ground_of(model, [(float(n),) for n in range(50)])

    def batch_of(rows: Any, purpose: Any) -> Any:
        seen.append([float(row["x"][0]) for row in rows])
        return ground.batch_of(rows, purpose)

    state = Replay(rows=20).start(ground_of(model, [(float(n),) for n in range(50)], batch_of=batch_of))
    state.finish()
    for piece in range(5):
        batch = {"x": torch.zeros(4, 1, dtype=torch.float64)}
        state.loss(batch, Distance().loss(model, batch), Moment(3, 0.0, piece, 5))
    assert [len(rows) for rows in seen] == [4] * 5
    assert len({value for rows in seen for value in rows}) == 20


def test_filled_while_training() -> None:
    state = state_of(Point([0.0]), [(float(n),) for n in range(50)], rows=4, fill="during")
    state.seen([{"x": np.array([float(n)])} for n in range(9)])
    assert state.active(NOW)
    assert {float(row["x"][0]) for row in state.reservoir.rows} <= set(range(9))
    before = [float(row["x"][0]) for row in state.reservoir.rows]
    state.finish()
    assert [float(row["x"][0]) for row in state.reservoir.rows] == before


def test_in_a_run_it_costs_the_old_rows_and_remembers_training_rows_only(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from warmstart.data.prepare import prepare
    from warmstart.models.tokenizer import load_tokenizer
    from warmstart.recipe import Recipe

    raw = stages(tmp_path, [{"type": "replay", "rows": 10}])
    plain = carried_out(stages(tmp_path), tmp_path / "plain")
    result = carried_out(raw, tmp_path / "run")
    assert weights_of(result)[0] == weights_of(plain)[0]
    assert weights_of(result)[1] != weights_of(plain)[1]
    assert result.stages[0]["flops"] == plain.stages[0]["flops"]
    assert result.stages[1]["flops"] == pytest.approx(2 * plain.stages[1]["flops"])
    assert all("replay/old_loss" in line for line in lines_of(result, 1) if "learning_rate" in line)
    assert not any("replay/old_loss" in line for line in lines_of(result, 0))

    tokenizer = load_tokenizer(str(result.model))
    trained = []
    for stage in Recipe.model_validate(raw).stages:
        assert stage.data is not None
        data = prepare(stage.data, tokenizer)
        trained.append({blocks[n]["tokens"].tobytes() for blocks in data.train for n in range(len(blocks))})
    for number in range(2):
        folder = result.folder / "stages" / str(result.stages[number]["folder"]) / "state"
        state = sorted(path for path in folder.iterdir() if path.name.startswith("step-"))[-1]
        kept = load_file(state / "companions.safetensors")["replay/tokens"].numpy().astype(np.int64)
        assert len(kept) == 10
        allowed = set().union(*trained[: number + 1])
        assert {row.tobytes() for row in kept} <= allowed
    assert any(row.tobytes() in trained[1] for row in kept)


def test_the_docstrings_loop() -> None:
    """One step on two new rows and eight drawn from a memory: the gradient of all ten."""
    model = Point([1.0])
    memory = Reservoir(3)
    memory.offer([{"x": np.array([float(n)])} for n in range(5)], np.random.default_rng(0))

    class Rows(Distance):
        def collate(self, rows: Any, tokenizer: None, generator: Any) -> dict[str, torch.Tensor]:
            return {"x": torch.from_numpy(np.stack([row["x"] for row in rows]))}

    rows = [{"x": np.array([7.0])}, {"x": np.array([9.0])}]
    generator = np.random.default_rng(0)
    old = memory.drawn(8, np.random.default_rng(0))
    run_example(
        joined_mean,
        model=model,
        objective=Rows(),
        rows=rows,
        memory=memory,
        tokenizer=None,
        generator=generator,
        joined_mean=joined_mean,
    )
    assert model.place.grad is not None
    mean = np.mean([float(row["x"][0]) for row in [*rows, *old]])
    assert model.place.grad.item() == pytest.approx(1.0 - mean)


def test_settings_that_are_none() -> None:
    for field, value in (("rows", 0), ("ratio", -1), ("fill", "never")):
        with pytest.raises(ValidationError, match=field):
            Replay.model_validate({field: value})
