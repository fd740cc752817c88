"""Exact speculative decoding of composed models: a small one drafts, all of them check the draft in one pass each.

The drafting model writes k tokens, one at a time; every other model then reads all of them at once. A drafted token y
is kept with probability min(1, p(y) / q(y)), p the composed distribution and q the drafting one; the first that is
not kept is replaced by a draw from max(0, p - q), normalised; where all are kept, one more token is drawn from p. So
whatever was drafted, the text has exactly the distribution of decoding token by token. What it saves are passes of
the large model; what it costs are drafted tokens that are thrown away. (Leviathan et al. 2022, arXiv 2211.17192; for
emulated fine-tuning Mitchell et al. 2023, arXiv 2310.12962.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from warmstart.decode.composed import Composed, end_marks
from warmstart.decode.log_probabilities import log_probabilities
from warmstart.decode.processor import Prompt


@dataclass
class Speculated:
    """What was written, and how.

    Attributes:
        tokens: the new tokens, an end mark included.
        drafted: tokens that were drafted.
        accepted: how many of them were kept.
        rounds: passes of each model that did not draft.
    """

    tokens: list[int] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    rounds: int = 0

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were kept; nan where none was drafted."""
        return self.accepted / self.drafted if self.drafted else float("nan")


def verify(
    drafted: torch.Tensor, draft: torch.Tensor, target: torch.Tensor, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many drafted tokens of each row are kept, and the token after them: int64 `(batch,)` each.

    Args:
        drafted: the drafted tokens, int64 `(batch, k)`, drawn from `draft`; k may be 0.
        draft: log-probabilities that they were drawn from, `(batch, k, vocabulary)`.
        target: log-probabilities of the composed model at the same places and one more, `(batch, k + 1, vocabulary)`.
    """
    batch, k = drafted.shape
    ratio = (target[:, :k] - draft).gather(2, drafted[:, :, None])[:, :, 0]
    draws = torch.rand((batch, k), generator=generator, device=target.device, dtype=target.dtype)
    kept = (draws.log() < ratio).long().cumprod(dim=1).sum(dim=1)
    rows = torch.arange(batch, device=target.device)
    chances = target[rows, kept].exp()
    # Behind the last drafted token nothing was drafted: q is 0 there, and p itself is left.
    nothing = torch.full_like(target[:, :1], float("-inf"))
    rest = (chances - torch.cat([draft, nothing], dim=1)[rows, kept].exp()).clamp(min=0)
    rest = torch.where(rest.sum(dim=1, keepdim=True) > 0, rest, chances)  # p = q up to rounding
    return kept, torch.multinomial(rest, 1, generator=generator)[:, 0]


def verify_greedy(drafted: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `verify` for greedy decoding: a drafted token is kept where it is the target's most likely one."""
    best = target.argmax(dim=2)
    kept = (best[:, :-1] == drafted).long().cumprod(dim=1).sum(dim=1)
    return kept, best[torch.arange(len(best), device=best.device), kept]


def speculative_generate(
    model: Composed,
    prompts: torch.Tensor | Sequence[Prompt],
    *,
    max_new_tokens: int,
    draft: int = 4,
    temperature: float = 1.0,
    eos_token_id: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Speculated:
    """One text under the composed distribution, drafted by `model.drafter`.

    Args:
        prompts: `input_ids` `(1, tokens)` for all models, or `(input_ids, attention_mask)` for each.
        draft: tokens drafted at a time (k).
        temperature: of the composed distribution (and of the drafts); 0 is greedy decoding.
        eos_token_id: end marks; default: those of all models.
        generator: what the text is drawn from; on the first model's device.

    Raises:
        ValueError: `draft` or `max_new_tokens` below 1, a negative temperature, a model without a drafter, or more than
            one text.
        ModelError: the cache of one of the models cannot take tokens back.
    """
    if draft < 1 or max_new_tokens < 1 or temperature < 0:
        raise ValueError(
            f"draft and max_new_tokens must be at least 1 and temperature at least 0; found {draft}, {max_new_tokens}, "
            f"{temperature}"
        )
    if model.drafter is None:
        raise ValueError("none of the composed models drafts: set drafter")
    each = [(prompts, None)] * len(model.members) if isinstance(prompts, torch.Tensor) else list(prompts)
    if any(len(ids) != 1 for ids, _ in each):
        raise ValueError("speculative decoding writes one text at a time: texts keep different numbers of tokens")
    texts = model.read(each)
    drafter = texts[model.drafter]
    device = texts[0].device
    ends = set(end_marks(model.members) if eos_token_id is None else eos_token_id)
    result = Speculated()

    def sharpened(logits: torch.Tensor) -> torch.Tensor:
        return log_probabilities(log_probabilities(logits) / temperature if temperature > 0 else logits)

    while len(result.tokens) < max_new_tokens and not ends & set(result.tokens[-1:]):
        tokens: list[torch.Tensor] = []
        chances: list[torch.Tensor] = []
        own = [drafter.logits(1)]  # after each token, the last one of the text first
        while len(tokens) < min(draft, max_new_tokens - len(result.tokens) - 1):
            chances.append(sharpened(own[-1][:, -1, : model.vocabulary].to(device)))
            one = _drawn(chances[-1], temperature, generator)
            tokens.append(one)
            drafter.append(one)
            own.append(drafter.logits(1))
            if int(one) in ends:
                break
        drafted = torch.cat([torch.empty((1, 0), dtype=torch.long, device=device), *tokens], dim=1)
        logits = []
        for text in texts:
            if text is not drafter:
                text.append(drafted)
            logits.append(torch.cat(own, dim=1) if text is drafter else text.logits(len(tokens) + 1))
        target = sharpened(model.combined(logits))
        if temperature == 0:
            kept, after = verify_greedy(drafted, target)
        else:
            draft_chances = torch.stack(chances, dim=1) if chances else target[:, :0]
            kept, after = verify(drafted, draft_chances, target, generator)
        count = int(kept)
        for text in texts:
            text.cut(len(tokens) - count)
            text.append(after[:, None])
        result.tokens += [*drafted[0, :count].tolist(), int(after)]
        result.drafted += len(tokens)
        result.accepted += count
        result.rounds += 1
        if found := [place for place, token in enumerate(result.tokens) if token in ends]:
            del result.tokens[found[0] + 1 :]
    return result


def _drawn(log_probs: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    """One token of each row, `(batch, 1)`."""
    if temperature == 0:
        return log_probs.argmax(dim=1, keepdim=True)
    return torch.multinomial(log_probs.exp(), 1, generator=generator)
