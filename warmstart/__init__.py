"""warmstart: train models from what already exists, and measure what it saves at equal compute.

    import warmstart

    warmstart.grow("small-model", "large-model", to={"hidden_size": 512}, width="aki")
    warmstart.run(warmstart.Recipe(stages=[...]), "runs/mine")
    warmstart.study(warmstart.read_study("bert2bert", scale="demo"), slug="bert2bert", scale="demo", out="runs/demo")

This module is the public surface; it is loaded piece by piece, so that `import warmstart` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from warmstart.errors import UserError as UserError
    from warmstart.part import Part as Part
    from warmstart.recipe import Recipe as Recipe
    from warmstart.recipe_file import read_recipe as read_recipe
    from warmstart.recipe_file import read_study as read_study
    from warmstart.recipe_stage import Stage as Stage
    from warmstart.recipe_study import Study as Study
    from warmstart.run_recipe import run as run
    from warmstart.run_study import study as study
    from warmstart.surgery.grow import grow as grow

_WHERE = {
    "UserError": "warmstart.errors",
    "Part": "warmstart.part",
    "Recipe": "warmstart.recipe",
    "Stage": "warmstart.recipe_stage",
    "Study": "warmstart.recipe_study",
    "read_recipe": "warmstart.recipe_file",
    "read_study": "warmstart.recipe_file",
    "run": "warmstart.run_recipe",
    "study": "warmstart.run_study",
    "grow": "warmstart.surgery.grow",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'warmstart' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
