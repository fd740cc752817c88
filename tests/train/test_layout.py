"""Padded, bucketed and unpadded steps: the same targets, the same gradients, exact FLOPs, exact resume."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe

from warmstart.data.mix import Stock
from warmstart.data.mix.proportional import Proportional
from warmstart.data.prepare import prepare
from warmstart.errors import Interrupted, ModelError, RecipeError
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import tokenizer_for
from warmstart.recipe import Recipe
from warmstart.recipe_file import read_recipe
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.compute import FlopMeter, Work, batch_key
from warmstart.train.layout import Buckets, micro_batches, texts_of, work_of
from warmstart.train.loop import Training
from warmstart.train.progress import Reporter
from warmstart.train.rows import real_tokens_of

LAYOUTS = ["padded", "bucketed", "unpadded"]
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
SIZE = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {**SIZE, **NO_DROPOUT, "max_position_embeddings": 32},
    "roberta": {**SIZE, **NO_DROPOUT, "max_position_embeddings": 40},
    "modernbert": {**SIZE, "local_attention": 4, "layer_types": ["full_attention", "sliding_attention"]},
}
WORDS = ["one", "two", "three", "four", "five", "six"]


def recipe(tmp_path: Path, layout: str, packing: str = "single", like: str = "bert", **train: Any) -> dict[str, Any]:
    corpus = tmp_path / "corpus.jsonl"
    if not corpus.exists():
        draw = random.Random(0)
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) for _ in range(90)]
        corpus.write_text("".join(json.dumps({"text": f"{n} {text}"}) + "\n" for n, text in enumerate(texts)))
    raw = tiny_recipe(corpus, objective="masked", layout=layout, **train)
    stage = raw["stages"][0]
    stage["init"] = {"like": like, **ENCODERS[like]}
    stage["data"] |= {"packing": packing, "length": 32}
    return raw


def training(tmp_path: Path, layout: str, packing: str = "single", like: str = "bert", **train: Any) -> Training:
    stage = Stage.model_validate(recipe(tmp_path, layout, packing, like, **train)["stages"][0])
    assert stage.data is not None
    assert stage.tokenizer is not None
    assert stage.init is not None
    tokenizer = tokenizer_for(stage.tokenizer, stage.data, "masked")
    data = prepare(stage.data, tokenizer)
    model = new_model(configuration(stage.init.like, stage.init.settings, tokenizer), "masked", 7)
    folder = tmp_path / layout
    folder.mkdir(exist_ok=True)
    return Training(model, tokenizer, stage, data, seed=7, number=0, folder=folder)


def gradient(model: torch.nn.Module) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def rows_of(loop: Training, count: int = 4) -> list[Any]:
    return [loop.data.train[0][row] for row in range(count)]


# ---- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", list(ENCODERS))
@pytest.mark.parametrize("packing", ["single", "concat"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_layouts_give_the_same_loss_and_gradient(tmp_path: Path, like: str, packing: str, accumulate: int) -> None:
    """With several documents in a block, too: a flat batch and a dense mask say the same."""
    found = []
    for layout in LAYOUTS:
        loop = training(tmp_path, layout, packing, like, accumulate=accumulate)
        batch = loop.collate(rows_of(loop))
        assert ("documents" in batch) == (packing == "concat")
        assert ("attention_mask" in batch) == (packing == "single")
        loss = loop.backward(batch)
        found.append((float(loss.total), int(loss.targets), gradient(loop.model)))
    for total, targets, each in found[1:]:
        assert total == pytest.approx(found[0][0], abs=1e-5)
        assert targets == found[0][1]
        torch.testing.assert_close(each, found[0][2], rtol=0, atol=1e-5)


@every_layout
@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_no_token_is_lost_or_doubled(tmp_path: Path, layout: str, pieces: int) -> None:
    loop = training(tmp_path, layout)
    batch = loop.collate(rows_of(loop, 8))
    real = batch["attention_mask"]
    parts = micro_batches(batch, layout, pieces)  # type: ignore[arg-type]
    assert len(parts) == pieces

    def triples(columns: Any, keep: torch.Tensor) -> Counter[tuple[int, ...]]:
        names = ("input_ids", "position_ids", "labels")
        return Counter(zip(*(columns[name][keep].tolist() for name in names), strict=True))

    found: Counter[tuple[int, ...]] = Counter()
    for part in parts:
        keep = part.get("attention_mask", torch.ones_like(part["input_ids"], dtype=torch.bool))
        found += triples(part, keep)
        if "text_lengths" in part:
            assert part["text_lengths"].sum() == part["input_ids"].shape[1]
            assert (part["text_lengths"].diff() <= 0).all()
            starts = (part["position_ids"][0] == 0).nonzero().flatten()
            edges = [0, *part["text_lengths"].cumsum(0).tolist()]
            assert starts.tolist() == edges[:-1]
    assert found == triples(batch, real)
    tokens = work_of(parts).tokens
    assert tokens == {"padded": real.numel(), "unpadded": int(real.sum())}.get(layout, tokens)
    assert int(real.sum()) <= tokens <= real.numel()


@given(st.lists(st.lists(st.integers(0, 2), min_size=7, max_size=7), min_size=1, max_size=5))
def test_texts_are_the_runs_of_documents(rows):
    documents = np.array([np.sort(row) for row in rows])
    documents = np.where(documents == 2, -1, documents)  # padding at the end
    places, lengths = texts_of(documents)
    assert sorted(places) == np.flatnonzero(documents.ravel() >= 0).tolist()
    assert (np.diff(lengths) <= 0).all()
    expected = [int((row == n).sum()) for row in documents for n in (0, 1) if (row == n).any()]
    assert sorted(lengths) == sorted(expected)
    for first, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
        text = places[first : first + length]
        assert (np.diff(text) == 1).all()
        assert len({(place // 7, documents.ravel()[place]) for place in text}) == 1


# ---- FLOPs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", list(ENCODERS))
@pytest.mark.parametrize("layout", ["bucketed", "unpadded"])
@pytest.mark.parametrize("packing", ["single", "concat"])
def test_flops_by_prices_equal_measured_ones(tmp_path: Path, like: str, layout: str, packing: str) -> None:
    loop = training(tmp_path, layout, packing, like, accumulate=2)
    for first in (0, 8, 20):
        rows = [loop.data.train[0][row % len(loop.data.train[0])] for row in range(first, first + 4)]
        batch = loop.collate(rows)
        measured = 0.0
        for part in micro_batches(batch, layout, 2):  # type: ignore[arg-type]
            measured += FlopMeter().measure(
                batch_key(part), lambda part=part: loop.objective.loss(loop.model, part).total
            )
        assert loop.cost.of_step(batch, "", loop.moment()) == measured


def test_flops_are_measured_for_the_first_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = training(tmp_path, "unpadded")
    loop.step()
    known = loop.cost.meter.state_dict()
    for _ in range(3):
        loop.step()
    assert loop.cost.meter.state_dict() == known


def test_flops_that_do_not_follow_from_the_work_are_refused() -> None:
    def one_text(length: int) -> float:
        return 10.0 * length + 3 * length**2 + 1  # something that each batch costs once

    with pytest.raises(ModelError, match=r"train\.layout: padded"):
        FlopMeter().measure_by_work(("x",), Work(5, 9), one_text, lambda: (Work(5, 9), 10 * 5 + 3 * 9 + 1.0))
    meter = FlopMeter()
    exact = meter.measure_by_work(("x",), Work(5, 9), lambda n: 10.0 * n + 3 * n**2, lambda: (Work(7, 40), 190.0))
    assert exact == 10 * 5 + 3 * 9


# ---- a whole run ----------------------------------------------------------------------------------------------------


@every_layout
def test_resume_is_exact(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted twice, inside a window of buckets; weights, counts and the evaluation are those of a whole run."""
    form = Recipe.model_validate(recipe(tmp_path, layout, save_every=1000))
    whole = run(form, tmp_path / "whole", reporter=Reporter()).stages[0]
    original = Training.step
    for stop in (4, 8):

        def step(self: Training, stop: int = stop) -> Any:
            result = original(self)
            if self.counts.step == stop:
                self.save()
                raise Interrupted("test")
            return result

        monkeypatch.setattr(Training, "step", step)
        with pytest.raises(Interrupted):
            run(form, tmp_path / "parts", reporter=Reporter())
    monkeypatch.setattr(Training, "step", original)
    parts = run(form, tmp_path / "parts", reporter=Reporter()).stages[0]
    same = ("weights", "steps", "tokens", "real_tokens", "flops", "final")
    assert {name: parts[name] for name in same} == {name: whole[name] for name in same}
    assert whole["real_tokens"] <= whole["tokens"]
    assert (whole["real_tokens"] == whole["tokens"]) == (layout == "unpadded")


