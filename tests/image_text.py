"""Tiny image-text models, a tokenizer and pairs for tests."""

from __future__ import annotations

from functools import cache
from typing import Any

from warmstart.data.sources.shapes import Shapes
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Row

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TINY_CLIP = {
    "like": "clip",
    "projection_dim": 8,
    "text_config": TOWER | {"max_position_embeddings": 12},
    "vision_config": TOWER | {"image_size": 16, "patch_size": 8},
}
LIKE: dict[str, dict[str, Any]] = {
    "clip": {},
    "siglip": {"projection_dim": None, "text_config": {"projection_size": 16}},
    "vision-text-dual-encoder": {},
}


def pairs(count: int = 16, seed: int = 0) -> list[Row]:
    """Rows with a picture, a caption and their number; pictures lie in the test's cache."""
    rows = Shapes(size=count, pixels=16, seed=seed).rows()
    return [row | {"number": number} for number, row in enumerate(rows)]


@cache
def tokenizer() -> Any:
    return train_tokenizer(
        ["a small red circle in the middle", "a large green cross at the top left"] * 9, 300, "causal"
    )


def two_towers(like: str = "clip", seed: int = 0) -> Any:
    """A model with random weights in training mode."""
    settings = {name: value for name, value in TINY_CLIP.items() if name != "like"}
    for name, value in LIKE[like].items():
        settings[name] = settings[name] | value if isinstance(value, dict) else value
    settings = {name: value for name, value in settings.items() if value is not None}
    return new_model(configuration(like, settings, tokenizer()), "image-text", seed).train()


def pairs_recipe(size: int = 60, seed: int = 0, steps: int = 6, **train: Any) -> dict[str, Any]:
    """A recipe that trains a tiny model on shapes for a few steps."""
    return {
        "title": "tiny pairs",
        "seed": 7,
        "stages": [
            {
                "name": "first",
                "init": TINY_CLIP,
                "tokenizer": {"train": 300},
                "data": {
                    "source": {"type": "shapes", "size": size, "pixels": 16, "seed": seed},
                    "packing": "rows",
                    "split": {"validation": 0.2},
                },
                "objective": "clip",
                "train": {
                    "batch_size": 4,
                    "save_every": 3,
                    "log_every": 1,
                    "trackers": [],
                    "device": "cpu",
                    "precision": "fp32",
                }
                | train,
                "budget": {"steps": steps},
                "evaluate": {"every": 0.5, "evaluators": [{"type": "held-out", "tokens": 8, "batch_size": 4}]},
            }
        ],
    }
