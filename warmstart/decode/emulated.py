"""Emulated fine-tuning: what a small model learnt in its fine-tuning, added to a large model that was not fine-tuned.

A fine-tuned model is its reference times the exponential of an implicit reward, log p_tuned - log p_reference. Token by
token that reward can be added to the log-probabilities of a base model of another size:

    log p = log p_base + strength * sum_i weight_i (log p_tuned_i - log p_reference)        (then normalised)

A base larger than the reference is up-scaling: the large model's knowledge with the small one's manners, and no
training of the large one. Several rewards are mixed by their weights without training. The price: every token costs a
pass of the base and of all small models, and the reward's mistakes come along. Normalising token by token is an
approximation of the definition, which is about whole texts. (Mitchell et al. 2023, arXiv 2310.12962.)

The formula alone, and with plain `generate` of transformers:

    >>> import torch
    >>> base, reference = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.4, 0.4, 0.2]).log()
    >>> tuned = torch.tensor([0.2, 0.4, 0.4]).log()
    >>> emulate(base, [tuned], reference).exp()  # 0.5 * 0.2/0.4, 0.3 * 0.4/0.4, 0.2 * 0.4/0.2, over their sum
    tensor([0.2632, 0.3158, 0.4211])
    >>> from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessorList
    >>> sizes = {"n_layer": 1, "n_head": 1, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    >>> large = GPT2LMHeadModel(GPT2Config(n_embd=16, **sizes))
    >>> small, small_tuned = (GPT2LMHeadModel(GPT2Config(n_embd=8, **sizes)) for _ in range(2))
    >>> processor = emulated_processor([small_tuned], small, strength=1.0)  # one for each call of generate
    >>> prompt = torch.tensor([[1, 2, 3]])
    >>> large.generate(prompt, max_new_tokens=4, logits_processor=LogitsProcessorList([processor])).shape[0]
    1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from warmstart.decode import Decoding
from warmstart.decode.composed import Composed, together
from warmstart.decode.log_probabilities import log_probabilities, normalised
from warmstart.decode.processor import ComposedLogits, Prompts
from warmstart.named_models import OWN, ModelName


def emulate(
    base: torch.Tensor,
    tuned: Sequence[torch.Tensor],
    reference: torch.Tensor,
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    nucleus: float = 1.0,
) -> torch.Tensor:
    """Log-probabilities of the emulated model, fp32 (or fp64 if the base is): `(..., vocabulary)`, nats.

    Args:
        base: logits or log-probabilities of the base, `(..., vocabulary)`; a token that it excludes (-inf) stays so.
        tuned: the same of each fine-tuned model.
        reference: the same of the model that they were fine-tuned from.
        weights: of the rewards; default: equal ones that add up to 1. For two rewards (lambda, 1 - lambda).
        strength: of all rewards together: 0 is the base; 1 with one reward is the paper's form.
        nucleus: in (0, 1]; below 1 a reward counts only for the smallest set of tokens whose probabilities under its
            own fine-tuned model add up to so much: ratios of improbable tokens are noise. 1 counts them all.

    Raises:
        ValueError: no fine-tuned model, not as many weights as models, a negative or infinite weight or strength, a
            nucleus outside (0, 1].
        ModelError: at some place no token is possible under all models.
    """
    shares = _checked(len(tuned), weights, strength, nucleus)
    start = log_probabilities(base)
    behind = log_probabilities(reference)
    total = start
    for share, logits in zip(shares, tuned, strict=True):
        if share * strength > 0:  # 0 * -inf is no number
            total = total + share * strength * log_ratio(log_probabilities(logits), behind, nucleus)
    return normalised(total)


def log_ratio(tuned: torch.Tensor, reference: torch.Tensor, nucleus: float = 1.0) -> torch.Tensor:
    """log p_tuned - log p_reference, `(..., vocabulary)`; 0 outside of the fine-tuned model's nucleus, and for a token
    that the reference excludes (probability 0), whose ratio is undefined."""
    ratio = torch.where(torch.isneginf(reference), 0.0, tuned - reference)
    return ratio if nucleus == 1 else torch.where(in_nucleus(tuned, nucleus), ratio, 0.0)


def in_nucleus(log_probs: torch.Tensor, share: float) -> torch.Tensor:
    """Which tokens are in the smallest set of the most probable ones that holds `share`: bool `(..., vocabulary)`."""
    chances, order = log_probs.exp().sort(dim=-1, descending=True, stable=True)
    before = chances.cumsum(dim=-1) - chances
    inside = before < share
    inside[..., 0] = True
    return torch.zeros_like(inside).scatter(-1, order, inside)


def _checked(count: int, weights: Sequence[float] | None, strength: float, nucleus: float) -> Sequence[float]:
    """The weights of so many rewards, and an error for a setting that has no meaning."""
    if count < 1:
        raise ValueError("at least one fine-tuned model is needed")
    if weights is not None and len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} fine-tuned models: give one for each")
    for name, value in [("a weight", weight) for weight in weights or ()] + [("strength", strength)]:
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be 0 or more and finite, found {value}")
    if not 0 < nucleus <= 1:
        raise ValueError(f"nucleus must be above 0 and at most 1, found {nucleus}")
    return [1 / count] * count if weights is None else weights


def emulation(
    rewards: int, *, weights: Sequence[float] | None = None, strength: float = 1.0, nucleus: float = 1.0
) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """`emulate` as a function of one list: the logits of the base, of each of the fine-tuned models, of the reference.

    Raises:
        ValueError: as `emulate`.
    """
    shares = _checked(rewards, weights, strength, nucleus)

    def combine(logits: Sequence[torch.Tensor]) -> torch.Tensor:
        base, *tuned, reference = logits
        return emulate(base, tuned, reference, weights=shares, strength=strength, nucleus=nucleus)

    return combine


def emulated_processor(
    tuned: Sequence[Any],
    reference: Any,
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    nucleus: float = 1.0,
    prompts: Prompts | None = None,
) -> ComposedLogits:
    """A logits processor that makes `base.generate(...)` write as the emulated model, for one call of `generate`.

    Args:
        prompts: what the fine-tuned models and the reference read in the place of the base's prompt, one for each of
            them in this order; see `ComposedLogits`.
    """
    combine = emulation(len(tuned), weights=weights, strength=strength, nucleus=nucleus)
    return ComposedLogits([*tuned, reference], combine, prompts=prompts)


class Emulated(Decoding):
    """A base with the rewards of models fine-tuned from a (usually smaller) reference: emulated fine-tuning."""

    type: Literal["emulated"] = "emulated"
    base: ModelName = Field(description="The model that the rewards are added to.")
    tuned: Annotated[list[ModelName], Field(min_length=1)] = Field(
        [OWN], description="The fine-tuned models; `stage` is the stage's own."
    )
    reference: ModelName = Field(description="What they were fine-tuned from.")
    weights: list[Annotated[float, Field(ge=0)]] | None = Field(
        None, description="A weight for each of the fine-tuned models; default: equal ones that add up to 1."
    )
    strength: float = Field(1.0, ge=0, allow_inf_nan=False, description="Of all rewards together; 0 is the base alone.")
    nucleus: float = Field(
        1.0, gt=0, le=1, description="Below 1: only tokens in so large a nucleus of a fine-tuned model get its reward."
    )

    @model_validator(mode="after")
    def _fits(self) -> Emulated:
        if self.weights is not None and len(self.weights) != len(self.tuned):
            raise ValueError(f"{len(self.weights)} weights for {len(self.tuned)} fine-tuned models: give one for each")
        if OWN not in (self.base, *self.tuned, self.reference):
            raise ValueError(f"none of base, tuned and reference is '{OWN}', the stage's own model")
        return self

    def compose(self, model: nn.Module, tokenizer: Any) -> Composed:
        models = together([self.base, *self.tuned, self.reference], model, tokenizer)
        combine = emulation(len(self.tuned), weights=self.weights, strength=self.strength, nucleus=self.nucleus)
        return Composed(models, combine, drafter=1)
