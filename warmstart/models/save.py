"""Save a model and its tokenizer as an ordinary Hugging Face folder, whole or not at all; and name weights by hash."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import UserError


def save_model(model: PreTrainedModel, tokenizer: Any, folder: Path, card: str | None = None) -> None:
    """Writes config, safetensors, tokenizer and model card; replaces what was in `folder` in one rename.

    Raises:
        UserError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        if card is not None:
            (draft / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise."""
    draft = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        for path in sorted(draft.rglob("*")):
            if path.is_file():
                _sync(path)
        _sync(draft)
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        _sync(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise UserError(f"cannot write {folder}: {os.strerror(error.errno)}; nothing was changed") from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
        draft.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise UserError(f"cannot write {path}: {os.strerror(error.errno)}; nothing was changed") from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def weights_hash(model: nn.Module) -> str:
    """sha256 over every weight's name, dtype, shape and bytes: two models with one hash are the same weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(
            value.view(torch.uint8).numpy().tobytes() if value.dim() else value.reshape(1).view(torch.uint8).numpy()
        )
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
