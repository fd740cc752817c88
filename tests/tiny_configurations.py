"""Tiny configurations whose sizes differ pairwise, so that a formula cannot take one for another."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

TOKENS = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 48,
        "intermediate_size": 136,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "gpt2": {"n_embd": 48, "n_inner": 136, "n_layer": 6, "n_head": 6, "n_positions": 64},
    "qwen3": {
        "hidden_size": 48,
        "head_dim": 16,
        "intermediate_size": 136,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
}


def tiny(like: str, **changes: Any) -> PretrainedConfig:
    return AutoConfig.for_model(like, **(TOKENS | SIZES[like] | changes))
