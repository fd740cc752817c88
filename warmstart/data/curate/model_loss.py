"""A score by a small language model: the mean loss per token, and how many tokens are hard.

One forward pass over every text. Low loss is fluent and predictable (boilerplate too), high loss is noise or news; the
middle is often the best to keep. The price is compute: 2 FLOPs x weights per token; it is counted as `model_loss_flops`
and belongs to what a method that uses this score has spent.

A text's score does not depend on its neighbours, not even in the last bit: texts are cut into windows of at most
`length` tokens, padded to a power of two, and a forward pass always has the same `(batch_size, tokens)` shape, filled
up with padding. Causal attention never looks to the right, so padding needs no mask. A window's FLOPs are its share of
a full pass; filling up is not counted, because it depends on how the rows were batched.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from warmstart.data.cache import digest, file_digest
from warmstart.data.curate import Curation
from warmstart.data.steps import Columns, Counted, column
from warmstart.errors import DataError, ModelError
from warmstart.models.load import load_model
from warmstart.models.tokenizer import load_tokenizer
from warmstart.named_models import ModelName
from warmstart.places import expanded, is_folder
from warmstart.train.compute import FlopMeter
from warmstart.train.precision import resolve_device

SHORTEST = 16


@dataclass
class LossScorer:
    """Token losses of texts under a causal model.

    Args:
        model: a causal language model of transformers; it is moved to the device and put into evaluation mode.
        tokenizer: its tokenizer. A begin or end token, where it has one, comes before each window, so that the first
            token has a loss as well.
        length: the longest window, tokens.
        batch_size: windows per forward pass.
    """

    model: Any
    tokenizer: Any
    length: int = 512
    batch_size: int = 8
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if isinstance(limit, int) and self.length > limit:
            raise ModelError(f"length {self.length} is more than the model's {limit} positions; lower it")
        self.model.to(self.device).eval()
        self._meter = FlopMeter()
        begin = self.tokenizer.bos_token_id
        self._begin = begin if begin is not None else self.tokenizer.eos_token_id

    def losses(self, texts: list[str]) -> tuple[list[np.ndarray], int]:
        """The loss of each token of each text, nats, float32 `(tokens,)`, and the FLOPs that it took.

        Raises:
            DataError: a text with no token that has a loss.
        """
        found, flops = self.losses_and_ranks(texts)
        return [losses for losses, _ in found], flops

    def losses_and_ranks(self, texts: list[str]) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
        """As `losses`, and beside each loss how many tokens the model finds likelier, float32 `(tokens,)`."""
        windows = [self._windows(text) for text in texts]
        waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row, parts in enumerate(windows):
            for place, part in enumerate(parts):
                waiting[self._padded_length(len(part))].append((row, place))
        found: list[dict[int, np.ndarray]] = [{} for _ in texts]
        flops = 0
        for tokens, places in waiting.items():
            for start in range(0, len(places), self.batch_size):
                some = places[start : start + self.batch_size]
                losses = self._forward([windows[row][place] for row, place in some], tokens)
                for (row, place), loss in zip(some, losses, strict=True):
                    found[row][place] = loss
            flops += len(places) * self._cost(tokens)
        whole = [np.concatenate([parts[place] for place in sorted(parts)], axis=1) for parts in found]
        return [(both[0], both[1]) for both in whole], flops

    def _windows(self, text: str) -> list[list[int]]:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        first = [self._begin] if self._begin is not None else []
        step = self.length - len(first)
        parts = [[*first, *ids[start : start + step]] for start in range(0, len(ids), step)]
        parts = [part for part in parts if len(part) > 1]
        if not parts:
            raise DataError("no token to score")
        return parts

    def _padded_length(self, tokens: int) -> int:
        return min(self.length, max(SHORTEST, 1 << (tokens - 1).bit_length()))

    @torch.inference_mode()
    def _forward(self, windows: list[list[int]], tokens: int) -> list[np.ndarray]:
        ids = torch.zeros((self.batch_size, tokens), dtype=torch.long)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = torch.tensor(window)
        ids = ids.to(self.device)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        ranks = (logits > logits.gather(2, ids[:, 1:, None])).sum(dim=2)
        both = torch.stack([losses, ranks.float()]).cpu().numpy()
        return [both[:, row, : len(window) - 1] for row, window in enumerate(windows)]

    def _cost(self, tokens: int) -> int:
        ids = torch.zeros((self.batch_size, tokens), dtype=torch.long, device=self.device)
        total = self._meter.measure_forward(
            (self.batch_size, tokens), lambda: self.model(input_ids=ids, use_cache=False)
        )
        return round(total / self.batch_size)


@cache
def scorer_of(model: str, length: int, batch_size: int, device: str, _digest: str) -> LossScorer:
    return LossScorer(load_model(model, "causal"), load_tokenizer(model), length, batch_size, resolve_device(device))


class ModelLoss(Curation):
    """Writes into `score` the mean loss of a text's tokens under a small causal model, nats per token.

    Every process that runs it holds the model.
    """

    type: Literal["model-loss"] = "model-loss"
    model: ModelName = Field(description="A model folder (with its tokenizer), a hub id, or a source of the study.")
    length: int = Field(512, ge=SHORTEST, description="Longer texts are scored in windows of so many tokens.")
    batch_size: int = Field(8, ge=1, description="Windows per forward pass.")
    hard: float | None = Field(
        None, gt=0, description="Also write into `hard_tokens` the share of tokens with a loss above this, nats."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def key(self) -> Any:
        return [self.model_dump(mode="json", exclude={"model", "device"}), folder_digest(self.model)]

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        scorer = scorer_of(self.model, self.length, self.batch_size, self.device, folder_digest(self.model))
        found, flops = scorer.losses(column(columns, "text"))
        changed = {**columns, "score": [float(losses.mean(dtype=np.float64)) for losses in found]}
        if self.hard is not None:
            changed["hard_tokens"] = [float((losses > self.hard).mean()) for losses in found]
        return Counted(changed, {"flops": flops})


def folder_digest(model: str) -> str:
    """Changes with the files of a model folder; a hub id stands for itself."""
    folder = expanded(model)
    if not is_folder(folder):
        return model
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".model", ".txt"))
    return digest("model", [[path.name, file_digest(path)] for path in files])
