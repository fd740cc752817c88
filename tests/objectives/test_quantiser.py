"""Codes and their losses, against the definition in float64 and the pieces that transformers has of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from warmstart.errors import UserError
from warmstart.objectives.quantiser import (
    Quantiser,
    annealed,
    code_perplexity,
    contrastive_logits,
    contrastive_loss,
    diversity_loss,
)


def quantiser(features: int = 6, codes: int = 8, size: int = 4) -> Quantiser:
    torch.manual_seed(0)
    return Quantiser(features, codes, size)


def test_diversity_is_0_when_all_codes_are_used_and_almost_1_when_one_is() -> None:
    everything = torch.ones(2, 8, dtype=torch.bool)
    equal = torch.zeros(2, 8, 16)
    assert diversity_loss(equal, everything).abs() < 1e-6
    in_turn = torch.full((2, 8, 8), -1e4).scatter(2, (torch.arange(16) % 8).view(2, 8, 1), 1e4)
    assert diversity_loss(in_turn, everything).abs() < 1e-6
    one = torch.full((2, 8, 16), -1e4)
    one[..., 3] = 1e4
    assert diversity_loss(one, everything) == pytest.approx(15 / 16, abs=1e-6)
    half = everything.clone()
    half[1] = False
    both = torch.cat([one[:1], in_turn[1:].repeat(1, 1, 2)], dim=0)
    assert diversity_loss(both, half) == pytest.approx(15 / 16, abs=1e-6)  # only the used steps count


def test_diversity_and_codes_are_those_of_transformers() -> None:
    ours = quantiser(6, 8, 4).eval()
    config = Wav2Vec2Config(
        num_codevectors_per_group=8, num_codevector_groups=1, codevector_dim=4, conv_dim=[6], conv_stride=[1],
        conv_kernel=[1], num_feat_extract_layers=1,
    )  # fmt: skip
    theirs = Wav2Vec2GumbelVectorQuantizer(config).eval()
    with torch.no_grad():
        theirs.weight_proj.weight.copy_(ours.project.weight)
        theirs.weight_proj.bias.copy_(ours.project.bias)
        theirs.codevectors.copy_(ours.codes[None])
    features = torch.nn.functional.layer_norm(torch.randn(3, 10, 6), (6,))
    hidden = torch.rand(3, 10) < 0.5
    vectors, perplexity = theirs(features, mask_time_indices=hidden)
    logits = ours.logits(features)
    codes, numbers = ours(logits)
    torch.testing.assert_close(codes, vectors)
    torch.testing.assert_close(code_perplexity(numbers, hidden, 8), perplexity, atol=1e-4, rtol=1e-4)
    soft = theirs._compute_perplexity(torch.softmax(logits, -1).view(30, 1, 8), hidden)
    torch.testing.assert_close(diversity_loss(logits, hidden), (8 - soft) / 8, atol=1e-5, rtol=1e-4)


def test_evaluation_draws_nothing_and_training_does() -> None:
    layer = quantiser()
    logits = layer.logits(torch.randn(2, 50, 6)) * 0.1
    drawn = layer.train()(logits, 2.0)[1]
    assert not torch.equal(drawn, layer(logits, 2.0)[1])
    before = torch.random.get_rng_state()
    layer.eval()
    for _ in range(2):
        vectors, numbers = layer(logits)
        assert torch.equal(numbers, logits.argmax(dim=-1))
        assert torch.equal(vectors, layer.codes[numbers])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_drawn_code_is_whole_and_its_gradient_is_that_of_the_soft_choice() -> None:
    layer = quantiser().train()
    logits = layer.logits(torch.randn(1, 5, 6)).detach().requires_grad_()
    torch.manual_seed(3)
    vectors, numbers = layer(logits, 0.7)
    torch.testing.assert_close(vectors, layer.codes[numbers])
    weight = torch.randn_like(vectors)
    (found,) = torch.autograd.grad((vectors * weight).sum(), logits)
    torch.manual_seed(3)
    soft = torch.nn.functional.gumbel_softmax(logits, tau=0.7) @ layer.codes
    (wanted,) = torch.autograd.grad((soft * weight).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_the_size_of_features_decides_nothing() -> None:
    layer = quantiser()
    features = torch.randn(2, 5, 6)
    torch.testing.assert_close(layer.logits(features), layer.logits(100 * features + 3), atol=1e-3, rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_the_contrastive_loss_is_that_of_the_definition(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    context, targets = draw.standard_normal((2, 2, 7, 5))
    numbers = draw.integers(4, size=(2, 7))
    targets = targets[np.arange(2)[:, None], numbers]  # equal codes are equal vectors
    distractors = draw.integers(-1, 7, size=(2, 7, count))
    found = contrastive_loss(
        contrastive_logits(*(torch.from_numpy(x) for x in (context, targets, numbers, distractors)), 0.1)
    )
    for row in range(2):
        for step in range(7):
            logits = []
            for place in [step, *(d for d in distractors[row, step] if d >= 0)]:
                if (place == step and not logits) or numbers[row, place] != numbers[row, step]:
                    a, b = context[row, step], targets[row, place]
                    logits.append(a @ b / math.sqrt(a @ a * (b @ b)) / 0.1)
            wanted = math.log(sum(math.exp(value) for value in logits)) - logits[0]
            assert float(found[row, step]) == pytest.approx(wanted, abs=1e-4)


def test_the_contrastive_logits_are_those_of_transformers() -> None:
    context, targets = torch.randn(2, 1, 9, 5)
    distractors = torch.tensor([[(step + k) % 9 for k in (1, 2, 5)] for step in range(9)])
    negatives = targets[0][distractors].permute(1, 0, 2)[:, None]
    theirs = Wav2Vec2ForPreTraining.compute_contrastive_logits(targets[None], negatives, context, 0.1)
    ours = contrastive_logits(context, targets, torch.arange(9)[None], distractors[None], 0.1)
    torch.testing.assert_close(ours, theirs.permute(1, 2, 0), atol=1e-4, rtol=1e-4)


def test_a_context_that_is_like_nothing_must_guess() -> None:
    """Orthogonal to everything: log(K' + 1), where K' are the distractors with another code."""
    context = torch.zeros(1, 6, 4)
    context[..., 0] = 1.0
    targets = torch.randn(1, 6, 4)
    targets[..., 0] = 0.0
    numbers = torch.tensor([[0, 1, 2, 2, 3, 4]])
    distractors = torch.tensor([[[1, 2, 3], [0, 2, -1], [3, 0, 1], [2, 2, 4], [-1, -1, -1], [5, 5, 0]]])
    found = contrastive_loss(contrastive_logits(context, targets, numbers, distractors))
    wanted = torch.tensor([[4.0, 3.0, 3.0, 2.0, 1.0, 2.0]]).log()  # of the last, its own code twice: no distractors
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_the_temperature_falls_to_its_lowest() -> None:
    found = [float(annealed((2.0, 0.5), 0.9, torch.tensor(n))) for n in (0, 1, 10, 100)]
    assert found == pytest.approx([2.0, 1.8, 2.0 * 0.9**10, 0.5])


def test_a_collapse_is_seen() -> None:
    used = torch.ones(1, 8, dtype=torch.bool)
    assert code_perplexity(torch.full((1, 8), 5), used, 16) == pytest.approx(1.0)
    assert code_perplexity(torch.arange(8)[None], used, 16) == pytest.approx(8.0)


def test_what_a_quantiser_cannot_be() -> None:
    with pytest.raises(UserError, match="at least 2 codes, found 1"):
        Quantiser(4, 1, 4)
