"""No silent leak: the logits of a packed document equal those of the document alone, for every attention backend."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Objective, Row
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked

LENGTH = 24
WIDTHS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "qwen3": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "bert": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
}
MODELS = [(like, attention) for like in WIDTHS for attention in ("sdpa", "eager")]


def objective_of(like: str) -> Objective:
    return Masked() if like in ("bert", "roberta") else Causal()


def tokenizer_of(objective: Objective) -> Any:
    return train_tokenizer(["some text for a tokenizer"], 262, objective.head)


def model_of(like: str, attention: str) -> torch.nn.Module:
    torch.manual_seed(0)
    tokenizer = tokenizer_of(objective_of(like))
    config = AutoConfig.for_model(like, vocab_size=262, pad_token_id=tokenizer.pad_token_id, **WIDTHS[like])
    config._attn_implementation = attention
    auto = AutoModelForMaskedLM if like in ("bert", "roberta") else AutoModelForCausalLM
    model = auto.from_config(config).eval()
    for parameter in model.parameters():  # larger weights, so that a leak is far above rounding
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return model


def packed(*lengths: int, seed: int = 1) -> Row:
    """A block of documents with the given lengths."""
    positions = np.concatenate([np.arange(n) for n in lengths])
    documents = np.repeat(np.arange(len(lengths)), lengths)
    tokens = np.random.default_rng(seed).integers(5, 262, size=sum(lengths))
    return {"tokens": tokens, "positions": positions, "documents": documents}


def joined(row: Row) -> Row:
    return {"tokens": row["tokens"], "positions": np.arange(LENGTH), "documents": np.zeros(LENGTH, dtype=np.int64)}


def cut(row: Row, start: int, end: int) -> Row:
    """The piece of one document as a block of its own."""
    zeros = np.zeros(end - start, dtype=np.int64)
    return {"tokens": row["tokens"][start:end], "positions": np.arange(end - start), "documents": zeros}


def logits(model: torch.nn.Module, objective: Objective, rows: list[Row]) -> torch.Tensor:
    """What the objective's own loss makes the model compute, with the corruption taken back."""
    batch = objective.collate(rows, tokenizer_of(objective), np.random.default_rng(0))
    batch["input_ids"] = torch.from_numpy(np.stack([row["tokens"] for row in rows]))
    heard: list[torch.Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: heard.append(output.logits))
    with torch.no_grad():
        objective.loss(model, batch)
    hook.remove()
    return heard[0]


@pytest.mark.parametrize(("like", "attention"), MODELS)
def test_a_packed_document_equals_itself_alone(like: str, attention: str) -> None:
    model, objective = model_of(like, attention), objective_of(like)
    rows = [packed(9, 1, 14), packed(LENGTH, seed=2), packed(1, 1, 2, 20, seed=3)]
    together = logits(model, objective, rows)
    for number, row in enumerate(rows):
        edges = [0, *(np.flatnonzero(np.diff(row["documents"])) + 1), LENGTH]
        for start, end in pairwise(edges):
            alone = logits(model, objective, [cut(row, start, end)])[0]
            torch.testing.assert_close(together[number, start:end], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("like", "attention"), MODELS)
def test_joined_documents_do_see_each_other(like: str, attention: str) -> None:
    """The other option does what it says, and the test above is able to fail."""
    model, objective = model_of(like, attention), objective_of(like)
    row = packed(9, 15)
    other = joined(row) | {"tokens": np.concatenate([packed(9, seed=7)["tokens"], row["tokens"][9:]])}
    assert other["tokens"].tolist() != row["tokens"].tolist()
    whole = logits(model, objective, [joined(row), other])
    assert (whole[0, 9:] - whole[1, 9:]).abs().max() > 1e-2
    apart = logits(model, objective, [row, row | {"tokens": other["tokens"]}])
    torch.testing.assert_close(apart[0, 9:], apart[1, 9:], atol=1e-5, rtol=1e-4)


def test_roberta_sees_a_whole_block_as_transformers_shows_it() -> None:
    """Position ids start where the model family has them start."""
    model = model_of("roberta", "eager")
    row = packed(LENGTH)
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(row["tokens"])[None]).logits
    assert torch.equal(logits(model, Masked(), [row]), expected)
