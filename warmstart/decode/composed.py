"""Several causal models as one: the same calls, `forward` and `generate`, and a distribution that all of them make.

model = Composed([large, small_tuned, small], emulation(1))
model(input_ids).logits                     # log-probabilities
model.generate(input_ids, max_new_tokens=50)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutput

from warmstart.decode.continuation import Continuation
from warmstart.decode.processor import Combine, ComposedLogits, Prompt, Prompts
from warmstart.errors import ModelError
from warmstart.models.load import load_model
from warmstart.models.tokenizer import check_fits, load_tokenizer
from warmstart.named_models import OWN


class Composed(nn.Module):
    """One causal model out of several with the same tokens. Nothing here has a gradient, and no weight changes.

    Where embeddings have different sizes, the tokens beyond the smallest are left out, with a warning.

    Args:
        models: causal models of transformers; the first is the one whose `generate` is used. One that is given twice
            is computed once.
        combine: their logits, each `(..., vocabulary)`, to log-probabilities.
        drafter: the number of the model whose drafts speculative decoding checks; None: there is none.
    """

    def __init__(self, models: Sequence[Any], combine: Combine, *, drafter: int | None = None) -> None:
        super().__init__()
        if not models:
            raise ValueError("at least one model is needed")
        self.models = nn.ModuleList(models)
        self.combine, self.drafter = combine, drafter
        self.vocabulary = common_vocabulary(models)

    @property
    def members(self) -> list[Any]:
        """The models in order."""
        return list(self.models)

    @property
    def config(self) -> Any:
        """The configuration of the first model."""
        return self.members[0].config

    def forward(self, input_ids: torch.Tensor, **inputs: Any) -> CausalLMOutput:
        """`logits`: log-probabilities of the next token at each place, `(batch, tokens, vocabulary)`, nats.

        Args:
            input_ids: int64 `(batch, tokens)`; every model reads them and the other `inputs` (`position_ids`, ...).
        """
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for model in self.members:
                if id(model) not in found:
                    there = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
                    found[id(model)] = model(input_ids=input_ids.to(model.device), **there).logits
            return CausalLMOutput(logits=self.combined([found[id(model)] for model in self.members]))

    def combined(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """The logits of every model, in order and on any device, as log-probabilities on the first one's device."""
        device = logits[0].device
        return self.combine([each[..., : self.vocabulary].to(device) for each in logits])

    def generate(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        prompts: Prompts | None = None,
        **settings: Any,
    ) -> Any:
        """As `generate` of transformers, under the composed distribution; ends at an end mark of any of the models.

        Args:
            prompts: for each model after the first its own `(input_ids, attention_mask)`, or None for the first one's.
            settings: those of `generate` (`max_new_tokens`, `do_sample`, `temperature`, `num_beams`, ...).
        """
        processor = ComposedLogits(self.members[1:], self.combine, prompts=prompts, attention_mask=attention_mask)
        processors = LogitsProcessorList([*settings.pop("logits_processor", []), processor])
        if "eos_token_id" not in settings and (ends := end_marks(self.members)):
            settings["eos_token_id"] = ends
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.members[0].generate(input_ids, attention_mask=mask, logits_processor=processors, **settings)

    def read(self, prompts: Sequence[Prompt]) -> list[Continuation]:
        """Each model before its own prompt, ready to go on.

        Raises:
            ValueError: not as many prompts as models.
        """
        if len(prompts) != len(self.models):
            raise ValueError(f"{len(prompts)} prompts for {len(self.models)} models: give one for each")
        return [Continuation(model, ids, mask) for model, (ids, mask) in zip(self.members, prompts, strict=True)]

    def scores(self, prompts: Sequence[Prompt], answers: torch.Tensor) -> torch.Tensor:
        """Teacher-forced log-probability of each answer token after the models' own prompts: `(batch, tokens)`, nats.

        Args:
            prompts: `(input_ids, attention_mask)` for each model.
            answers: int64 `(batch, tokens)`, the same for all models.
        """
        texts = self.read(prompts)
        for text in texts:
            text.append(answers[:, :-1])
        found = self.combined([text.logits(answers.shape[1]) for text in texts])
        return found.gather(2, answers.to(found.device)[:, :, None])[:, :, 0]


def end_marks(models: Sequence[Any]) -> list[int]:
    """The end-of-text ids of all models, each once."""
    found: set[int] = set()
    for model in models:
        ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        found |= set(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return sorted(found)


def common_vocabulary(models: Sequence[Any]) -> int:
    """The size of the smallest embedding; a warning where not all have it."""
    sizes = [int(model.config.get_text_config().vocab_size) for model in models]
    if len(set(sizes)) > 1:
        shown = ", ".join(f"{size:,}" for size in sizes)
        warnings.warn(
            f"the models' vocabularies have {shown} tokens; those from {min(sizes):,} on are left out", stacklevel=3
        )
    return min(sizes)


def together(names: Sequence[str], model: nn.Module, tokenizer: Any) -> list[Any]:
    """The models of these names, in evaluation mode and frozen; `stage` is the given one, and stays as it is.

    Raises:
        ModelError: one cannot be loaded, or its tokens are not those of `tokenizer`.
    """
    loaded: dict[str, Any] = {OWN: model}
    for name in names:
        if name not in loaded:
            check_same_tokens(tokenizer, load_tokenizer(name), name)
            loaded[name] = load_model(name, "causal").eval().requires_grad_(False)
            check_fits(tokenizer, loaded[name].config)
    return [loaded[name] for name in names]


def check_same_tokens(tokenizer: Any, other: Any, name: str) -> None:
    """Models can only be composed where an id means the same token in each.

    Raises:
        ModelError: the tokenizers map some token to different ids.
    """
    ours, theirs = tokenizer.get_vocab(), other.get_vocab()
    if ours == theirs:
        return
    token = min((t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t)), key=lambda t: (len(t), t))
    found, wanted = (f"is {ids[token]}" if token in ids else "does not exist" for ids in (theirs, ours))
    raise ModelError(
        f"the model '{name}' has another vocabulary: its token {token!r} {found}, in the stage's tokenizer it {wanted}"
        "; composed models must share their tokenizer"
    )
