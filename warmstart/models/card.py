"""The model card that is saved beside every model."""

from __future__ import annotations

from typing import Any

import yaml


def model_card(*, title: str, stage: str, facts: dict[str, Any], recipe: str, library: str = "transformers") -> str:
    """A README.md with Hugging Face metadata, what made these weights, and the recipe that makes them again.

    Args:
        facts: plain values for the table (parameters, tokens, FLOPs, final metrics, weights' hash, ...).
        recipe: the resolved recipe as YAML text.
    """
    metadata = yaml.safe_dump({"library_name": library, "tags": ["warmstart"]}, sort_keys=False)
    rows = "\n".join(f"| {name} | {_value(value)} |" for name, value in facts.items())
    return (
        f"---\n{metadata}---\n\n# {title}: {stage}\n\nTrained with warmstart.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"## The recipe\n\n```yaml\n{recipe.rstrip()}\n```\n"
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
