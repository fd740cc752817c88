"""Activation checkpointing: keep of each block only what goes in, and compute the rest again in the backward pass.

The memory of a step's activations falls from all that the blocks make to one hidden state for each of them (and, for a
moment, all of one block). The price is a second forward pass of the blocks, about a third more compute for a large
model. It is compute that is spent, so that it is counted: PyTorch's FLOP counter sees the second pass, the budget pays
for it, and in a study at equal FLOPs an arm with checkpointing gets fewer steps. Give all arms the same.

Gradients are bit for bit those of ordinary training: dropout draws the same numbers the second time.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from warmstart.errors import ModelError


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Turns it on for all blocks of a model, in place, while it is in training mode.

    Raises:
        ModelError: the model's blocks cannot be computed again.
    """
    kind = f"train.activation_checkpointing: a {model.config.model_type} model ({type(model).__name__})"
    if not model.supports_gradient_checkpointing:
        raise ModelError(f"{kind} does not support it; set it to false")
    # Of transformers before its change of names the older method; both take PyTorch's settings first.
    enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except (ValueError, NotImplementedError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{kind} does not support it ({text[:200]}); set it to false") from error
    if hasattr(model, "disable_input_require_grads") and hasattr(model, "_require_grads_hooks"):
        model.disable_input_require_grads()  # else frozen embeddings would be charged a backward pass down to them
