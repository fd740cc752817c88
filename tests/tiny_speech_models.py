"""Tiny speech encoders, a tokenizer of characters and rows of tones, for tests of speech models."""

from __future__ import annotations

from functools import cache
from typing import Any

from warmstart.data.sources.tones import Tones
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_characters
from warmstart.objectives import Row

TINY_SPEECH = {
    "like": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "feature_projection_input_dim": 320,
    "conv_depthwise_kernel_size": 3,
    "conformer_conv_dropout": 0.0,
    "final_dropout": 0.0,
    "left_max_position_embeddings": 8,
    "max_source_positions": 600,
}


@cache
def tokenizer() -> Any:
    return train_characters(["abc def ghi", "hello world"], 30)


def speech_model(head: str = "speech", seed: int = 0, **sizes: Any) -> Any:
    """A model with random weights, without dropout, in training mode."""
    settings = {name: value for name, value in (TINY_SPEECH | sizes).items() if name != "like"}
    return new_model(configuration("wav2vec2-bert", settings, tokenizer()), head, seed).train()


def spoken_rows(count: int = 8, **settings: Any) -> list[Row]:
    return list(Tones(size=count, **settings).rows())
