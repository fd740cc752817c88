"""What the objectives of embedding models share: texts of a row as tensors, pooling, scores, and the ranking loss.

A row has a query and documents: one that belongs to it (`positive`) and, where there are some, ones that do not
(`negatives`). Every document of a batch is a candidate for every query (multiple-negatives ranking), so that a batch of
B rows with one document each teaches B x B comparisons for the price of 2 B texts, those of other processes included.

Sources: M. Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017, section 4 (the
loss); sentence-transformers' MultipleNegativesRankingLoss (cosine times 20); Tevatron (dot products, group size).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from warmstart.errors import DataError, ModelError, nearest
from warmstart.models.layers import layer_states, width_of
from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.blocks import first_position
from warmstart.objectives.in_batch import gathered

Pooling = Literal["cls", "mean", "last"]
Normalise = Literal["no", "whole", "cut"]


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector for each text, float32 `(texts, hidden size)`.

    Args:
        states: hidden states, `(texts, length, hidden size)`.
        mask: which tokens are real, bool `(texts, length)`; padding stands at the end.
        pooling: `cls`, the first token's; `mean`, over the real tokens; `last`, the last real token's.

    Raises:
        ValueError: there is no such pooling.
    """
    states = states.float()
    if pooling == "cls":
        return states[:, 0]
    if pooling == "mean":
        real = mask.to(states.dtype)[..., None]
        return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    if pooling == "last":
        last = mask.sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    raise ValueError(f"unknown pooling '{pooling}'; one of: cls, mean, last")


def cut(vectors: torch.Tensor, width: int, normalise: str = "no") -> torch.Tensor:
    """The first `width` dimensions of vectors `(..., hidden size)`.

    Args:
        normalise: to length 1: `whole`, before cutting; `cut`, after it (scores are then cosines); or `no`.
    """
    if normalise == "whole":
        vectors = functional.normalize(vectors, dim=-1)
    vectors = vectors[..., :width]
    return functional.normalize(vectors, dim=-1) if normalise == "cut" else vectors


def pair_scores(texts: torch.Tensor, width: int, normalise: str = "no") -> torch.Tensor:
    """The score of every document for every query, `(rows, rows * documents)`; row i's own is in column i * documents.

    Args:
        texts: vectors of each row's query and documents, the one that belongs to it first: `(rows, 1 + documents,
            hidden size)`.
    """
    with torch.autocast(texts.device.type, enabled=False):  # half precision would round near scores together
        vectors = cut(texts.float(), width, normalise)
        return vectors[:, 0] @ vectors[:, 1:].flatten(0, 1).T


