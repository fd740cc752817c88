"""Held-out documents as prompts and answers: what evaluators of instruction-like data share.

A prompt is what stands before a document's text and is never a target (`rewrite: [{type: template, context: ...}]`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.headed_documents import evenly, held_out_set


@dataclass(frozen=True)
class Prompted:
    """A prompt and its answer (or as much of it as fits into a block), as token ids; an end mark is the answer's."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def prompted_documents(subject: Subject, name: str, count: int) -> list[Prompted]:
    """At most `count` documents of a held-out set that have a prompt, evenly spaced.

    Args:
        name: `validation`, or a set of `evaluate.also`.

    Raises:
        DataError: there is no such set, or none of its documents has a prompt and an answer in one block.
        ModelError: the model is no causal one.
    """
    if subject.objective.head != "causal":
        raise ModelError("answers are written by causal models; this one has another objective")
    found = []
    for blocks in held_out_set(subject, name).validation:
        for number in range(len(blocks)):
            row = blocks[number]
            for document in range(int(row["documents"].max(initial=-1)) + 1 if "context" in row else 0):
                here = row["documents"] == document
                ids, front = row["tokens"][here].tolist(), int(row["context"][here].sum())
                # A prompt stands at a document's beginning: a piece that goes on with one has none.
                if 0 < front < len(ids) and bool(row["context"][here][:front].all()):
                    found.append(Prompted(tuple(ids[:front]), tuple(ids[front:])))
    if not found:
        raise DataError(
            f"the held-out set '{name}' has no document with a prompt: give its data a rewrite with a `context` "
            "(e.g. {type: template, context: 'Q: {title} A:'})"
        )
    return evenly(found, count)


def left_padded(prompts: list[tuple[int, ...]], filling: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 `(prompts, tokens)`, shorter ones filled up at the left."""
    longest = max(map(len, prompts))
    ids = [[filling] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