def test_layouts_see_the_same_rows_or_save_compute(tmp_path: Path) -> None:
    facts = {
        layout: run(Recipe.model_validate(recipe(tmp_path, layout)), tmp_path / layout, reporter=Reporter()).stages[0]
        for layout in LAYOUTS
    }
    assert facts["padded"]["real_tokens"] == facts["unpadded"]["real_tokens"]  # the same rows
    flops = [facts[layout]["flops"] for layout in LAYOUTS]
    assert flops[0] > flops[1] > flops[2]
    first, last = facts["padded"]["final"], facts["unpadded"]["final"]
    assert last["validation/loss"] == pytest.approx(first["validation/loss"], abs=1e-3)
    lines = (tmp_path / "unpadded/stages/00-first/metrics.jsonl").read_text().splitlines()
    assert all("real_tokens" in json.loads(line) for line in lines)


def test_a_model_trained_without_padding_is_an_ordinary_one(tmp_path: Path) -> None:
    result = run(Recipe.model_validate(recipe(tmp_path, "unpadded")), tmp_path / "run", reporter=Reporter())
    assert "attn" not in (result.model / "config.json").read_text().replace("attention", "")
    model = AutoModelForMaskedLM.from_pretrained(result.model)
    assert model.config._attn_implementation == "sdpa"


