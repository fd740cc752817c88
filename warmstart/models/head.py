"""A trained trunk under a new head: the copy of a model that a downstream task starts from."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from warmstart.errors import ModelError


def with_new_head(
    model: PreTrainedModel, classes: int, seed: int, *, auto: Any = AutoModelForSequenceClassification
) -> PreTrainedModel:
    """A copy of a model's trunk on its device, with a head for so many classes that is drawn from `seed`.

    The weights of the trunk are copied; what only the new model's trunk has (BERT's pooler) is drawn like the head. The
    given model is not changed, and the global random state is left alone.

    Args:
        auto: the `AutoModel...` class with the head.

    Raises:
        ModelError: `transformers` has no such head for this model, or finds nothing of the trunk in it.
    """
    config = copy.deepcopy(model.config)
    config.num_labels = classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = auto.from_config(config)
        except ValueError as error:
            raise ModelError(f"a {config.model_type} model has no head of {auto.__name__}") from error
    trunk = model.base_model.state_dict()
    report = made.base_model.load_state_dict(trunk, strict=False)
    if len(report.unexpected_keys) == len(trunk):
        raise ModelError(f"nothing of {type(model).__name__} fits into {type(made).__name__}")
    return made.to(model.device)
