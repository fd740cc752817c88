"""FLOPs against the closed form, and the same for every attention kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from warmstart.forecast.cluster.live import LiveBytes
from warmstart.train.compute import FlopMeter, batch_key, peak_memory_bytes

BATCH, TOKENS, VOCAB = 3, 16, 50


def build(like: str, attention: str) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "attn_pdrop": 0.0},
        "llama": {
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "bert": {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4},
    }[like]
    if like == "bert":
        sizes |= {"attention_probs_dropout_prob": 0.0, "type_vocab_size": 1}
    config = AutoConfig.for_model(like, vocab_size=VOCAB, bos_token_id=0, eos_token_id=0, pad_token_id=0, **sizes)
    config._attn_implementation = attention
    return (AutoModelForMaskedLM if like == "bert" else AutoModelForCausalLM).from_config(config)


def measured(like: str, attention: str, mask: bool = False, forward_only: bool = False) -> float:
    model = build(like, attention)
    tokens = torch.zeros(BATCH, TOKENS, dtype=torch.long)
    extra = {"attention_mask": torch.zeros(BATCH, 1, TOKENS, TOKENS)} if mask else {}

    def forward() -> torch.Tensor:
        return model(input_ids=tokens, **extra).logits.float().mean()

    meter = FlopMeter()
    return meter.measure_forward(("x",), forward) if forward_only else meter.measure(("x",), forward)


def closed_form(like: str) -> float:
    """Forward FLOPs: 2 per weight of every matrix and token, and 4 T d per token and layer for the attention."""
    width, layers, heads, kv_heads = 32, 2, 4, 2
    per_token = {
        "gpt2": layers * (4 * width * width + 2 * width * 4 * width),
        "llama": layers * (2 * width * width + 2 * width * width * kv_heads // heads + 3 * width * 40),
        "bert": layers * (4 * width * width + 2 * width * 40) + width * width,
    }[like] + width * VOCAB
    return BATCH * TOKENS * (2 * per_token + layers * 4 * TOKENS * width)


@pytest.mark.parametrize("like", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_closed_form(like: str, attention: str) -> None:
    assert measured(like, attention, forward_only=True) == closed_form(like)
    # Backward: the gradient of every product's two inputs, but for the embedding's output... the first layer's
    # input has a gradient too, because the embedding trains: exactly twice the forward pass.
    assert measured(like, attention) == 3 * closed_form(like)


@pytest.mark.parametrize("like", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_mask_changes_nothing(like: str, attention: str) -> None:
    assert measured(like, attention, mask=True) == measured(like, attention) == 3 * closed_form(like)


def test_frozen_weights_are_not_charged() -> None:
    model = build("gpt2", "sdpa")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("h.1" in name)
    tokens = torch.zeros(BATCH, TOKENS, dtype=torch.long)
    meter = FlopMeter()
    partly = meter.measure(("partly",), lambda: model(input_ids=tokens).logits.mean())
    assert closed_form("gpt2") < partly < 3 * closed_form("gpt2")


def test_measuring_leaves_no_trace() -> None:
    model = build("gpt2", "sdpa")
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    meter = FlopMeter()
    first = meter.measure(("a",), lambda: model(input_ids=torch.zeros(2, 8, dtype=torch.long)).logits.mean())
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters() if p.grad is not None)
    again = FlopMeter()
    again.load_state_dict(meter.state_dict())

    def fail() -> torch.Tensor:
        raise AssertionError("measured twice")

    assert again.measure(("a",), fail) == first


def test_measuring_holds_no_two_gradients() -> None:
    """Beside what the forward pass keeps there is room for a gradient, not for all of them."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(64, 64, bias=False) for _ in range(8)))
    of_one = 4 * 64 * 64
    with LiveBytes(layers.parameters()) as live:
        FlopMeter().measure(("x",), lambda: layers(torch.zeros(2, 64)).mean())
    assert of_one < live.peak < 3 * of_one


def test_batch_key() -> None:
    key = batch_key({"b": torch.zeros(2, 3), "a": torch.zeros(1)})
    assert key == batch_key({"a": torch.ones(1), "b": torch.ones(2, 3)})
    assert key != batch_key({"a": torch.ones(1), "b": torch.ones(3, 2)})


def test_peak_memory() -> None:
    assert peak_memory_bytes() > 10**7
