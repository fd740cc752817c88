"""Sharing out weights: what can be looked at in one process; several are in test_processes.py."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import encoder
from torch import nn

from warmstart.train.weights import layers_of, wants_shares, with_weights, without_weights


def llama(tied: bool):  # type: ignore[no-untyped-def]
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 16, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, tie_word_embeddings=tied, **sizes))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_put_together_again_is_the_same(tied: bool) -> None:
    model = llama(tied)
    structure = without_weights(model)
    assert all(p.is_meta for p in structure.parameters())
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    again = with_weights(structure, weights, dict(model.named_buffers()))
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    ids = torch.arange(6)[None]
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert all(p.is_meta for p in structure.parameters())  # and may be asked again


def test_frozen_weights_stay_frozen() -> None:
    model = llama(False)
    model.lm_head.weight.requires_grad_(False)
    again = with_weights(without_weights(model), dict(model.named_parameters()), dict(model.named_buffers()))
    assert [n for n, p in again.named_parameters() if not p.requires_grad] == ["lm_head.weight"]


def test_buffers_are_those_of_now() -> None:
    """Running statistics change while a model trains."""
    model = nn.BatchNorm1d(3)
    structure = without_weights(model)  # type: ignore[arg-type]
    model(torch.rand(5, 3))
    again = with_weights(structure, dict(model.named_parameters()), dict(model.named_buffers()))
    assert torch.equal(again.running_mean, model.running_mean)
    model(torch.rand(5, 3))
    assert not torch.equal(again.running_mean, model.running_mean)


def test_layers_are_the_blocks_and_each_weight_is_in_at_most_one() -> None:
    model = llama(True)
    assert layers_of(model) == list(model.model.layers)


def test_what_is_tied_to_the_outside_is_no_layer() -> None:
    """BERT's embeddings must not be split, and are tied to the head of a masked language model."""
    model = encoder(head="masked")
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert {type(layer).__name__ for layer in layers_of(model)} == {"BertLayer"}


def test_a_model_that_says_nothing_is_split_at_its_lists() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.head = nn.Linear(2, 2)

    model = Plain()
    assert layers_of(model) == list(model.blocks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "processes", "accelerate", "expected"),
    [
        ("always", 1, None, False),
        ("always", 2, None, True),
        ("auto", 2, None, False),
        ("auto", 2, "true", True),
        ("auto", 1, "true", False),
        ("never", 2, "true", False),
    ],
)
def test_who_decides(
    monkeypatch: pytest.MonkeyPatch, setting: str, processes: int, accelerate: str | None, expected: bool
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    if accelerate:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", accelerate)
    assert wants_shares(setting, processes) == expected