# ---- buckets --------------------------------------------------------------------------------------------------------


def test_buckets_lose_no_row_and_hold_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 48)
    plain = Proportional().start(Stock([48]), seed=1)
    buckets = Buckets(Proportional().start(Stock([48]), seed=1), lambda _, row: int(lengths[row]), 4, 5, window=6)
    spans, orders = [], []
    for _ in range(4):  # windows of 24 rows; two are an epoch
        steps = [buckets.next(4) for _ in range(6)]
        assert sorted(row for step in steps for row in step) == sorted(plain.next(24))
        inside = [[int(lengths[row]) for _, row in step] for step in steps]
        spans += [max(step) - min(step) for step in inside]
        orders.append([int(n) for n in np.argsort([step[0] for step in inside])])
    assert np.mean(spans) < 150  # of 4 random rows: 300
    assert len({tuple(order) for order in orders}) > 1
    assert list(range(6)) not in orders  # no curriculum from short to long


def test_buckets_go_on_where_they_were() -> None:
    def start() -> Buckets:
        return Buckets(Proportional().start(Stock([20]), seed=1), lambda _, row: row % 7, 2, 5, window=4)

    whole = start()
    expected = [whole.next(2) for _ in range(13)]
    state, found = start(), []
    for number in range(13):
        if number in (0, 3, 4, 9):
            saved = json.loads(json.dumps(state.state_dict()))
            state = start()
            state.load_state_dict(saved)
        found.append(state.next(2))
    assert found == expected


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "causal"}, "found 'unpadded', but the objective causal takes only: padded"),
        ({"train": {"layout": "unpadded", "compile": True}}, "compile needs steps of one shape"),
        ({"train": {"layout": "unpaded"}}, "unpadded"),
    ],
)
def test_bad_layouts_get_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    raw = recipe(tmp_path, "unpadded")
    raw["stages"][0] |= changes
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(raw))
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


def test_steps_of_sounds_count_as_tokens_and_padding_is_not_real() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    batch = {"input_features": torch.zeros(2, 4, 6), "attention_mask": mask}
    assert work_of([batch]).tokens == 8
    assert real_tokens_of([{"text": "a"}, {"text": "b"}], batch, 8) == 4
    assert real_tokens_of([{"text": "a"}], {"input_ids": torch.zeros(1, 5)}, 5) == 5