def ranking_loss(scores: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """-log softmax of the own document's score among all candidates, nats, `(rows,)`.

    Args:
        scores: as of `pair_scores`.
    """
    return functional.cross_entropy(scores / temperature, own_documents(scores), reduction="none")


def own_documents(scores: torch.Tensor) -> torch.Tensor:
    """In which column each row's own document is, `(rows,)`."""
    rows, columns = scores.shape
    return torch.arange(rows, device=scores.device) * (columns // rows)


class EmbeddingObjective(Objective):
    """What objectives on rows of texts are set by."""

    head: ClassVar[Head] = "embedding"
    packings: ClassVar[tuple[str, ...]] = ("rows",)
    compares_rows: ClassVar[bool] = True
    query: str = Field("text", description="The column with a row's query.")
    positive: str = Field("positive", description="The column with the document that belongs to it.")
    negative: str = Field("negative", description="The column with a list of documents that do not.")
    negatives: Annotated[int, Field(ge=0)] = Field(0, description="How many of those a row brings into a step.")
    length: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        128, description="Tokens of a text that are read; batches are padded to their longest text, in steps of 8."
    )
    pooling: Pooling = Field("mean", description="How a text's hidden states become one vector.")
    normalise: Normalise = Field(
        "cut", description="Vectors of length 1: `whole` before, `cut` after the first dimensions are taken; or `no`."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(0.05, description="What scores are divided by.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> nn.Module | None:
        """Nothing; but a model that cannot read such long texts is found before the first step."""
        inner: Any = getattr(model, "module", model)
        limit = getattr(inner.config, "max_position_embeddings", None)
        if isinstance(limit, int) and self.length > limit - first_position(inner):
            raise ModelError(
                f"objective {self.name}: length {self.length} is more than the model's "
                f"{limit - first_position(inner)} positions; lower it"
            )
        return None

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids`, int64, and `attention_mask`, bool: `(rows, 2 + negatives, length)`; the query, the document that
        belongs to it, and others drawn from the row's list.

        Raises:
            DataError: a row lacks a text.
        """
        texts = [text for row in rows for text in self._texts(row, generator)]
        return {
            name: tensor.view(len(rows), 2 + self.negatives, -1)
            for name, tensor in encoded(tokenizer, texts, self.length).items()
        }

    def vectors(self, model: nn.Module, batch: Batch, layers: Sequence[int]) -> list[torch.Tensor]:
        """The pooled states of the step's texts after each of some layers: float32 `(rows, texts, hidden size)`, the
        rows of all processes."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        flat = mask.flatten(0, 1)
        states = layer_states(model, layers, input_ids=ids.flatten(0, 1), attention_mask=flat)
        return [gathered(pooled(one, flat, self.pooling).unflatten(0, ids.shape[:2])) for one in states]

    def files(self, model: nn.Module) -> dict[str, str]:
        """What sentence-transformers reads to pool and normalise as in training."""
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        modules += [] if self.normalise == "no" else [("2_Normalize", "Normalize")]
        chain = [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(modules)
        ]
        modes = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
        pooling = {"word_embedding_dimension": width_of(model)}
        pooling |= {f"pooling_mode_{mode}": name == self.pooling for name, mode in modes.items()}
        similarity = "dot" if self.normalise == "no" else "cosine"
        return {
            "modules.json": _json(chain),
            "sentence_bert_config.json": _json({"max_seq_length": self.length}),
            "config_sentence_transformers.json": _json({"similarity_fn_name": similarity}),
            "1_Pooling/config.json": _json(pooling),
        } | ({"2_Normalize/config.json": _json({})} if self.normalise != "no" else {})

    def _texts(self, row: Row, generator: np.random.Generator) -> list[str]:
        texts = [self._of(row, self.query, str), self._of(row, self.positive, str)]
        if self.negatives:
            others = self._of(row, self.negative, list)
            drawn = generator.choice(len(others), self.negatives, replace=len(others) < self.negatives)
            texts += [str(others[number]) for number in drawn]
        return texts

    def _of(self, row: Row, column: str, kind: type) -> Any:
        value = row.get(column)
        if isinstance(value, kind) and value:
            return value
        where = f"objective {self.name}, row {row.get('id', '?')}"
        if value is None:
            raise DataError(f"{where}: no column '{column}'{nearest(column, row)}; columns: {', '.join(row)}")
        wanted = "a text" if kind is str else "a list of texts that is not empty"
        raise DataError(f"{where}: column '{column}' must hold {wanted}, found {type(value).__name__}")


def encoded(tokenizer: Any, texts: Sequence[str], length: int) -> Batch:
    """Texts as `input_ids`, int64, and `attention_mask`, bool: `(texts, length)`, padded at the end to a multiple of
    8."""
    found = tokenizer(
        list(texts),
        truncation=True,
        max_length=length,
        padding=True,
        pad_to_multiple_of=8,
        padding_side="right",
        return_tensors="pt",
    )
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"].bool()}


def right_of(scores: torch.Tensor) -> torch.Tensor:
    """How many queries' own documents have the highest score of all."""
    return (scores.detach().argmax(dim=1) == own_documents(scores)).sum()


def loss_of_rows(each: torch.Tensor, scores: torch.Tensor, parts: dict[str, torch.Tensor] | None = None) -> Loss:
    """The mean of each row's loss `(rows,)` as a `Loss`; `scores` are those by which rows count as right."""
    return Loss(
        total=each.mean(),
        targets=torch.tensor(len(each), device=each.device),
        parts={name: part.detach() for name, part in (parts or {}).items()},
        per_row=each.detach(),
        right=right_of(scores),
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
