"""Held-out documents after a header, and their likelihood after another header or none: what the evaluators of
metadata conditioning share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from warmstart.data.prepare import Prepared
from warmstart.errors import DataError, ModelError, nearest
from warmstart.evaluate import Subject
from warmstart.models.evaluating import evaluating


@dataclass(frozen=True)
class Headed:
    """A document (or as much of it as fits into a block) and its header.

    Attributes:
        mark: the begin mark's id.
        header: ids of the header, without the mark.
        body: ids of the document, its end mark included unless it was cut off.
        source: number of its source.
    """

    mark: int
    header: tuple[int, ...]
    body: np.ndarray
    source: int


def held_out_set(subject: Subject, name: str) -> Prepared:
    """A held-out set by name: `validation`, or one of `evaluate.also`.

    Raises:
        DataError: there is no such set.
    """
    sets: dict[str, Prepared] = {"validation": subject.data, **subject.also}
    if name not in sets:
        raise DataError(f"there is no held-out set '{name}'{nearest(name, sets)}; sets: {', '.join(sets)}")
    return sets[name]


def headed_documents(subject: Subject, name: str) -> list[Headed]:
    """The documents of a held-out set that stand after a header, in order.

    Args:
        name: `validation`, or a set of `evaluate.also`.

    Raises:
        DataError: there is no such set, or none of its documents has a header after a begin mark.
        ModelError: the model is no causal one.
    """
    if subject.objective.head != "causal":
        raise ModelError("headers are for causal models; under others a document has no probability")
    blocks_of_sources = held_out_set(subject, name).validation
    marks = {subject.tokenizer.bos_token_id, subject.tokenizer.cls_token_id} - {None}
    found = [
        document
        for source, blocks in enumerate(blocks_of_sources)
        for number in range(len(blocks))
        for document in _in_block(blocks[number], marks, source)
    ]
    if not found:
        raise DataError(
            f"the held-out set '{name}' has no document after a header; give it "
            "rewrite: [metadata-prefix] and begin_of_text: true"
        )
    return found


def _in_block(row: dict[str, np.ndarray], marks: set[int], source: int) -> Iterator[Headed]:
    if "context" not in row:
        return
    for document in range(int(row["documents"].max(initial=-1)) + 1):
        here = row["documents"] == document
        ids, front = row["tokens"][here], int(row["context"][here].sum())
        # A piece that begins within a header (after a cut) has no begin mark; one that ends within it has no body.
        if front > 1 and int(ids[0]) in marks and front < len(ids):
            yield Headed(int(ids[0]), tuple(ids[1:front].tolist()), ids[front:], source)


def evenly(items: list[Any], count: int) -> list[Any]:
    """`count` of the items (all where there are fewer), evenly spaced."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def body_nats(
    model: nn.Module, documents: Sequence[Headed], headers: Sequence[tuple[int, ...]], precision: str, batch: int = 16
) -> np.ndarray:
    """-log p(body | mark, header) of each document, nats: float64 `(documents,)`."""
    order = sorted(range(len(documents)), key=lambda n: len(headers[n]) + len(documents[n].body))
    device = next(model.parameters()).device
    nats = np.zeros(len(documents))
    with evaluating(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            rows = [np.array([documents[n].mark, *headers[n], *documents[n].body]) for n in some]
            longest = max(map(len, rows))
            # Filled up at the right: no token of a causal model sees what comes after it, so no mask is needed.
            ids = torch.tensor(np.stack([np.pad(row, (0, longest - len(row))) for row in rows]), device=device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            chances = (logits.gather(2, ids[:, 1:, None])[:, :, 0] - logits.logsumexp(dim=-1)).double().cpu()
            for place, n in enumerate(some):
                first = len(headers[n])
                nats[n] = -float(chances[place, first : first + len(documents[n].body)].sum())
    return nats
