"""Devices and number formats. `auto` means: what this hardware computes natively."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch

from warmstart.errors import UserError

Precision = Literal["fp32", "bf16"]


def resolve_device(device: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device: 'cuda' was asked for, but PyTorch sees no CUDA device; use 'auto' or 'cpu'")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """The number format of `auto`, `fp32` or `bf16`.

    On a CPU without bf16 instructions (AVX512_BF16 or AMX) bf16 is emulated and was measured 5 to 60 times slower than
    fp32, so that `auto` must look.
    """
    if precision == "auto":
        return "bf16" if _native_bf16(device) else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def autocast(device: str, precision: str) -> Any:
    """The context in which forward passes run; nothing at all for fp32."""
    if precision == "bf16":
        return torch.autocast(device, dtype=torch.bfloat16)
    return contextlib.nullcontext()
