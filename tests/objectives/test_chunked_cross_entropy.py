"""The chunked loss against PyTorch's own on logits that exist."""

from __future__ import annotations

import pytest
import torch
from docstring_examples import run_example
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TOKENS, build
from torch.nn import functional

from warmstart.objectives import chunked_cross_entropy as module
from warmstart.objectives.chunked_cross_entropy import NO_TARGET, Nats, chunked_cross_entropy, pays, rows_of_chunk
from warmstart.train.compute import FlopMeter

Tensors = dict[str, torch.Tensor]


def tensors(tokens: int, width: int, vocabulary: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensors:
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()

    labels = torch.randint(vocabulary, (tokens,), generator=draw)
    labels[torch.rand(tokens, generator=draw) < 0.3] = NO_TARGET
    return {
        "states": drawn(tokens, width),
        "weight": drawn(vocabulary, width),
        "bias": drawn(vocabulary),
        "labels": labels,
    }


def plain(t: Tensors, scale: float = 1.0, cap: float | None = None, bias: bool = True) -> torch.Tensor:
    """Each token's cross entropy, the logits made in full."""
    logits = (t["states"] @ t["weight"].T + (t["bias"] if bias else 0.0)) * scale
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    return functional.cross_entropy(logits, t["labels"], ignore_index=NO_TARGET, reduction="none")


def chunked(t: Tensors, rows: int | None, scale: float = 1.0, cap: float | None = None, bias: bool = True) -> Nats:
    given_bias = t["bias"] if bias else None
    return chunked_cross_entropy(
        t["states"], t["weight"], t["labels"], given_bias, scale=scale, cap=cap, rows=rows
    )  # fmt: skip


def gradients(total: torch.Tensor, t: Tensors, bias: bool = True) -> list[torch.Tensor]:
    names = ["states", "weight", *(["bias"] if bias else [])]
    return list(torch.autograd.grad(total, [t[name] for name in names]))


def same(t: Tensors, rows: int | None, tolerance: float, **law: object) -> None:
    bias = bool(law.get("bias", True))
    wanted, found = plain(t, **law), chunked(t, rows, **law)  # type: ignore[arg-type]
    torch.testing.assert_close(found.each, wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.total, wanted.sum(), rtol=tolerance, atol=tolerance)
    # Three times the sum: what comes from above must reach the gradients.
    pairs = zip(gradients(3 * found.total, t, bias), gradients(3 * wanted.sum(), t, bias), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@given(
    tokens=st.integers(0, 17),
    width=st.integers(1, 9),
    vocabulary=st.integers(1, 23),
    rows=st.integers(1, 20),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1.0, 0.125, 2.5]),
    cap=st.sampled_from([None, 2.0, 30.0]),
    bias=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_loss_and_gradients_are_those_of_the_plain_path(
    tokens: int, width: int, vocabulary: int, rows: int, seed: int, scale: float, cap: float | None, bias: bool
) -> None:
    same(tensors(tokens, width, vocabulary, seed), rows, 1e-12, scale=scale, cap=cap, bias=bias)


def test_in_float32() -> None:
    same(tensors(50, 16, 70, dtype=torch.float32), 7, 2e-6)


def test_without_any_target() -> None:
    t = tensors(6, 4, 5)
    t["labels"].fill_(NO_TARGET)
    found = chunked(t, 4)
    assert found.total == 0
    assert not found.each.any()
    assert not any(gradient.any() for gradient in gradients(found.total, t))


def test_under_autocast_products_are_of_its_format_and_sums_are_not() -> None:
    """As exact as the plain path under autocast, or more: the chunks' gradients of the weights add up in float32."""
    exact = tensors(64, 32, 90)
    t = {n: x.detach().float().requires_grad_() if x.is_floating_point() else x for n, x in exact.items()}
    wanted = gradients(plain(exact).sum(), exact)
    with torch.autocast("cpu", torch.bfloat16):
        logits = functional.linear(t["states"], t["weight"], t["bias"])
        assert logits.dtype == torch.bfloat16
        theirs = functional.cross_entropy(logits.float(), t["labels"], ignore_index=NO_TARGET, reduction="none")
        ours = chunked(t, 1)
    torch.testing.assert_close(ours.each, theirs, rtol=0, atol=1e-6)
    for mine, other, true in zip(gradients(ours.total, t), gradients(theirs.sum(), t), wanted, strict=True):
        assert mine.dtype == torch.float32
        errors = [(float((found - true).norm() / true.norm())) for found in (mine, other)]
        assert errors[0] < 1.1 * errors[1] < 0.05


def test_under_autocast_chunks_add_up_in_float32() -> None:
    """In bfloat16 a sum of halves comes to rest at 128."""
    states, weight = torch.ones(2000, 1), torch.zeros(2, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        nats = chunked_cross_entropy(states, weight, torch.zeros(2000, dtype=torch.long), rows=1)
    nats.total.backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [-1000, 1000]


def test_autocast_is_left_with_no_cast_that_has_no_gradient() -> None:
    t = tensors(64, 32, 90, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):  # which remembers the casts of weights until it ends
        chunked(t, 4)
        functional.linear(t["states"], t["weight"]).sum().backward()
    assert t["weight"].grad is not None


def test_models_of_half_precision_get_gradients_of_their_own_format() -> None:
    t = tensors(20, 8, 30, dtype=torch.bfloat16)
    assert {gradient.dtype for gradient in gradients(chunked(t, 6).total, t)} == {torch.bfloat16}


def test_tied_weights_get_both_gradients() -> None:
    found = []
    for whole in (True, False):
        t = tensors(12, 5, 9)
        t["states"] = functional.embedding(torch.arange(12) % 9, t["weight"]).tanh()
        total = plain(t, bias=False).sum() if whole else chunked(t, 5, bias=False).total
        found.append(torch.autograd.grad(total, t["weight"])[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["states", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient_and_costs_nothing(frozen: str) -> None:
    t = tensors(12, 5, 9)
    t[frozen] = t[frozen].detach()
    others = {name: t[name] for name in ("states", "weight", "bias") if name != frozen}
    wanted = torch.autograd.grad(plain(t).sum(), list(others.values()))
    for ours, theirs in zip(torch.autograd.grad(chunked(t, 5).total, list(others.values())), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    costs = [FlopMeter().measure((), run) for run in (lambda: plain(t).sum(), lambda: chunked(t, 5).total)]
    assert costs[0] == costs[1] > 0


def test_without_gradients_it_says_which_guesses_are_right() -> None:
    t = tensors(40, 5, 4)
    with torch.no_grad():
        found = chunked(t, 7)
        logits = t["states"] @ t["weight"].T + t["bias"]
    assert found.right is not None
    assert torch.equal(found.right, logits.argmax(dim=1) == t["labels"])
    assert 0 < int(found.right.sum()) < 40
    assert chunked(t, 7).right is None
    torch.testing.assert_close(found.each, plain(t).detach(), rtol=1e-12, atol=1e-12)


def test_flops_are_those_of_the_plain_path() -> None:
    t = tensors(12, 5, 9)
    costs = [FlopMeter().measure((), run) for run in (lambda: plain(t).sum(), lambda: chunked(t, 5).total)]
    assert costs == [6 * 12 * 5 * 9] * 2
    assert FlopMeter().measure_forward((), lambda: chunked(t, 5)) == 2 * 12 * 5 * 9


def test_a_second_backward_pass_is_refused_rather_than_wrong() -> None:
    t = tensors(6, 4, 5)
    total = chunked(t, 4).total * 2
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_chunk_has_at_least_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CHUNK, "cpu", 100)
    assert [rows_of_chunk(vocabulary, "cpu") for vocabulary in (30, 100, 101, 1000)] == [3, 1, 1, 1]
    assert [pays(tokens, 10, "cpu") for tokens in (19, 20)] == [False, True]
    same(tensors(7, 4, 9), None, 1e-12)


def test_example() -> None:
    names = run_example(
        chunked_cross_entropy, model=build("llama"), tokens=TOKENS, chunked_cross_entropy=chunked_cross_entropy
    )
    logits = names["model"](input_ids=TOKENS[:, :-1]).logits
    wanted = functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(names["nats"].each, wanted)
