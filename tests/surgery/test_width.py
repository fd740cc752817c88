"""FPI, AKI and the baselines, weight by weight, against the equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import make_model
from torch import nn

from warmstart.surgery.grow import Grow
from warmstart.surgery.maps import Map, fitted
from warmstart.surgery.plan import Plan

DOUBLE: dict[str, dict[str, int]] = {name: {"width": 32} for name in ("gpt2-tied", "llama-tied", "bert-tied", "vit")}


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def grown(model: Any, to: dict[str, int], **settings: Any) -> dict[str, torch.Tensor]:
    return weights(Grow(to=to, **settings).apply(model))


def plan_for(model: Any, to: dict[str, int], **settings: Any) -> Plan:
    return Plan(Grow(to=to, **settings), model.config, weights(model), 0)


@pytest.mark.filterwarnings("ignore:growing keeps")
def test_the_original_block_survives_divided_by_its_copies() -> None:
    old = make_model("llama-tied")
    before, after = weights(old), grown(old, {"hidden_size": 24, "heads": 6, "mlp": 20}, width="fpi")
    counts = torch.tensor([2.0] * 8 + [1.0] * 8)  # 16 -> 24: the first eight entries are copied
    w, u = (x["model.layers.1.mlp.up_proj.weight"] for x in (before, after))
    assert torch.equal(u[:12, :16], w / counts)
    w, u = (x["model.layers.1.mlp.down_proj.weight"] for x in (before, after))
    counts_mlp = torch.tensor([2.0] * 8 + [1.0] * 4)  # 12 -> 20
    assert torch.equal(u[:16, :12], w / counts_mlp)
    assert torch.equal(u[16:, 12:], (w / counts_mlp)[:8, :8])
    w, u = (x["model.layers.1.self_attn.q_proj.bias"] for x in (before, after))
    assert torch.equal(u.view(2, 3, 4)[:, :2].reshape(-1), w)  # two groups of 2 -> 3 heads; biases are never divided
    assert torch.equal(u.view(2, 3, 4)[:, 2], w.view(2, 2, 4)[:, 0])
    w, u = (x["model.layers.1.self_attn.k_proj.weight"] for x in (before, after))
    assert torch.equal(u[:, :16], w / counts)
    assert len(u) == len(w)  # keys and values only expand along their input
    w, u = (x["model.layers.1.input_layernorm.weight"] for x in (before, after))
    assert torch.equal(u, torch.cat([w, w[:8]]))
    # The tied head's columns are copies; what it reads is divided instead.
    assert torch.equal(after["model.norm.weight"][:16], before["model.norm.weight"] / counts)


@pytest.mark.filterwarnings("ignore:growing keeps")
def test_an_untied_heads_input_is_divided_and_the_last_norm_is_not() -> None:
    old = make_model("gpt2-untied")
    before, after = weights(old), grown(old, {"width": 24}, width="fpi")
    counts = torch.tensor([2.0] * 8 + [1.0] * 8)
    assert torch.equal(after["lm_head.weight"][:, :16], before["lm_head.weight"] / counts)
    assert torch.equal(after["transformer.ln_f.weight"][:16], before["transformer.ln_f.weight"])


def test_fused_queries_keys_and_values_are_split_first() -> None:
    old = make_model("gpt2-tied")
    before, after = weights(old), grown(old, {"n_embd": 32}, width="fpi")
    name = "transformer.h.0.attn.c_attn.weight"
    for w, u in zip(before[name].chunk(3, 1), after[name].chunk(3, 1), strict=True):
        assert torch.equal(u, (w / 2).repeat(2, 2))
    name = "transformer.h.0.attn.c_attn.bias"
    for w, u in zip(before[name].chunk(3), after[name].chunk(3), strict=True):
        assert torch.equal(u, w.repeat(2))


@pytest.mark.parametrize("name", DOUBLE)
def test_aki_takes_new_output_neurons_from_the_block_above_and_the_last_block_is_fpi(name: str) -> None:
    old = make_model(name)
    plan = plan_for(old, DOUBLE[name])
    fpi, aki = (grown(old, DOUBLE[name], width=how) for how in ("fpi", "aki"))
    checked = set()
    for full, u in aki.items():
        found = plan.table.get(full)
        if found.layer in (None, 2) or found.weight.role not in ("matrix", "bias"):
            assert torch.equal(u, fpi[full]), full
            continue
        dimension = found.weight.output
        m = fitted(found.weight, plan._maps(found.layer))[dimension]
        if m is None:  # keys and values of grouped queries
            assert torch.equal(u, fpi[full]), full
            continue
        for part, fresh in ((fpi[full], False), (fpi[found.at(found.layer + 1)], True)):
            which = torch.nonzero(m.fresh == fresh).flatten()
            assert torch.equal(u.index_select(dimension, which), part.index_select(dimension, which)), full
            checked.add(found.pattern)
    assert len(checked) >= 6


def test_paired_aki_takes_heads_and_neurons_with_both_sides_and_keeps_the_stream() -> None:
    old = make_model("bert-tied")
    to = {"width": 32}
    fpi, aki = grown(old, to, width="fpi"), grown(old, to, width="aki", variant="paired")
    block = "bert.encoder.layer.{}."
    for full, rows in ((block + "intermediate.dense.weight", 0), (block + "output.dense.weight", 1)):
        own, above, new = fpi[full.format(0)], fpi[full.format(1)], aki[full.format(0)]
        assert torch.equal(new.narrow(rows, 0, 12), own.narrow(rows, 0, 12))
        assert torch.equal(new.narrow(rows, 12, 12), above.narrow(rows, 12, 12))
    assert torch.equal(aki[block.format(0) + "output.dense.bias"], fpi[block.format(0) + "output.dense.bias"])
    assert torch.equal(
        aki[block.format(0) + "intermediate.dense.bias"][12:], fpi[block.format(1) + "intermediate.dense.bias"][12:]
    )
    assert torch.equal(aki[block.format(2) + "output.dense.weight"], fpi[block.format(2) + "output.dense.weight"])


def test_aki_under_random_maps_expands_the_block_above_by_its_own_input_map() -> None:
    old = make_model("gpt2-untied")
    to = {"n_inner": 100, "n_embd": 32}
    u = grown(old, to, width="aki", mapping="random")["transformer.h.0.mlp.c_proj.weight"]
    plan = plan_for(old, to, width="aki", mapping="random")
    own, above = plan._maps(0), plan._maps(1)
    w = weights(old)["transformer.h.1.mlp.c_proj.weight"]
    expanded = w[above["mlp"].index] / above["mlp"].counts[:, None]
    torch.testing.assert_close(u[:, 16:], expanded.float()[:, own["width"].index[16:]])


@pytest.mark.parametrize("name", [*DOUBLE, "llama-mha"])
def test_direct_keeps_the_old_weights_in_a_corner_and_random_keeps_nothing(name: str) -> None:
    old = make_model(name)
    to = {"width": 32}
    plan = plan_for(old, to)
    direct, random = grown(old, to, width="direct"), grown(old, to, width="random")
    for full, w in weights(old).items():
        found = plan.table.get(full)
        maps = fitted(found.weight, plan._maps(found.layer))
        corner = direct[full]
        for dimension, m in enumerate(maps):
            corner = corner if m is None else corner.index_select(dimension, m.kept)
        assert torch.equal(corner, w), full
        if found.weight.role == "matrix":
            assert not torch.equal(random[full].flatten()[: w.numel()], w.flatten())
            assert 0.001 < float(random[full].std()) < 0.03
        if found.weight.role == "norm_weight":
            assert torch.equal(random[full], torch.ones_like(random[full]))


@pytest.mark.filterwarnings("ignore:growing keeps")
def test_noise_moves_new_entries_of_matrices_only() -> None:
    old = make_model("gpt2-tied")
    plain, noisy = (grown(old, {"mlp": 96}, width="fpi", noise=n) for n in (0.0, 0.1))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert torch.equal(plain[name][:, :64], noisy[name][:, :64])
    assert 0.05 < float((plain[name] - noisy[name])[:, 64:].std() / plain[name].std()) < 0.2
    assert torch.equal(plain["transformer.h.0.mlp.c_fc.bias"], noisy["transformer.h.0.mlp.c_fc.bias"])
    assert torch.equal(plain["transformer.wte.weight"], noisy["transformer.wte.weight"])


def test_draws_depend_on_the_seed_alone() -> None:
    old = make_model("gpt2-tied")
    for how in ("exact", "direct", "random"):
        part = Grow(to={"width": 24}, width=how)  # type: ignore[arg-type]
        one, again, other = (weights(part.apply(old, seed=s)) for s in (1, 1, 2))
        assert all(torch.equal(one[n], again[n]) for n in one)
        assert not all(torch.equal(one[n], other[n]) for n in one)


def test_a_maps_originals_are_where_kept_says() -> None:
    m = Map(torch.tensor([1, 0, 1]), torch.tensor([False, False, True]))
    assert m.kept.tolist() == [1, 0]
