"""Which of several continuations is the true one? A multiple-choice task that any held-out text gives.

The model reads a piece of a held-out document and must give its own continuation a higher probability than
continuations taken from other documents. Unlike the loss it asks for a decision, as few-shot tasks do; that is where
the stability gap of continued pre-training shows (arXiv 2406.14833, section 3). All candidates have the same number of
tokens, so that sums of log-probabilities compare without a correction. Items are drawn from the run's seed and the
set's name: the same at every evaluation and for every arm of a study.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Evaluator, Subject
from warmstart.randomness import numpy_generator

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared


class Cloze(Evaluator):
    """`<set>/cloze`: the share of items whose true continuation is the most likely one, for each held-out set."""

    type: Literal["cloze"] = "cloze"
    items: Annotated[int, Field(gt=0)] = Field(200, description="Questions per set; fewer where the set is small.")
    choices: Annotated[int, Field(ge=2)] = Field(4, description="Continuations per question; chance is 1 / choices.")
    context: Annotated[int, Field(gt=0)] = Field(32, description="Tokens that the model reads.")
    continuation: Annotated[int, Field(gt=0)] = Field(16, description="Tokens of a continuation.")
    sets: list[str] | None = Field(None, description="Only these of validation and evaluate.also; default: all.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        if subject.objective.head != "causal":
            raise ModelError("evaluator cloze: needs a causal model; continuations have no probability under others")
        sets = {"validation": subject.data, **subject.also}
        for name in self.sets or []:
            if name not in sets:
                raise DataError(f"evaluator cloze: there is no held-out set '{name}'; sets: {', '.join(sets)}")
        return {f"{name}/cloze": self._of_set(subject, name, sets[name]) for name in self.sets or sets}

    def _of_set(self, subject: Subject, name: str, data: Prepared) -> float:
        spans, owners = spans_of(data, self.context + self.continuation)
        generator = numpy_generator(subject.seed, "cloze", name)
        questions = draw_questions(owners, self.items, self.choices, generator)
        if not len(questions):
            raise DataError(
                f"evaluator cloze: the set '{name}' has not {self.choices} documents with "
                f"{self.context + self.continuation} tokens in one block; lower context, continuation or choices"
            )
        candidates = spans[questions]  # (items, choices, context + continuation)
        candidates[:, :, : self.context] = candidates[:, :1, : self.context]
        scores = continuation_scores(subject.model, torch.from_numpy(candidates), self.context, subject.precision)
        return float((scores.argmax(dim=1) == 0).float().mean())


def spans_of(data: Prepared, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `length` tokens of every piece of a document in the held-out blocks that is so long.

    Returns:
        Tokens `(spans, length)` int64, and for each span a number of its own document `(spans,)`.
    """
    spans, owners, documents = [], [], 0
    for blocks in data.validation:
        for number in range(len(blocks)):
            row = blocks[number]
            for document in range(int(row["documents"].max(initial=-1)) + 1):
                tokens = row["tokens"][row["documents"] == document]
                if len(tokens) >= length:
                    spans.append(tokens[:length])
                    owners.append(documents + document)
            documents += int(row["documents"].max(initial=-1)) + 1
    return np.array(spans, dtype=np.int64).reshape(-1, length), np.array(owners, dtype=np.int64)


def draw_questions(owners: np.ndarray, items: int, choices: int, generator: np.random.Generator) -> np.ndarray:
    """Which spans make up each question: `(items, choices)`, the true one first, all of different documents."""
    if len(np.unique(owners)) < choices:
        return np.empty((0, choices), dtype=np.int64)
    true = generator.permutation(len(owners))[:items]
    questions = np.empty((len(true), choices), dtype=np.int64)
    for number, span in enumerate(true):
        picked = [int(span)]
        while len(picked) < choices:
            other = int(generator.integers(len(owners)))
            if owners[other] not in owners[picked]:
                picked.append(other)
        questions[number] = picked
    return questions


def continuation_scores(
    model: nn.Module, candidates: torch.Tensor, context: int, precision: str = "fp32", batch: int = 64
) -> torch.Tensor:
    """Log-probability of each candidate's tokens after the first `context`, summed: `(items, choices)`, nats.

    Args:
        candidates: `(items, choices, tokens)` int64.
    """
    items, choices, length = candidates.shape
    flat = candidates.flatten(0, 1)
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    sums = []
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for start in range(0, len(flat), batch):
                ids = flat[start : start + batch].to(device)
                logits = model(input_ids=ids, use_cache=False).logits[:, context - 1 : length - 1].float()
                chances = torch.log_softmax(logits, dim=-1).gather(2, ids[:, context:, None])
                sums.append(chances.sum(dim=(1, 2)).cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.cat(sums).view(items, choices)
