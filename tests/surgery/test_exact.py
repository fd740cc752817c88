"""The exact mode: any ratio in pre-norm models, integer ratios of the width in post-norm ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MODELS, POST_NORM, PRE_NORM, gap, in_full_precision, make_model

from warmstart.errors import ModelError
from warmstart.surgery import exact
from warmstart.surgery.check import check_inputs, outputs
from warmstart.surgery.exact import shares
from warmstart.surgery.grow import Grow
from warmstart.surgery.maps import spread
from warmstart.surgery.width import Piece


def widths(name: str, width: int) -> dict[str, int]:
    """A width with its heads, which grow in groups where keys and values are grouped."""
    grouped = MODELS[name][2].get("num_key_value_heads") == 2
    return {"width": width, "heads": {20: 4, 24: 8, 28: 4}.get(width, width // 4)} if grouped else {"width": width}


@pytest.mark.parametrize("name", MODELS)
def test_the_small_models_themselves_are_good_to_the_limit_in_fp32(name: str) -> None:
    """A model whose own rounding passes 1e-5 could not show whether surgery stays below it."""
    rough, fine = make_model(name), in_full_precision(make_model(name, torch.float64))
    inputs = check_inputs(rough.config, None, 0)
    for a, b in zip(outputs(rough, inputs), outputs(fine, inputs), strict=True):
        assert float((a.double() - b).abs().max()) < 1e-5


@pytest.mark.parametrize("width", [24, 32, 40])
@pytest.mark.parametrize("name", PRE_NORM)
def test_pre_norm_models_keep_their_function_at_any_ratio(name: str, width: int) -> None:
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        old = make_model(name, dtype)
        to = widths(name, width)
        assert Grow(to=to, width="exact").preserves(old.config)[0] == "exactly"
        assert gap(old, Grow(to=to, width="exact").apply(old, seed=1)) < limit


@pytest.mark.parametrize("name", POST_NORM)
def test_post_norm_models_keep_their_function_at_integer_ratios(name: str) -> None:
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        old = make_model(name, dtype)
        for to in ({"width": 32}, {"width": 48}, {"mlp": 19}, {"width": 32, "mlp": 31}):
            part = Grow(to=to, width="exact", mapping="random")
            assert part.preserves(old.config)[0] == "exactly"
            assert gap(old, part.apply(old, seed=1)) < limit, to


@pytest.mark.parametrize("name", POST_NORM)
def test_post_norm_models_refuse_other_ratios_and_say_why(name: str) -> None:
    with pytest.raises(ModelError, match=r"hidden_size: 16 -> 24 cannot be exact .* use a multiple of 16"):
        Grow(to={"width": 24}, width="exact").apply(make_model(name))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["gpt2-tied", "gpt2-untied", "llama-mha", "vit"]),
    size=st.integers(2, 6),
    extra_heads=st.integers(0, 5),
    extra_mlp=st.integers(0, 40),
    extra_layers=st.integers(0, 3),
    mapping=st.sampled_from(["balanced", "random"]),
    seed=st.integers(0, 5),
)
def test_random_sizes_in_fp64(
    name: str, size: int, extra_heads: int, extra_mlp: int, extra_layers: int, mapping: str, seed: int
) -> None:
    """Any number of heads (and so any width), neurons and new identity blocks."""
    size *= 2  # rotary positions need an even head
    changes = {"n_embd": 2 * size, "n_inner": 9} if name.startswith("gpt2") else {"hidden_size": 2 * size}
    if name == "llama-mha":
        changes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": size}
    old = make_model(name, torch.float64, **changes)
    mlp = 9 if name.startswith("gpt2") else 12
    to = {"width": (2 + extra_heads) * size, "mlp": mlp + extra_mlp, "depth": 3 + extra_layers}
    part = Grow(to=to, width="exact", depth="identity", mapping=mapping)  # type: ignore[arg-type]
    assert part.preserves(old.config)[0] == "exactly"
    assert gap(old, part.apply(old, seed=seed)) < 1e-10


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-untied"])
def test_the_norms_epsilon_follows_so_that_large_ones_stay_exact(name: str) -> None:
    field = "layer_norm_epsilon" if name == "gpt2-tied" else "rms_norm_eps"
    old = make_model(name, torch.float64, **{field: 0.5})
    grown = Grow(to=widths(name, 24), width="exact").apply(old)
    assert math.isclose(getattr(grown.config, field), 0.5 * 16 / 24)
    assert getattr(old.config, field) == 0.5
    assert gap(old, grown) < 1e-10
    setattr(grown.config, field, 0.5)
    with torch.random.fork_rng(devices=[]):
        wrong = type(grown)(grown.config).double().eval()
    wrong.load_state_dict(grown.state_dict())
    assert gap(old, wrong) > 1e-3


def test_norms_over_each_heads_queries_and_keys_keep_a_large_epsilon_exact() -> None:
    old = make_model("qwen3-tied", torch.float64, rms_norm_eps=0.5)
    assert gap(old, Grow(to={"width": 24, "heads": 8}, width="exact").apply(old)) < 1e-10


def test_new_entries_leave_the_last_norm_as_zeros_so_a_tied_head_does_not_see_them() -> None:
    for name in ("gpt2-tied", "llama-tied"):
        old = make_model(name)
        grown = Grow(to=widths(name, 24), width="exact").apply(old)
        hidden = grown.base_model(torch.arange(9)[None]).last_hidden_state.detach()
        assert float(hidden[..., 16:].abs().max()) < 1e-5
        columns = grown.get_input_embeddings().weight.detach()[:, 16:]
        assert (float(columns.abs().max()) > 1e-2) == (
            name == "gpt2-tied"
        )  # means under LayerNorm, zeros under RMSNorm


@pytest.mark.parametrize("name", ["gpt2-untied", "bert-tied"])
def test_shares_of_a_large_matrix_are_drawn_in_slices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_model(name, torch.float64)
    drawn: list[int] = []

    def counted(shape: list[int], dimension: int, piece: Piece) -> torch.Tensor:
        drawn.append(math.prod(shape))
        return shares(shape, dimension, piece)

    monkeypatch.setattr(exact, "SLICE", 200)
    monkeypatch.setattr(exact, "shares", counted)
    assert gap(old, Grow(to={"width": 32}, width="exact").apply(old)) < 1e-10
    assert len(drawn) > 20
    assert max(drawn) <= 200


def test_shares_of_copies_sum_to_one_and_differ() -> None:
    m = spread(4, 10, "balanced", torch.Generator())
    piece = Piece(None, torch.zeros(3, 4), [None, m], None, [], 0.02, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    found = shares([3, 10], 1, piece)
    sums = torch.zeros(3, 4).index_add_(1, m.index, found)
    torch.testing.assert_close(sums, torch.ones(3, 4))
    assert float(found.min()) > 0.1
    assert len(found.unique()) == found.numel()
