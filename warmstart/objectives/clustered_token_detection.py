"""Clustered random token detection (C-RTS): substitutes are drawn from where the model has been fooled.

Every token belongs to a cluster of tokens that are used alike. A table counts, for each pair of clusters (that of the
original and that of the substitute), the model's wrong answers less its right ones, and substitutes are drawn from
clusters in proportion to exp(beta * count), where the counts of a row are scaled to 0..1. So the corruption stays hard
without a generator that has to be trained: the price is a table of K x K numbers and a clustering before the first step
(seconds, not counted in the FLOPs). Between two clusters the chances differ by no more than e^beta.

By default only the replaced tokens count. The paper's code counts all: then the diagonal of the table, where all tokens
that were left alone are, falls so deep that after scaling the other clusters are all alike, and nothing is learned of
them (`only_changed: false` does that). Its code also subtracts the rows' smallest counts along the columns, and loses
all but one of several updates of one pair; here rows are rows and updates add up.

Source: "Structural Self-Supervised Objectives for Transformers" (arXiv 2309.08272), part 1, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.distributed
from pydantic import Field
from torch import nn

from warmstart.data.arrays import given_array
from warmstart.errors import DataError, ModelError
from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.bidirectional import batch_of, choosable, draw_tokens, places_of, vocabulary_of
from warmstart.objectives.blocks import NO_TARGET, stacked
from warmstart.objectives.detection import REPLACED, detection_labels, detection_logits, detection_loss
from warmstart.objectives.token_clusters import cluster_tokens


def target_chances(table: torch.Tensor, beta: float) -> torch.Tensor:
    """The probability of each cluster of substitutes for each cluster of originals: float64 `(K, K)`, rows sum to 1.

    Args:
        table: `(K, K)` counts; each row is scaled to 0..1 (a row of equal counts to 0).
    """
    counts = table.double()
    low, high = counts.amin(dim=1, keepdim=True), counts.amax(dim=1, keepdim=True)
    return torch.softmax(beta * (counts - low) / (high - low).clamp(min=1), dim=1)


class ClusterSampler(nn.Module):
    """Clusters of tokens and the table of who fooled the model; all of it is saved with a run.

    Args:
        clusters: the cluster of each token, from 0 without gaps, `(vocabulary,)`; -1 for tokens that are never drawn.
    """

    def __init__(self, clusters: np.ndarray, beta: float) -> None:
        super().__init__()
        self.beta = beta
        sizes = np.bincount(clusters[clusters >= 0])
        members = np.argsort(clusters, kind="stable")[(clusters < 0).sum() :]
        self.cluster: torch.Tensor
        self.register_buffer("cluster", torch.from_numpy(clusters.astype(np.int64)))
        self.members: torch.Tensor
        self.register_buffer("members", torch.from_numpy(members.astype(np.int64)))  # the clusters one after another
        self.sizes: torch.Tensor
        self.register_buffer("sizes", torch.from_numpy(sizes.astype(np.int64)))
        self.table: torch.Tensor
        self.register_buffer("table", torch.ones(len(sizes), len(sizes), dtype=torch.int64))

    def substitutes(self, tokens: torch.Tensor, cluster_draws: torch.Tensor, token_draws: torch.Tensor) -> torch.Tensor:
        """A substitute for each token, int64 like `tokens`; numbers without meaning for tokens that are in no cluster.

        Args:
            cluster_draws, token_draws: numbers from [0, 1), evenly distributed, of the shape of `tokens`: the first
                chooses the cluster, the second a token of it.
        """
        count = len(self.sizes)
        own = self.cluster[tokens].clamp(min=0)
        # All rows' cumulative chances in one ascending line: row r goes from r to r + 1.
        line = target_chances(self.table, self.beta).cumsum(dim=1)
        line = line / line[:, -1:] + torch.arange(count, device=line.device)[:, None]
        target = torch.searchsorted(line.flatten(), own + cluster_draws.double(), right=True) - own * count
        first = self.sizes.cumsum(dim=0) - self.sizes
        return self.members[first[target] + (token_draws.double() * self.sizes[target]).long()]

    @torch.no_grad()
    def observe(self, original: torch.Tensor, seen: torch.Tensor, counted: torch.Tensor, wrong: torch.Tensor) -> None:
        """Adds 1 for every wrong answer of the model and takes 1 off for every right one, over all processes.

        Args:
            original, seen: the tokens before and after the corruption.
            counted: whether a place counts; `wrong`: whether the answer there was wrong; bool, of the tokens' shape.
        """
        pairs = (self.cluster[original].clamp(min=0), self.cluster[seen].clamp(min=0))
        change = torch.zeros_like(self.table)
        change.index_put_(pairs, torch.where(wrong, 1, -1) * counted, accumulate=True)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(change)
        self.table += change


class ClusteredTokenDetection(Objective):
    """Says of every token whether it is the original or one of a cluster that has fooled the model.

    Example:
        In one's own loop, with a token classifier of `transformers` (two labels) and rows of packed text::

            objective = ClusteredTokenDetection(clusters=8)
            sampler = objective.start(model, tokenizer, rows)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch, sampler)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["clustered-token-detection"] = "clustered-token-detection"
    head: ClassVar[Head] = "detection"
    layouts: ClassVar[tuple[str, ...]] = ("padded", "bucketed", "unpadded")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of the tokens that are replaced.")
    whole_word: bool = Field(False, description="Choose whole words instead of single tokens.")
    clusters: Annotated[int, Field(ge=2)] = Field(100, description="Clusters of tokens, learned from the data.")
    tokens: Annotated[int, Field(gt=0)] = Field(2_000_000, description="Tokens of the data they are learned from.")
    map: str | None = Field(
        None, description="A .npy file with the cluster of every token of the vocabulary, instead of learning them."
    )
    beta: Annotated[float, Field(ge=0)] = Field(2.0, description="0: all clusters alike; higher: more hard ones.")
    only_changed: bool = Field(True, description="Count the answers at replaced tokens only.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> ClusterSampler:
        """The clusters, with nothing counted yet.

        Raises:
            DataError: no tokenizer or rows to learn from, or a map that does not fit the tokenizer.
        """
        if tokenizer is None:
            raise DataError(f"objective {self.name}: its clusters need the tokenizer: start(model, tokenizer, rows)")
        ordinary = vocabulary_of(tokenizer).ordinary
        if self.map is None:
            seed = int(torch.randint(2**31, ()))
            try:
                found = cluster_tokens(rows, ordinary, self.clusters, tokens=self.tokens, seed=seed)
            except DataError as error:
                raise DataError(f"objective {self.name}: {error}") from error
        else:
            found = given_clusters(Path(self.map), ordinary)
        return ClusterSampler(found, self.beta).to(next(model.parameters()).device)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids` (the originals), `position_ids`, and `labels` as of `random-token-detection`: int64
        `(batch, length)`. `cluster_draws` and `token_draws`, float32, decide the substitutes that `loss` finds.
        """
        vocabulary = vocabulary_of(tokenizer)
        tokens = stacked(rows, "tokens")
        chosen = draw_tokens(rows, vocabulary, self.rate, generator, self.whole_word)
        return batch_of(
            rows,
            input_ids=tokens,
            labels=detection_labels(chosen, choosable(rows, vocabulary)),
            cluster_draws=generator.random(tokens.shape, dtype=np.float32),
            token_draws=generator.random(tokens.shape, dtype=np.float32),
        )

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean binary cross entropy over all ordinary tokens, nats. In training mode the answers are counted.

        Raises:
            ModelError: `extra` is not what `start` made.
        """
        if not isinstance(extra, ClusterSampler):
            raise ModelError(f"objective {self.name}: its loss needs what start(model, tokenizer, rows) returned")
        original, labels = batch["input_ids"], batch["labels"]
        drawn = extra.substitutes(original, batch["cluster_draws"], batch["token_draws"])
        seen = torch.where(labels == REPLACED, drawn, original)
        logits = detection_logits(model(input_ids=seen, **places_of(model, batch)))
        if model.training:
            counted = labels == REPLACED if self.only_changed else labels != NO_TARGET
            extra.observe(original, seen, counted, (logits.detach() > 0) != (labels == REPLACED))
        return detection_loss(logits, labels)


def given_clusters(file: Path, ordinary: np.ndarray) -> np.ndarray:
    """The cluster of each token from a file, -1 for special tokens, whatever the file says of them.

    Raises:
        DataError: there is no such file; it has not one whole number per token; a cluster has no ordinary token.
    """
    found = given_array(file, "map")
    if found.shape != ordinary.shape or found.dtype.kind not in "iu":
        raise DataError(
            f"map: {file} must hold one whole number for each of the vocabulary's {len(ordinary)} tokens, "
            f"found {found.dtype} of shape {found.shape}"
        )
    if (found[ordinary] < 0).any():
        raise DataError(f"map: {file} has no cluster for token {int(np.flatnonzero(ordinary & (found < 0))[0])}")
    clusters = np.where(ordinary, found, -1).astype(np.int64)
    sizes = np.bincount(clusters[ordinary], minlength=int(found.max()) + 1)
    if not sizes.all():
        raise DataError(f"map: the cluster {int(np.flatnonzero(sizes == 0)[0])} of {file} has no ordinary token")
    return clusters
