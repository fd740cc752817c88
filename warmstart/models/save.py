"""Save a model and its tokenizer as an ordinary Hugging Face folder, whole or not at all; name weights by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.disk import whole_folder


def save_model(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    card: str | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Writes config, safetensors, tokenizer and model card; replaces what was in `folder` in one rename.

    Args:
        files: further text files, by their path in the folder.

    Raises:
        UserError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        if card is not None:
            (draft / "README.md").write_text(card, encoding="utf-8")
        for name, text in (files or {}).items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(text, encoding="utf-8")


def weights_hash(model: nn.Module) -> str:
    """sha256 over every weight's name, dtype, shape and bytes: two models with one hash are the same weights."""
    return digest_of(model.state_dict())


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
