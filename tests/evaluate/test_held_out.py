"""Held-out loss: against a computation by hand, the same at every evaluation, nothing left behind."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from warmstart.data.prepare import prepare
from warmstart.evaluate import Subject
from warmstart.evaluate.held_out import HeldOut
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked
from warmstart.recipe_data import Data

TEXTS = [f"Story {number}. " + f"word{number} and more words, " * (number % 7 + 1) for number in range(80)]
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
BERT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def subject(tmp_path: Path, kind: str = "causal", sources: int = 1, seed: int = 3) -> Subject:
    tokenizer = train_tokenizer(TEXTS, 300, kind)
    paths = []
    for number in range(sources):
        paths.append(tmp_path / f"s{number}.jsonl")
        texts = TEXTS[number::sources]
        paths[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    raw = [{"type": "files", "path": str(path), "label": path.stem} for path in paths]
    data = prepare(Data.model_validate({"source": raw, "length": 16, "split": {"validation": 0.3}}), tokenizer)
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocab_size": 300, "pad_token_id": 0}
    if kind == "causal":
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **settings, **GPT2))
    else:
        model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **settings, **BERT))
    return Subject(model, tokenizer, Causal() if kind == "causal" else Masked(), data, seed)


def test_equals_the_computation_by_hand(tmp_path: Path) -> None:
    given = subject(tmp_path)
    values = HeldOut(tokens=10**6, batch_size=7).evaluate(given)
    nats, right, targets = 0.0, 0, 0
    given.model.eval()
    for row in given.data.validation[0]:
        edges = [0, *(np.flatnonzero(np.diff(row["documents"])) + 1), 16]
        for start, end in pairwise(edges):
            tokens = torch.from_numpy(row["tokens"][start:end])
            with torch.no_grad():
                logits = given.model(input_ids=tokens[None]).logits[0, :-1]
            nats += float(torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="sum"))
            right += int((logits.argmax(-1) == tokens[1:]).sum())
            targets += len(tokens) - 1
    assert values["validation/loss"] == pytest.approx(nats / targets, abs=1e-5)
    assert values["validation/perplexity"] == pytest.approx(math.exp(nats / targets), rel=1e-4)
    assert values["validation/accuracy"] == pytest.approx(right / targets)
    bits = nats / targets / math.log(2) / given.data.bytes_per_token
    assert values["validation/bits_per_byte"] == pytest.approx(bits, abs=1e-5)
    assert set(values) == {f"validation/{name}" for name in ("loss", "perplexity", "accuracy", "bits_per_byte")}


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_the_same_at_every_evaluation(tmp_path: Path, kind: str) -> None:
    given = subject(tmp_path, kind)
    first = HeldOut().evaluate(given)
    torch.manual_seed(99)
    np.random.seed(99)
    assert HeldOut().evaluate(given) == first
    if kind == "masked":
        given.seed = 4
        assert HeldOut().evaluate(given) != first


def test_two_arms_see_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[torch.Tensor]] = []
    collate = Masked.collate

    def spy(self: Masked, *arguments: Any) -> Any:
        batch = collate(self, *arguments)
        seen[-1].append(batch["input_ids"])
        return batch

    monkeypatch.setattr(Masked, "collate", spy)
    for _ in range(2):
        seen.append([])
        given = subject(tmp_path, "masked")
        torch.nn.init.normal_(next(given.model.parameters()))
        HeldOut(batch_size=4).evaluate(given)
    assert len(seen[0]) > 1
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_leaves_the_model_and_the_random_state_as_they_were(tmp_path: Path) -> None:
    given = subject(tmp_path)
    given.model.train()
    frozen = given.model.transformer.h[0].eval()
    before, numbers = {name: p.clone() for name, p in given.model.named_parameters()}, torch.get_rng_state()
    HeldOut().evaluate(given)
    assert given.model.training
    assert not frozen.training
    assert given.model.transformer.h[1].training
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in given.model.named_parameters())
    assert not given.model._forward_hooks


def test_per_source_losses_average_to_the_whole(tmp_path: Path) -> None:
    given = subject(tmp_path, sources=2)
    values = HeldOut(tokens=10**6).evaluate(given)
    assert {"validation/s0/loss", "validation/s1/loss"} <= set(values)
    counts = []
    for blocks in given.data.validation:
        rows = list(blocks)
        counts.append(int((Causal().collate(rows, None, np.random.default_rng(0))["labels"] != -100).sum()))
    mean = np.average([values["validation/s0/loss"], values["validation/s1/loss"]], weights=counts)
    assert values["validation/loss"] == pytest.approx(mean)


def test_the_means_over_sources_count_each_source_once(tmp_path: Path) -> None:
    given = subject(tmp_path, sources=3)
    values = HeldOut(tokens=10**6).evaluate(given)
    for metric in ("loss", "accuracy"):
        each = [values[f"validation/s{number}/{metric}"] for number in range(3)]
        assert values[f"validation/macro/{metric}"] == pytest.approx(sum(each) / 3)
        assert len(set(each)) == 3
    assert not any("macro" in name for name in HeldOut().evaluate(subject(tmp_path)))


def test_reads_at_most_so_many_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject(tmp_path, sources=2)
    read = 0
    collate = Causal.collate

    def spy(self: Causal, rows: Any, *arguments: Any) -> Any:
        nonlocal read
        read += 16 * len(rows)
        return collate(self, rows, *arguments)

    monkeypatch.setattr(Causal, "collate", spy)
    HeldOut(tokens=160, batch_size=3).evaluate(given)
    assert 64 < read <= 160


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_further_set_is_measured_as_if_it_were_the_stages_own(tmp_path: Path, kind: str) -> None:
    given = subject(tmp_path, kind, sources=2)
    alone = HeldOut().evaluate(given)
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps({"text": f"Once upon a time {n}, " * (n % 5 + 1)}) + "\n" for n in range(60)))
    raw = {"source": {"type": "files", "path": str(path)}, "length": 16, "split": {"validation": 0.3}}
    old = prepare(Data.model_validate(raw), given.tokenizer, sides=("validation",))
    given.also = {"old": old}
    both = HeldOut().evaluate(given)
    assert {name: value for name, value in both.items() if name.startswith("validation/")} == alone
    added = {name.removeprefix("old/"): value for name, value in both.items() if name.startswith("old/")}
    assert set(added) == {"loss", "perplexity", "accuracy", "bits_per_byte"}
    if kind == "causal":  # (the masks of a set are its own)
        given.data, given.also = old, {}
        expected = HeldOut().evaluate(given)
        assert added == {name.removeprefix("validation/"): value for name, value in expected.items()}
