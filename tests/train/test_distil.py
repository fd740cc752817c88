"""Distillation: the loss and its gradient, the teacher's coming and going, resume on both sides of its end."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import TINY_GPT2, tiny_recipe, write_corpus
from hypothesis import given
from hypothesis import strategies as st
from kills import kill_at_step, run_killed
from torch import nn

from warmstart.errors import ModelError
from warmstart.objectives import Loss
from warmstart.objectives.causal import Causal
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.penalties import Ground, Moment
from warmstart.train.penalties.distil import Distil, Distillation, soft_cross_entropy
from warmstart.train.progress import Reporter


class Fixed(nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, **_: Any) -> Fixed:
        return self


def state(teacher: torch.Tensor, **settings: Any) -> Distillation:
    ground: Any = Ground(None, None, Causal(), None, torch.device("cpu"), "fp32", 0, 4, None, None)  # type: ignore[arg-type]
    made = Distillation(Distil(teacher="given", **settings), ground)
    made.teacher = Fixed(teacher).requires_grad_(False)
    return made


def total(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, **settings: Any) -> torch.Tensor:
    batch = {"input_ids": labels, "position_ids": labels, "labels": labels}
    loss = Causal().loss(Fixed(student) if not isinstance(student, nn.Module) else student, batch)
    extra = state(teacher, **settings).loss(batch, loss, Moment(0, 0.0))
    assert extra is not None
    return loss.total + extra


def logits(seed: int, rows: int = 6, vocabulary: int = 7) -> torch.Tensor:
    return torch.randn(1, rows, vocabulary, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([[3, 0, -100, 6, 2, -100]])


def test_without_weight_it_is_cross_entropy() -> None:
    plain = nn.functional.cross_entropy(logits(0)[0], LABELS[0])
    assert total(logits(0), logits(1), LABELS, weight=0.0).item() == pytest.approx(plain.item(), abs=1e-6)


def test_a_teacher_like_the_student_has_no_gradient() -> None:
    student = Fixed(logits(0))
    loss = total(student, logits(0), LABELS, weight=1.0)
    entropy = torch.distributions.Categorical(logits=logits(0)[0][LABELS[0] != -100]).entropy().mean()
    assert loss.item() == pytest.approx(entropy.item(), abs=1e-6)
    loss.backward()
    assert student.logits.grad is not None
    assert student.logits.grad.abs().max() < 1e-6


@given(st.floats(0, 1), st.floats(0.1, 4), st.integers(0, 100))
def test_the_gradient_is_the_students_less_the_mixed_target(weight: float, temperature: float, seed: int) -> None:
    student, teacher = Fixed(logits(seed)), logits(seed + 1)
    total(student, teacher, LABELS, weight=weight, temperature=temperature).backward()
    grad = student.logits.grad
    assert grad is not None
    real = LABELS[0] != -100
    one_hot = nn.functional.one_hot(LABELS[0][real], 7).double()
    mixed = (1 - weight) * one_hot + weight * torch.softmax(teacher[0][real].double() / temperature, -1)
    expected = (torch.softmax(student.logits[0][real].double(), -1) - mixed) / real.sum()
    torch.testing.assert_close(grad[0][real].double(), expected, atol=1e-6, rtol=1e-4)
    assert (grad[0][~real] == 0).all()  # what is no target has no say, in neither term


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_teacher_that_is_certain_and_right_gives_cross_entropy(weight: float) -> None:
    certain = nn.functional.one_hot(LABELS.clamp(min=0), 7).float()
    loss = total(logits(0), certain, LABELS, weight=weight, temperature=1e-4)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits(0)[0], LABELS[0]).item(), abs=1e-5)


def test_the_docstrings_loop() -> None:
    student, teacher = logits(0), logits(1)
    labels = LABELS.clamp(min=0)
    hard = nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten())
    soft = soft_cross_entropy(student.flatten(0, 1), teacher.flatten(0, 1), temperature=1.0).mean()
    loss = 0.6 * hard + 0.4 * soft
    assert loss.item() == pytest.approx(total(student, teacher, labels, weight=0.4).item(), abs=1e-6)


def test_the_weight_over_time() -> None:
    stepped = Distil(teacher="t", weight=0.5, until=0.2)
    assert [stepped.weight_at(Moment(0, p)) for p in (0, 0.1999, 0.2, 1)] == [0.5, 0.5, 0, 0]
    by_steps = Distil(teacher="t", weight=0.5, until=3)
    assert [by_steps.weight_at(Moment(s, 0.9)) for s in (0, 2, 3)] == [0.5, 0.5, 0]
    line = Distil(teacher="t", weight=0.5, until=0.2, transition="linear")
    assert [line.weight_at(Moment(0, p)) for p in (0, 0.1, 0.2, 0.25, 0.3, 1)] == pytest.approx(
        [0.5, 0.5, 0.25, 0.125, 0, 0]
    )
    assert Distil(teacher="t", until=None).weight_at(Moment(10**6, 1.0)) == 0.667


def test_other_vocabularies() -> None:
    wide = torch.cat([logits(1), torch.zeros(1, 6, 1)], dim=-1)
    with pytest.raises(ModelError, match=r"a vocabulary of 8, the student one of 7; .*vocabulary_slice"):
        total(logits(0), wide, LABELS)
    sliced = total(logits(0), wide, LABELS, vocabulary_slice=True)
    assert sliced.item() == pytest.approx(total(logits(0), logits(1), LABELS).item(), abs=1e-6)


def test_an_objective_without_logits() -> None:
    loss = Loss(torch.tensor(1.0), torch.tensor(1))
    with pytest.raises(ModelError, match="causal has no logits"):
        state(logits(1)).loss({}, loss, Moment(0, 0.0))


# ---- in a training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a trained teacher, and the recipe of a student that learns from it for 5 of 10 steps."""
    folder = tmp_path_factory.mktemp("distil")
    corpus = write_corpus(folder / "corpus.jsonl")
    teacher = run(Recipe.model_validate(tiny_recipe(corpus, steps=4)), folder / "teacher", reporter=Reporter()).model
    raw = tiny_recipe(corpus, steps=10)
    raw["stages"][0]["init"] = {**TINY_GPT2, "n_embd": 24}
    raw["stages"][0]["tokenizer"] = {"load": str(teacher)}
    raw["stages"][0]["train"]["penalties"] = [{"type": "distil", "teacher": str(teacher), "until": 0.5}]
    return folder, raw


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "stages/00-first/metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> str:
    return str(json.loads((folder / "stages/00-first/stage.json").read_text())["weights"])


