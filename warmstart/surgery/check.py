"""Surgery checks itself: the old and the new model side by side on the same tokens.

What is compared are the logits (of a model without a head: the old entries of its last hidden state), in evaluation
mode. A promise to keep the function *exactly* allows the largest difference to be 1e-4 of the logits' spread in
fp32. Sums in another order move logits by about 1e-6 of it, a few times that in deep models; the smallest real
mistake that we know (uneven copies of one residual entry) moves them by more than 1e-2. Weights stored in half
precision are rounded once more by surgery, so for them the limit is eight units in the last place of their type.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedModel

from warmstart.errors import ModelError
from warmstart.models.axes import table_for
from warmstart.randomness import torch_generator
from warmstart.surgery import Promise

LONGEST = 256
"""Tokens per row of a check."""


@dataclass(frozen=True)
class Difference:
    """How far apart the logits of two models are.

    Attributes:
        largest: largest absolute difference.
        mean: mean absolute difference.
        promised: what the surgery promised.
        spread: the largest distance of an old logit from the mean logit, the scale to judge `largest` by.
    """

    largest: float
    mean: float
    promised: Promise
    spread: float


def compare(
    old: PreTrainedModel,
    new: PreTrainedModel,
    tokens: Any = None,
    *,
    promise: Promise = "nothing",
    seed: int = 0,
) -> Difference:
    """Both models on the same inputs.

    Args:
        tokens: token ids `(tokens,)` or `(rows, tokens)`, or pixel values `(rows, channels, height, width)` for an
            image model; drawn from `seed` where none are given.
        promise: what the surgery promised.

    Raises:
        ModelError: the promise was `exactly` and is broken, or a token id is outside the vocabulary.
    """
    inputs = check_inputs(old.config, tokens, seed)
    return judge(zip(outputs(old, inputs), outputs(new, inputs), strict=True), promise, old.dtype)


def judge(pairs: Iterator[tuple[torch.Tensor, torch.Tensor]], promise: Promise, stored: torch.dtype) -> Difference:
    """The difference of pairs of outputs, old and new, row by row.

    Args:
        stored: the dtype of the weights in their file, which bounds how exact surgery can be.

    Raises:
        ModelError: the promise was `exactly` and is broken.
    """
    largest = total = spread = 0.0
    count = 0
    for old, new in pairs:
        gap = (new[..., : old.shape[-1]].double() - old.double()).abs()
        largest = max(largest, float(gap.max())) if bool(torch.isfinite(gap).all()) else float("inf")
        total += float(gap.sum())
        count += gap.numel()
        spread = max(spread, float((old.double() - old.double().mean()).abs().max()))
    allowed = max(1e-4, 8 * torch.finfo(stored).eps) * (spread + 1e-6)
    if promise == "exactly" and not largest <= allowed:
        raise ModelError(
            f"surgery promised to keep the function exactly, but a logit differs by {largest:.3g} "
            f"(allowed: {allowed:.3g}); the new model is not kept"
        )
    return Difference(largest, total / max(count, 1), promise, spread)


def check_inputs(config: PretrainedConfig, tokens: Any, seed: int) -> list[dict[str, torch.Tensor]]:
    """Model inputs, one row each (some heads take single rows only where no padding token is set)."""
    generator = torch_generator(seed, "check")
    table = table_for(config)
    if table.fields.vocab is None:
        size = config.image_size if isinstance(config.image_size, (list, tuple)) else [config.image_size] * 2
        images = torch.as_tensor(tokens) if tokens is not None else None
        if images is None:
            images = torch.randn(2, config.num_channels, *size, generator=generator)
        return [{"pixel_values": image[None]} for image in images]
    vocabulary = int(getattr(config, table.fields.vocab))
    limit = min(LONGEST, int(getattr(config, table.fields.positions or "", LONGEST)))
    if table.positions_after_padding:
        limit = min(limit, int(getattr(config, table.fields.positions or "")) - 1 - int(config.pad_token_id))
    if tokens is None:
        rows = torch.randint(vocabulary, (2, min(limit, 64)), generator=generator)
    else:
        rows = torch.as_tensor(tokens).long()
        rows = rows[None] if rows.dim() == 1 else rows
    if int(rows.max()) >= vocabulary or int(rows.min()) < 0:
        raise ModelError(f"token id {int(rows.max())} is outside the model's vocabulary of {vocabulary}")
    return [{"input_ids": row[None, :limit]} for row in rows]


def outputs(model: PreTrainedModel, inputs: list[dict[str, torch.Tensor]]) -> Iterator[torch.Tensor]:
    """The logits (or the last hidden state) of each row, in evaluation mode and without gradients."""
    training = model.training
    model.eval()
    try:
        for row in inputs:
            given = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in row.items()}
            with torch.no_grad():
                result = model(**{k: v.to(model.device) for k, v in given.items()})
            found = (getattr(result, name, None) for name in ("logits", "prediction_logits", "last_hidden_state"))
            yield next(value for value in found if value is not None)
    finally:
        model.train(training)


def real_tokens(folder: Path, count: int = 128) -> torch.Tensor | None:
    """Token ids `(tokens,)` of a text of the standard library; None where the folder has no tokenizer."""
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
    ):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        found = tokenizer(inspect.getsource(textwrap)[:8000])["input_ids"][:count]
    except Exception:  # a tokenizer that cannot be loaded is not what is being checked
        return None
    return torch.tensor(found) if found else None
