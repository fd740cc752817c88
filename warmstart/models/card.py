"""The model card that is saved beside every model."""

from __future__ import annotations

import re
from typing import Any

import yaml

from warmstart.visible import plain


def model_card(*, title: str, stage: str, facts: dict[str, Any], recipe: str, library: str = "transformers") -> str:
    """A README.md with Hugging Face metadata, what made these weights, and the recipe that makes them again.

    Args:
        facts: plain values for the table (parameters, tokens, FLOPs, final metrics, weights' hash, ...).
        recipe: the resolved recipe as YAML text.
    """
    metadata = yaml.safe_dump({"library_name": library, "tags": ["warmstart"]}, sort_keys=False)
    rows = "\n".join(f"| {name} | {_value(value)} |" for name, value in facts.items())
    fence = "`" * max(
        3, 1 + max((len(run) for run in re.findall(r"`+", recipe)), default=0)
    )  # a recipe may hold a fence
    return (
        f"---\n{metadata}---\n\n# {plain(title)}: {plain(stage)}\n\n"
        f"Trained with warmstart.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"## The recipe\n\n{fence}yaml\n{recipe.rstrip()}\n{fence}\n"
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return plain(str(value))
