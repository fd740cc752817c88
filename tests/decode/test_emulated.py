"""The formula of emulated fine-tuning: what the paper says must hold, against float64 arithmetic."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.decode import emulated as module
from warmstart.decode import product as product_module
from warmstart.decode.emulated import Emulated, emulate, in_nucleus, log_ratio
from warmstart.decode.product import Product, product
from warmstart.errors import ModelError

INF = float("inf")


def tables(seed: int, count: int = 3, vocabulary: int = 7, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Logits `(5, vocabulary)` of several models."""
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn((5, vocabulary), generator=generator, dtype=dtype) for _ in range(count)]


def test_the_docstrings_examples_run() -> None:
    for each in (module, product_module):
        failed, tried = doctest.testmod(each)
        assert tried > 0
        assert failed == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), strength=st.floats(0, 3), weight=st.floats(0, 1))
def test_it_is_the_formula(seed: int, strength: float, weight: float) -> None:
    base, first, second, reference = tables(seed, 4, dtype=torch.float64)
    p, f, s, r = (each.softmax(-1) for each in (base, first, second, reference))
    wanted = p * (f / r) ** (strength * weight) * (s / r) ** (strength * (1 - weight))
    found = emulate(base, [first, second], reference, weights=[weight, 1 - weight], strength=strength).exp()
    assert torch.allclose(found, wanted / wanted.sum(-1, keepdim=True), rtol=1e-9, atol=0)
    assert torch.allclose(found.sum(-1), torch.ones(5, dtype=torch.float64), atol=1e-12)


def test_its_limits_are_the_models_themselves() -> None:
    large, tuned, small = tables(1)
    # N = M: the fine-tuned model; nothing learnt: the base; strength 0: the base
    assert torch.allclose(emulate(small, [tuned], small).exp(), tuned.softmax(-1), atol=1e-6)
    assert torch.allclose(emulate(large, [small], small).exp(), large.softmax(-1), atol=1e-6)
    assert torch.allclose(emulate(large, [tuned], small, strength=0).exp(), large.softmax(-1), atol=1e-6)
    assert torch.allclose(emulate(large, [tuned], small).exp().sum(-1), torch.ones(5), atol=1e-6)


def test_a_constant_for_each_place_changes_nothing() -> None:
    models = tables(2)
    plain = emulate(models[0], [models[1]], models[2])
    for number in range(3):
        shifted = [each + (100 * torch.arange(5.0)[:, None] if k == number else 0) for k, each in enumerate(models)]
        assert torch.allclose(emulate(shifted[0], [shifted[1]], shifted[2]), plain, atol=1e-4)
    normal = [each.log_softmax(-1) for each in models]
    assert torch.allclose(emulate(normal[0], [normal[1]], normal[2]), plain, atol=1e-5)


def test_half_precision_is_combined_in_fp32() -> None:
    large, tuned, small = (each.bfloat16() for each in tables(3))
    found = emulate(large, [tuned], small)
    assert found.dtype == torch.float32
    assert torch.equal(found, emulate(large.float(), [tuned.float()], small.float()))


def test_rewards_are_interpolated() -> None:
    large, helpful, harmless, small = tables(4, 4, dtype=torch.float64)

    def mixed(share: float) -> torch.Tensor:
        return emulate(large, [helpful, harmless], small, weights=[share, 1 - share])

    assert torch.allclose(mixed(1), emulate(large, [helpful], small))
    assert torch.allclose(mixed(0), emulate(large, [harmless], small))
    # linear in the share, up to the normalisation: differences between tokens show no normalisation
    relative = [mixed(share) - mixed(share)[:, :1] for share in (0.0, 0.3, 1.0)]
    assert torch.allclose(relative[1], 0.7 * relative[0] + 0.3 * relative[2])
    assert torch.allclose(emulate(large, [helpful, harmless], small), mixed(0.5))


