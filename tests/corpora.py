"""Small corpora and recipes that several tests use."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warmstart.data.cache import digest
from warmstart.data.sources import OnBadRow, Row, Source, raise_error

TINY_GPT2 = {"like": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 32}
TINY_BERT = {
    "like": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def write_corpus(path: Path, documents: int = 60, seed: int = 0) -> Path:
    """A jsonl file of made-up sentences with some structure to learn."""
    draw = random.Random(seed)
    names, verbs, things = (
        ["Ann", "Bob", "Cid", "Dee", "Eve", "Fay"],
        ["sees", "likes", "finds", "sells"],
        ["apples", "boats", "cats", "doors"],
    )
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            sentences = [
                f"{draw.choice(names)} {draw.choice(verbs)} {draw.choice(things)}." for _ in range(draw.randint(4, 16))
            ]
            file.write(json.dumps({"text": f"Story {number}. " + " ".join(sentences)}) + "\n")
    return path


def tiny_recipe(corpus: Path, *, objective: str = "causal", steps: int = 12, **train: Any) -> dict[str, Any]:
    """A recipe that trains a tiny model for a few steps over several epochs of a small corpus."""
    return {
        "title": "tiny",
        "seed": 7,
        "stages": [
            {
                "name": "first",
                "init": TINY_GPT2 if objective == "causal" else TINY_BERT,
                "tokenizer": {"train": 300},
                "data": {
                    "source": {"type": "files", "path": str(corpus)},
                    "length": 16,
                    "split": {"validation": 0.2},
                },
                "objective": objective,
                "train": {
                    "batch_size": 4,
                    "save_every": 3,
                    "save_in_background": False,  # so that a kill finds the states that it should find
                    "log_every": 1,
                    "trackers": [],
                    "device": "cpu",
                    "precision": "fp32",
                }
                | train,
                "budget": {"steps": steps},
                "evaluate": {
                    "every": 0.5,
                    "evaluators": [{"type": "held-out", "tokens": 256, "batch_size": 8}],
                },
            }
        ],
    }


class GivenRows(Source):
    """Rows with any columns, given in the recipe itself. Without a `type` of its own no recipe finds it by name."""

    given: list[dict[str, Any]]

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for number, row in enumerate(self.given):
            yield {"source": self.label or "given", "id": str(number), **row}

    def fingerprint(self) -> str:
        return digest(self.given)


def save_tiny_model(folder: Path, positions: int = 32) -> Path:
    """A model folder: a causal model with random weights and a tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from warmstart.models.tokenizer import train_tokenizer

    texts = ["one two three four five six", "Ann sees boats. Bob likes cats."] * 20
    tokenizer = train_tokenizer(texts, 300, "causal")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=positions, n_embd=16, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
