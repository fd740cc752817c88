"""Tiny models of several kinds, and a loss, that tests of weights use."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

KINDS = {
    "gpt2": {"n_embd": 16, "n_layer": 5, "n_head": 2, "n_positions": 16},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "bert": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 5, "num_attention_heads": 2},
}
DEPTH = {"gpt2": "n_layer", "llama": "num_hidden_layers", "bert": "num_hidden_layers"}
TOKENS = torch.arange(24).view(2, 12)


def build(like: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(like, **({"vocab_size": 30} | ids | KINDS[like] | changes))
    return (AutoModelForMaskedLM if like == "bert" else AutoModelForCausalLM).from_config(config).eval()


def loss(model: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(input_ids=TOKENS).logits.flatten(0, 1), TOKENS.flatten())
