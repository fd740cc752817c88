"""Codes for frames of speech, learned: the quantiser of wav2vec 2.0 with its contrastive and diversity losses.

The quantiser names each step by one of `codes` vectors. In training the choice is drawn (Gumbel softmax): the step
gets one whole code, and the gradient that of the soft choice. Otherwise the likeliest code is taken, always the same.
One group of codes: what several groups would predict is a choice of its own.

Sources: A. Baevski et al., "wav2vec 2.0", 2020, section 3.2; Y.-A. Chung et al., "W2v-BERT", 2021, section 3.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from warmstart.errors import UserError
from warmstart.objectives.in_batch import summed


class Quantiser(nn.Module):
    """Features to codes.

    Args:
        features: width of what is quantised; it is normalised first, so that its size decides nothing.
        codes: how many there are.
        size: width of a code.

    Raises:
        UserError: fewer than two codes.
    """

    def __init__(self, features: int, codes: int, size: int) -> None:
        super().__init__()
        if codes < 2:
            raise UserError(f"a quantiser needs at least 2 codes, found {codes}")
        self.project = nn.Linear(features, codes)
        nn.init.normal_(self.project.weight, std=1.0)  # as in wav2vec 2.0: from the start the codes are told apart
        nn.init.zeros_(self.project.bias)
        self.codes = nn.Parameter(torch.rand(codes, size))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """How well each code fits, float32 `(batch, steps, codes)`, of features `(batch, steps, width)`."""
        normal = functional.layer_norm(features.float(), features.shape[-1:])
        return functional.linear(normal, self.project.weight.float(), self.project.bias.float())

    def forward(self, logits: torch.Tensor, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes of steps, `(batch, steps, size)`, and their numbers, int64 `(batch, steps)`.

        In training mode they are drawn from the global random state of PyTorch, at a temperature.
        """
        if not self.training:
            numbers = logits.argmax(dim=-1)
            return self.codes[numbers], numbers
        chosen = functional.gumbel_softmax(logits, tau=temperature, hard=True)
        return chosen @ self.codes.to(chosen.dtype), chosen.argmax(dim=-1)


def diversity_loss(logits: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """(V - exp(H)) / V, where H is the entropy of the mean choice over all used steps: 0 where all V codes are chosen
    equally often, (V - 1) / V where it is always one. Several processes go by the mean over all their steps.

    Args:
        logits: `(batch, steps, codes)`.
        used: which steps count, bool `(batch, steps)`.
    """
    weight = used.to(logits.dtype)[..., None]
    chosen = summed((torch.softmax(logits, dim=-1) * weight).sum(dim=(0, 1)))
    mean = chosen / summed(weight.sum()).clamp(min=1)
    return (len(mean) - entropy(mean).exp()) / len(mean)


def code_perplexity(numbers: torch.Tensor, used: torch.Tensor, codes: int) -> torch.Tensor:
    """How many codes are in use: exp of the entropy of their shares among the used steps; 1 is a collapse.

    Args:
        numbers: of codes, int64 `(batch, steps)`.
        used: which steps count, bool `(batch, steps)`.
    """
    counts = torch.zeros(codes, device=numbers.device).scatter_add_(0, numbers.flatten(), used.flatten().float())
    return entropy(counts / counts.sum().clamp(min=1)).exp()


def entropy(shares: torch.Tensor) -> torch.Tensor:
    """Of shares that add up to 1, nats."""
    return -torch.special.xlogy(shares, shares).sum()


def contrastive_logits(
    context: torch.Tensor,
    targets: torch.Tensor,
    numbers: torch.Tensor,
    distractors: torch.Tensor,
    temperature: float = 0.1,
) -> torch.Tensor:
    """How alike the context of each step is to its own target and to others: float32 `(batch, steps, 1 +
    distractors)`, the own target first.

    Cosines over the temperature. A distractor with the target's own code is none: -inf, as where there is no
    distractor. All pairs of steps are compared at once, which is cheaper than gathering a vector for each distractor.

    Args:
        context, targets: `(batch, steps, width)`.
        numbers: of the targets' codes, int64 `(batch, steps)`.
        distractors: steps of the same sequence, int64 `(batch, steps, distractors)`; -1 is none.
    """
    unit = [functional.normalize(vectors.float(), dim=-1, eps=1e-8) for vectors in (context, targets)]
    alike = unit[0] @ unit[1].transpose(1, 2) / temperature
    places = distractors.clamp(min=0)
    same = numbers.gather(1, places.flatten(1)).view(places.shape) == numbers[:, :, None]
    others = alike.gather(2, places).masked_fill(same | (distractors < 0), float("-inf"))
    return torch.cat([alike.diagonal(dim1=1, dim2=2)[:, :, None], others], dim=2)


def contrastive_loss(logits: torch.Tensor) -> torch.Tensor:
    """-log of the chance of the own target, for each step: `(batch, steps)`, nats; 0 where there is no distractor."""
    return logits.logsumexp(dim=-1) - logits[..., 0]


def annealed(temperatures: tuple[float, float], decay: float, updates: torch.Tensor) -> torch.Tensor:
    """A temperature that falls from the first to the second number, by a factor with each update."""
    return (temperatures[0] * decay ** updates.double()).clamp(min=temperatures[1]).float()
