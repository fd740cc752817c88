"""Tiny encoders, a tokenizer and packed rows for tests of what encoders are trained with."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Batch, Row

TEXT = "def reader(self):\n    return self.read_all(chunk=1024) + other\n"
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 140,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@cache
def tokenizer() -> Any:
    return train_tokenizer([TEXT, "some more text"], 300, "masked")


def encoder(like: str = "bert", head: str = "detection", seed: int = 0, **sizes: Any) -> Any:
    """A model with random weights, without dropout, in training mode."""
    return new_model(configuration(like, SIZES | sizes, tokenizer()), head, seed).train()


def random_rows(count: int = 64, length: int = 128, document: int = 32, padding: int = 0, seed: int = 5) -> list[Row]:
    """Blocks of [CLS] ... [SEP] documents of random ordinary tokens; the last `padding` places are padding."""
    vocabulary = len(tokenizer())
    tokens = np.random.default_rng(seed).integers(5, vocabulary, size=(count, length))
    where = np.arange(length)
    tokens[:, ::document], tokens[:, document - 1 :: document] = 2, 3
    documents = where // document
    if padding:
        tokens[:, -padding:] = 0
        documents = np.where(where < length - padding, documents, -1)
    return [{"tokens": row, "positions": where % document, "documents": documents} for row in tokens]


def alone(rows: list[Row]) -> list[Row]:
    """The same blocks as one document each."""
    zeros = [np.minimum(row["documents"], 0) for row in rows]
    return [row | {"documents": d, "positions": np.arange(len(d))} for row, d in zip(rows, zeros, strict=True)]


def given_tokens(rows: list[Row]) -> np.ndarray:
    return np.stack([row["tokens"] for row in rows])


def part_of(batch: Batch, first: int, end: int) -> Batch:
    """Some rows of a batch."""
    return {name: tensor[first:end] for name, tensor in batch.items()}