def test_the_teacher_is_asked_so_often_and_then_freed(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, raw = ground
    calls: list[int] = []
    alive: list[weakref.ref[nn.Module]] = []
    teacher_of = Distillation._teacher

    def counted(self: Distillation) -> nn.Module:
        model = teacher_of(self)
        if not alive:
            alive.append(weakref.ref(model))
            assert not model.training
            assert not any(weight.requires_grad for weight in model.parameters())
        calls.append(1)
        return model

    monkeypatch.setattr(Distillation, "_teacher", counted)
    raw = {**raw, "stages": [{**raw["stages"][0], "train": {**raw["stages"][0]["train"], "accumulate": 2}}]}
    run(Recipe.model_validate(raw), folder / "counted", reporter=Reporter())
    assert len(calls) == 5 * 2 + 1  # and once to measure what it costs
    gc.collect()
    assert alive[0]() is None


def test_the_rest_of_the_training_is_that_of_a_run_without(ground: Any) -> None:
    folder, raw = ground
    run(Recipe.model_validate(raw), folder / "with", reporter=Reporter())
    plain = json.loads(json.dumps(raw))
    plain["stages"][0]["train"].pop("penalties")
    run(Recipe.model_validate(plain), folder / "plain", reporter=Reporter())
    ours, theirs = metrics(folder / "with"), metrics(folder / "plain")
    for column in ("step", "tokens", "learning_rate"):
        assert [line.get(column) for line in ours] == [line.get(column) for line in theirs]
    steps = [line for line in ours if "distil" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5]
    for line in steps:  # the log shows plain cross entropy beside what was minimised
        assert line["loss"] == pytest.approx(line["objective"] + line["distil"], abs=1e-5)
    gained = np.diff([0.0, *(line["flops"] for line in ours if "learning_rate" in line)])
    without = np.diff([0.0, *(line["flops"] for line in theirs if "learning_rate" in line)])
    assert (gained[:5] > without[:5]).all()
    assert (gained[5:] == without[5:]).all()
    assert weights(folder / "with") != weights(folder / "plain")


@pytest.mark.parametrize("step", [3, 5, 6])
def test_resumed_before_at_and_after_the_end_of_the_teacher(ground: Any, tmp_path: Path, step: int) -> None:
    folder, raw = ground
    if not (folder / "whole").exists():
        run(Recipe.model_validate(raw), folder / "whole", reporter=Reporter())
    raw = json.loads(json.dumps(raw))
    raw["stages"][0]["train"]["save_every"] = 1
    recipe = Recipe.model_validate(raw)
    assert run_killed(recipe, tmp_path / "run", kill_at_step(step))
    run(recipe, tmp_path / "run", reporter=Reporter())
    assert weights(tmp_path / "run") == weights(folder / "whole")


def test_a_teacher_with_another_tokenizer(ground: Any, tmp_path: Path) -> None:
    _folder, raw = ground
    raw = json.loads(json.dumps(raw))
    raw["stages"][0]["tokenizer"] = {"train": 280}
    with pytest.raises(ModelError, match=r"has another tokenizer \(300 tokens\) than the student \(280\)"):
        run(Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())


def test_settings_that_are_none(tmp_path: Path) -> None:
    for field, value in (("weight", 1.1), ("weight", -0.1), ("temperature", 0), ("until", 0)):
        with pytest.raises(ValueError, match=field):
            Distil.model_validate({"teacher": "t", field: value})
