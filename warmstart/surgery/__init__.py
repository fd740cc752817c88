"""Surgery: weights -> weights, before training. Growing, and later merging, pruning, upcycling, new vocabularies."""

from __future__ import annotations

from typing import Literal

from transformers import PretrainedConfig, PreTrainedModel

from warmstart.part import Part

Promise = Literal["exactly", "approximately", "nothing"]


class Surgery(Part, room="surgery"):
    """The contract of a surgery: a model in, a new model out, on the CPU; the old model is not changed."""

    def preserves(self, config: PretrainedConfig) -> tuple[Promise, str]:
        """What the surgery promises about the model's function, and a sentence that says why.

        Raises:
            ModelError: this model cannot be operated on in this way (no axes table, a shrinking target, ...).
        """
        raise NotImplementedError

    def apply(self, model: PreTrainedModel, *, seed: int = 0) -> PreTrainedModel:
        """The new model. All randomness comes from `seed`.

        Raises:
            ModelError: as `preserves`.
        """
        raise NotImplementedError
