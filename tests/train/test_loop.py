"""The loop against a hand-written one, accumulation, budgets, interruption."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus
from trainings import training_of

from warmstart.errors import Interrupted, UserError
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter


def training(tmp_path: Path, objective: str = "causal", folder: str = "stage", **changes: Any) -> Training:
    corpus = tmp_path / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(corpus)
    raw = tiny_recipe(corpus, objective=objective)["stages"][0]
    raw["train"] |= changes.pop("train", {})
    stage = Stage.model_validate(raw | changes)
    return training_of(stage, tmp_path / folder)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_equals_a_hand_written_loop(tmp_path: Path) -> None:
    """The same batches through plain PyTorch give bit-identical weights."""
    settings = {"schedule": "constant", "optimizer": {"type": "adamw", "weight_decay": 0.0}}
    ours = training(tmp_path, folder="ours", train=settings)
    theirs = training(tmp_path, folder="theirs", train=settings)
    without_dropout(ours.model)
    model = without_dropout(theirs.model)
    start = weights(model).clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for _ in range(3):
        ours.step()
        batch = theirs.collate(theirs.next_rows())
        theirs.counts.step += 1
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.equal(weights(model), start)
    torch.testing.assert_close(weights(ours.model), weights(model), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_compiling_changes_nothing_but_rounding(tmp_path: Path) -> None:
    plain = training(tmp_path, folder="plain")
    compiled = training(tmp_path, folder="compiled", train={"compile": True})
    without_dropout(plain.model)  # (compiled code draws its dropout from another stream)
    without_dropout(compiled.model)
    start = weights(plain.model).clone()
    for _ in range(3):
        plain.step()
        compiled.step()
    assert (weights(plain.model) - start).abs().max() > 1e-4
    torch.testing.assert_close(weights(compiled.model), weights(plain.model), rtol=0, atol=1e-5)
    assert compiled.counts.flops == plain.counts.flops


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_accumulation_changes_nothing_but_rounding(tmp_path: Path, objective: str) -> None:
    """Micro-batches hold different numbers of targets; weighting by rows instead of targets fails here."""
    one, four = (
        training(tmp_path, objective, "one"),
        training(tmp_path, objective, "four", train={"accumulate": 4}),
    )
    gradients = []
    for each in (one, four):
        without_dropout(each.model)
        batch = each.collate(each.next_rows())
        loss = each.backward(batch)
        gradients.append(
            (
                float(loss.total),
                torch.cat([p.grad.flatten() for p in each.model.parameters() if p.grad is not None]),
            )
        )
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unit", ["steps", "tokens", "flops", "seconds"])
def test_budgets_are_never_passed(tmp_path: Path, unit: str) -> None:
    probe = training(tmp_path, folder="probe")
    cost = probe.cost.of_step(probe.collate(probe.next_rows()), "", probe.moment())
    amount = {"steps": 5, "tokens": 5 * 64 + 30, "flops": cost * 5.5, "seconds": 0.5}[unit]
    loop = training(tmp_path, folder=unit, budget={unit: amount})
    loop.run()
    if unit == "seconds":
        assert loop.counts.step >= 1
        assert loop.counts.seconds < 5
    else:
        assert loop.counts.step == 5
    assert loop.counts.tokens == 64 * loop.counts.step
    assert loop.counts.flops == pytest.approx(cost * loop.counts.step)


def test_a_budget_below_one_step_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="less than one training step"):
        training(tmp_path, budget={"tokens": 3}).run()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    loop = training(tmp_path, train={"learning_rate": 1e30, "clip": None, "schedule": "constant"})
    with pytest.raises(UserError, match=r"train\.learning_rate"):
        loop.run()


def test_interrupt_saves_and_resumes_exactly(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    recipe = Recipe.model_validate(tiny_recipe(corpus, steps=10, save_every=1000))

    class Impatient(Reporter):
        def event(self, kind: str, **values: Any) -> None:
            if kind == "step" and 0.35 < values["fraction"] < 0.45:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="step 4"):
        run(recipe, tmp_path / "stopped", reporter=Impatient())
    run(recipe, tmp_path / "stopped", reporter=Reporter())
    run(recipe, tmp_path / "whole", reporter=Reporter())
    facts = [json.loads((tmp_path / n / "stages/00-first/stage.json").read_text()) for n in ("stopped", "whole")]
    assert facts[0]["weights"] == facts[1]["weights"]
    assert facts[0]["final"] == facts[1]["final"]


def test_it_learns(tmp_path: Path) -> None:
    loop = training(tmp_path, budget={"steps": 60}, train={"learning_rate": 1e-2})
    before = loop.evaluate()["validation/loss"]
    assert loop.run()["validation/loss"] < before - 1.0


def test_a_loaded_model_trains_with_its_dropout_like_a_new_one(tmp_path: Path) -> None:
    loop = training(tmp_path)
    loop.model.save_pretrained(tmp_path / "saved")
    loaded = type(loop.model).from_pretrained(tmp_path / "saved")
    assert not loaded.training
    again = Training(loaded, loop.tokenizer, loop.stage, loop.data, seed=7, number=0, folder=tmp_path / "again")
    loop.step()
    again.step()
    assert torch.equal(weights(loop.model), weights(again.model))


def test_a_block_without_a_target_is_harmless(tmp_path: Path) -> None:
    """A block may hold nothing but context (the end of a long header): the normaliser counts the step's targets, so it
    weighs nothing, alone in its micro-batch too."""
    alone, beside = (
        training(tmp_path, folder="alone", train={"batch_size": 1}),
        training(tmp_path, folder="beside", train={"batch_size": 2, "accumulate": 2}),
    )
    row = alone.next_rows()[0]
    empty = row | {"context": [True] * len(row["tokens"])}
    found = []
    for each, rows in ((alone, [row]), (beside, [row, empty]), (beside, [empty, empty])):
        without_dropout(each.model)
        each.optimizer.zero_grad()
        loss = each.backward(each.collate(rows))
        found.append((float(loss.total), torch.cat([p.grad.flatten() for p in each.model.parameters()])))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-5, atol=1e-7)
    assert found[2][0] == 0.0
    assert not found[2][1].any()