def test_the_nucleus_keeps_the_smallest_set_that_holds_the_share() -> None:
    chances = torch.tensor([[0.05, 0.5, 0.3, 0.15], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    for share, wanted in ((0.5, [0, 1, 0, 0]), (0.500001, [0, 1, 1, 0]), (0.8, [0, 1, 1, 0]), (0.9, [0, 1, 1, 1])):
        assert in_nucleus(chances.log(), share)[0].tolist() == [bool(each) for each in wanted], share
    assert in_nucleus(chances.log(), 0.5)[1].sum() == 2
    assert in_nucleus(chances.log(), 1e-9).sum(-1).tolist() == [1, 1]
    assert in_nucleus(chances.log(), 0.999).all()


def test_filtering_by_the_nucleus() -> None:
    large, tuned, small = tables(5, dtype=torch.float64)
    assert torch.equal(emulate(large, [tuned], small, nucleus=1), emulate(large, [tuned], small))
    # towards 0 the top token alone keeps its ratio, whatever the others
    top = tuned.argmax(-1, keepdim=True)
    ratio = (tuned.log_softmax(-1) - small.log_softmax(-1)).gather(-1, top)
    wanted = large.log_softmax(-1).scatter_add(-1, top, ratio).log_softmax(-1)
    assert torch.allclose(emulate(large, [tuned], small, nucleus=1e-9), wanted)
    kept = in_nucleus(tuned.log_softmax(-1), 0.7)
    assert 0 < kept.sum() < kept.numel()
    assert torch.equal(
        log_ratio(tuned.log_softmax(-1), small.log_softmax(-1), 0.7) != 0, kept
    )  # no ratio is exactly 0 here


def test_excluded_tokens_stay_excluded_and_nothing_is_nan() -> None:
    large, tuned, small = tables(6)
    large[:, 0] = -INF  # by the base
    tuned[:, 1] = -INF  # by the fine-tuned model
    small[:, 2] = -INF  # by the reference: an undefined ratio counts as none
    for each in (large, tuned, small):
        each[:, 3] = -INF  # by all
    tuned[:, 4] = small[:, 4] = -INF  # by both of a ratio
    for strength in (0, 0.5, 1, 2):
        for nucleus in (1, 0.5):
            found = emulate(large, [tuned], small, strength=strength, nucleus=nucleus)
            assert not found.isnan().any()
            assert found[:, [0, 3]].isneginf().all()
            assert torch.isfinite(found[:, [2, 4, 5, 6]]).all()
            assert found[:, 1].isneginf().all() == (strength > 0 and nucleus == 1)
            assert torch.allclose(found.exp().sum(-1), torch.ones(5), atol=1e-6)
    none = torch.full((1, 2), -INF)
    some = torch.tensor([[0.0, -INF]])
    with pytest.raises(ModelError, match="no token is possible"):
        emulate(some, [some.flip(-1)], torch.zeros(1, 2))
    with pytest.raises(ModelError, match="no token is possible"):
        product([some, some.flip(-1)])
    assert none.isneginf().all()


def test_the_product_divides_by_nothing() -> None:
    large, tuned, small = tables(7, dtype=torch.float64)
    wanted = large.softmax(-1) * tuned.softmax(-1)
    assert torch.allclose(product([large, tuned]).exp(), wanted / wanted.sum(-1, keepdim=True))
    flat = torch.zeros_like(small)  # dividing by a reference that knows nothing is not dividing
    assert torch.allclose(product([large, tuned]), emulate(large, [tuned], flat))


def test_settings_without_meaning_are_refused() -> None:
    large, tuned, small = tables(8)
    with pytest.raises(ValueError, match="2 weights for 1"):
        emulate(large, [tuned], small, weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="at least one fine-tuned model"):
        emulate(large, [], small)
    for nucleus in (0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="nucleus"):
            emulate(large, [tuned], small, nucleus=nucleus)
        with pytest.raises(ValueError, match="nucleus"):
            module.emulation(1, nucleus=nucleus)
    for strength in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="strength"):
            emulate(large, [tuned], small, strength=strength)
    with pytest.raises(ValueError, match="a weight"):
        emulate(large, [tuned], small, weights=[-1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": [0.5, 0.5]}, "2 weights for 1 fine-tuned"),
        ({"nucleus": 0}, "greater than 0"),
        ({"nucleus": 1.5}, "less than or equal to 1"),
        ({"tuned": []}, "at least 1"),
        ({"tuned": ["other"]}, "none of base, tuned and reference is 'stage'"),
        ({"strength": -1}, "greater than or equal to 0"),
        ({"strength": math.inf}, "finite"),
    ],
)
def test_a_part_refuses_them_too(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Emulated.model_validate({"base": "large", "reference": "small", **wrong})


def test_a_product_needs_the_stages_model() -> None:
    with pytest.raises(ValidationError, match="none of the models is 'stage'"):
        Product(models=["a", "b"])
