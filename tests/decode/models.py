"""Tiny causal models with random weights that are far from uniform."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def gpt2(seed: int, *, width: int = 16, vocabulary: int = 40, dropout: float = 0.0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(
            n_layer=2, n_head=2, n_embd=width, vocab_size=vocabulary, n_positions=64, initializer_range=0.4,
            attn_pdrop=dropout, resid_pdrop=dropout, embd_pdrop=dropout, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()


def llama(seed: int, *, width: int = 16, vocabulary: int = 40) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, hidden_size=width, intermediate_size=32,
            vocab_size=vocabulary, max_position_embeddings=64, initializer_range=0.4, bos_token_id=0, eos_token_id=0,
            pad_token_id=0,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()
