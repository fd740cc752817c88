"""How much a header tells a model about its document: the loss of the same tokens after their own header, after none,
and after another document's.

A difference of two sets' losses would be nearly the same, but not on the same tokens: a header moves the places where
blocks end. Here each document is read three times, cut to what fits with any of the three, and only its own tokens
count. A model that ignores headers has gaps of 0; one that uses them, a positive gap after its own and a negative one
after a wrong header (Gao et al. 2025, arXiv 2501.01956, has the idea; the measure is ours).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import DataError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.headed_documents import Headed, body_nats, evenly, headed_documents, held_out_set
from warmstart.randomness import numpy_generator


class ConditionalGap(Evaluator):
    """`<set>/bare_loss`, `<set>/own_loss`, `<set>/wrong_loss` (nats per document token after no header, its own, and a
    wrong one), `<set>/gap` (bare - own) and `<set>/wrong_gap` (bare - wrong)."""

    type: Literal["conditional-gap"] = "conditional-gap"
    held_out: str = Field("validation", description="The held-out set with headers: validation, or another.")
    documents: Annotated[int, Field(gt=0)] = Field(256, description="Read at most so many documents, evenly spaced.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        found = headed_documents(subject, self.held_out)
        length = held_out_set(subject, self.held_out).validation[0].length
        documents = evenly(found, self.documents)
        generator = numpy_generator(subject.seed, "conditional-gap", self.held_out)
        wrong = other_headers([document.header for document in documents], generator)
        documents = [cut(document, other, length) for document, other in zip(documents, wrong, strict=True)]
        tokens = sum(len(document.body) for document in documents)
        own = [document.header for document in documents]
        losses = {
            name: float(body_nats(subject.model, documents, headers, subject.precision).sum()) / tokens
            for name, headers in {"bare": [()] * len(own), "own": own, "wrong": wrong}.items()
        }
        return {f"{self.held_out}/{name}_loss": loss for name, loss in losses.items()} | {
            f"{self.held_out}/gap": losses["bare"] - losses["own"],
            f"{self.held_out}/wrong_gap": losses["bare"] - losses["wrong"],
        }


def cut(document: Headed, other: tuple[int, ...], length: int) -> Headed:
    """The document without what would not fit into `length` tokens after the longer of two headers."""
    room = length - 1 - max(len(document.header), len(other))
    return replace(document, body=document.body[: max(room, 0)])


def other_headers(headers: list[tuple[int, ...]], generator: np.random.Generator) -> list[tuple[int, ...]]:
    """For each document the header of another one that has a different header.

    Raises:
        DataError: all headers are the same.
    """
    if len(set(headers)) < 2:
        raise DataError("all documents have the same header: there is no wrong one to compare with")
    result = []
    for own in headers:
        other = own
        while other == own:
            other = headers[int(generator.integers(len(headers)))]
        result.append(other)
    return result
