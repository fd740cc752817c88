"""What an objective may do between steps: it sees the rows before they come, its compute counts, its state is saved."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import tiny_recipe, write_corpus
from image_text import pairs_recipe
from torch import nn

from warmstart.data.prepare import prepare
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import tokenizer_for
from warmstart.objectives import Batch, Loss, Outlook, Row
from warmstart.objectives.causal import Causal
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter

EXTRA = 1e6  # FLOPs that PyTorch does not see


class Memory(nn.Module):
    """A mark for each row of the episode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("marks", torch.full((1000,), -1))
        self.register_buffer("times", torch.zeros((), dtype=torch.int64))


class Looking(Causal):
    """Marks the rows that come; a step's rows must have the newest mark. No part of the library: it has no `type` of
    its own."""

    steps: int = 3

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> Memory:
        return Memory()

    def refresh_every(self, batch_size: int) -> int:
        return self.steps

    def refresh(self, outlook: Outlook) -> float:
        assert isinstance(outlook.extra, Memory)
        assert not torch.is_grad_enabled()
        assert len(outlook.ahead) == self.steps * outlook.batch_size
        outlook.extra.marks.fill_(-1)
        outlook.extra.times += 1
        outlook.extra.marks[list(outlook.ahead)] = int(outlook.extra.times)
        batch = outlook.batch_of([outlook.rows[n] for n in outlook.ahead[: outlook.batch_size]], ("look",))
        super().loss(outlook.model, batch)
        return EXTRA

    def phase(self, extra: nn.Module | None) -> str:
        assert isinstance(extra, Memory)
        return "odd" if int(extra.times) % 2 else "even"

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        batch = super().collate(rows, tokenizer, generator)
        if "number" in rows[0]:
            batch["numbers"] = torch.tensor([row["number"] for row in rows])
        return batch

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        if "numbers" in batch:
            assert isinstance(extra, Memory)
            assert (extra.marks[batch["numbers"]] == extra.times).all()
        loss = super().loss(model, {name: value for name, value in batch.items() if name != "numbers"})
        if isinstance(extra, Memory) and int(extra.times) % 2 == 0 and model.training:  # twice the work
            loss.total = (
                loss.total + super().loss(model, {n: t for n, t in batch.items() if n != "numbers"}).total
            ) / 2
        return loss


def training(folder: Path, objective: Causal, budget: dict[str, float], sources: int = 2) -> Training:
    files = [write_corpus(folder / f"{n}.jsonl", seed=n) for n in range(sources)]
    raw = tiny_recipe(files[0])["stages"][0]
    raw["data"]["source"] = [{"type": "files", "path": str(file)} for file in files]
    stage = Stage.model_validate(raw | {"budget": budget}).model_copy(update={"objective": objective})
    assert stage.data is not None
    assert stage.tokenizer is not None
    assert stage.init is not None
    words = tokenizer_for(stage.tokenizer, stage.data, "causal")
    model = new_model(configuration(stage.init.like, stage.init.settings, words), "causal", 7)
    place = Path(tempfile.mkdtemp(dir=folder))
    return Training(model, words, stage, prepare(stage.data, words), seed=7, number=0, folder=place)


def test_numbers_are_places_among_all_rows_and_the_order_of_rows_is_the_mixs(tmp_path: Path) -> None:
    plain, looking = training(tmp_path, Causal(), {"steps": 9}), training(tmp_path, Looking(), {"steps": 9})
    for _ in range(9):
        assert looking._refreshed()
        theirs, ours = plain.next_rows(), looking.next_rows()
        for row, other in zip(ours, theirs, strict=True):
            assert np.array_equal(row["tokens"], other["tokens"])
            assert np.array_equal(looking._rows[row["number"]]["tokens"], row["tokens"])
            assert "number" not in other
    assert len({row["number"] // len(looking.data.train[0]) for row in ours}) > 0
    assert int(looking.extra.times) == 3  # type: ignore[union-attr]


def test_what_it_computes_counts(tmp_path: Path) -> None:
    plain, looking = training(tmp_path, Causal(), {"steps": 7}), training(tmp_path, Looking(), {"steps": 7})
    plain.run(), looking.run()
    step = plain.counts.flops / 7
    forward = step / 3  # a refresh is one forward pass of a batch
    odd, even = 4, 3  # steps of the first and third episode, and of the second, which cost twice as much
    assert looking.counts.flops == pytest.approx(step * (odd + 2 * even) + 3 * (forward + EXTRA), rel=0.02)


def test_a_budget_is_not_passed(tmp_path: Path) -> None:
    one = training(tmp_path, Looking(), {"steps": 1})
    one.run()
    for share in (5.2, 9.5):
        budget = share * one.counts.flops
        looking = training(tmp_path, Looking(), {"flops": budget})
        looking.run()
        assert looking.counts.flops <= budget * (1 + 1e-9)
        assert looking.counts.step >= 3


def test_a_run_with_episodes_is_the_same_however_often_its_rows_are_drawn(tmp_path: Path) -> None:
    """Episodes do not change which rows come when: the weights are those of the plain run, dropout and all."""
    plain, looking = training(tmp_path, Causal(), {"steps": 3}), training(tmp_path, Looking(), {"steps": 3})
    plain.run(), looking.run()
    for one, other in zip(plain.model.parameters(), looking.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_closing_leaves_the_image_tower_alone_in_a_run(tmp_path: Path) -> None:
    """With weight decay, and its steps cost less."""
    raw = pairs_recipe(steps=8, save_every=2, keep=9, optimizer={"type": "adamw", "weight_decay": 0.5})
    raw["stages"][0]["objective"] = {
        "type": "protoclip", "prototypes": 3, "episode": 8, "hidden": 8, "outputs": 4, "closing": 2, "warm_up": 1,
    }  # fmt: skip
    run(Recipe.model_validate(raw), tmp_path, reporter=Reporter())
    from safetensors.torch import load_file

    states = {
        step: load_file(tmp_path / f"stages/00-first/state/step-{step:08d}/model.safetensors") for step in (4, 6, 8)
    }
    pictures = [name for name in states[4] if name.startswith(("vision_model", "visual_projection"))]
    texts = [name for name in states[4] if name.startswith(("text_model", "text_projection"))]
    assert all(torch.equal(states[4][name], states[8][name]) for name in pictures)
    assert any(not torch.equal(states[6][name], states[8][name]) for name in texts)
    lines = [json.loads(line) for line in (tmp_path / "stages/00-first/metrics.jsonl").read_text().splitlines()]
    flops = {line["step"]: line["flops"] for line in lines if "loss" in line}
    warm, prototypes, closing = (flops[n] - flops[n - 1] for n in (2, 4, 6))
    assert prototypes > warm > closing
    assert flops[3] - flops[2] > prototypes  # with the extraction
    names = {line["step"]: set(line) for line in lines if "loss" in line}
    assert "prototypes/loss" in names[4]
    assert "prototypes/loss" not in names[2] | names[6]
