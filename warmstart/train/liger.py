"""liger-kernel's Triton kernels for the element-wise parts of a model, on CUDA.

Norms, rotary positions and gated activations become one kernel each. What they compute is what the model's definition
says but for rounding, so that FLOPs (matrix products) and weights' names stay what they are. Its fused cross entropy is
left off: `warmstart/objectives/chunked_cross_entropy.py` does that for every model, and hands out each row's loss.

Beware: liger-kernel replaces some functions of `transformers` for the whole process (rotary positions among them), so
that another model of the same type in this process computes with them too, and must be on CUDA.

Not run: the project has had no CUDA device for it yet. The tests check what is handed to it, and the errors.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from warmstart.errors import ModelError, UserError

OURS = {"cross_entropy": False, "fused_linear_cross_entropy": False}


def use_liger(model: PreTrainedModel, device: torch.device) -> None:
    """Puts the kernels into a model, in place.

    Raises:
        UserError: the device is no CUDA device, or liger-kernel is not installed.
        ModelError: liger-kernel has nothing for this type of model.
    """
    if device.type != "cuda":
        raise UserError(
            f"train.liger: its kernels run on CUDA only, and this stage trains on '{device.type}'; use false"
        )
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    except ImportError as error:
        raise UserError("train.liger: liger-kernel is missing; pip install 'warmstart[gpu]', or use false") from error
    kind = model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        known = ", ".join(sorted(MODEL_TYPE_TO_APPLY_LIGER_FN))
        raise ModelError(f"train.liger: liger-kernel has no kernels for a {kind} model; it has for: {known}")
    _apply_liger_kernel_to_instance(model=model, **OURS)
