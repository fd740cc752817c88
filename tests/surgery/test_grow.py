"""What growing promises, and whether it keeps it: GPT-2, Llama with grouped queries, BERT and ViT, tied and untied."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from small_models import FOUR_FAMILIES, MODELS, gap, make_model
from transformers import PreTrainedModel

from warmstart.part import find
from warmstart.surgery.grow import Grow

Built = PreTrainedModel


@pytest.mark.parametrize("name", MODELS)
def test_fpi_keeps_the_function_at_integer_ratios(name: str) -> None:
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        old = make_model(name, dtype)
        for width in (32, 48):
            part = Grow(to={"width": width})
            assert part.preserves(old.config)[0] == "exactly"
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert gap(old, part.apply(old)) < limit, width


@pytest.mark.parametrize("name", MODELS)
def test_growing_neurons_is_exact_for_any_map(name: str) -> None:
    old = make_model(name, torch.float64)
    for mapping in ("balanced", "random"):
        for width in ("fpi", "exact"):
            part = Grow(to={"mlp": 97}, width=width, mapping=mapping)  # type: ignore[arg-type]
            assert part.preserves(old.config)[0] == "exactly"
            assert gap(old, part.apply(old, seed=3)) < 1e-10


@pytest.mark.parametrize("name", ["llama-tied", "llama-untied", "llama-mha", "qwen2-tied", "qwen3-untied"])
def test_growing_heads_is_exact_for_any_map(name: str) -> None:
    old = make_model(name, torch.float64)
    targets: list[dict[str, int]] = [{"heads": 8}, {"heads": 16, "mlp": 31}]
    if name == "llama-mha":
        targets.append({"heads": 8, "kv_heads": 4})  # each key and value head becomes a group
    for to in targets:
        for mapping in ("balanced", "random"):
            for width in ("fpi", "exact"):
                part = Grow(to=to, width=width, mapping=mapping)  # type: ignore[arg-type]
                grown = part.apply(old, seed=3)
                assert grown.config.num_attention_heads == to["heads"]
                assert gap(old, grown) < 1e-10, (to, mapping, width)


@pytest.mark.parametrize("name", FOUR_FAMILIES)
@pytest.mark.parametrize("mapping", ["balanced", "random"])
def test_uneven_copies_of_the_residual_width_warn_and_differ(name: str, mapping: str) -> None:
    old = make_model(name, torch.float64)
    to = {"width": 24, "heads": 8} if name.startswith("llama") else {"width": 24}
    part = Grow(to=to, mapping=mapping)  # type: ignore[arg-type]
    assert part.preserves(old.config)[0] == "approximately"
    with pytest.warns(UserWarning, match="unequal numbers of copies"):
        grown = part.apply(old)
    assert gap(old, grown) > 1e-3


@pytest.mark.parametrize("name", FOUR_FAMILIES)
def test_aki_and_the_baselines_change_the_function_and_say_so(name: str) -> None:
    old = make_model(name)
    for how in ("aki", "direct", "random"):
        part = Grow(to={"width": 32}, width=how)  # type: ignore[arg-type]
        assert part.preserves(old.config)[0] == "nothing"
        assert gap(old, part.apply(old)) > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_new_identity_blocks(name: str) -> None:
    old = make_model(name, torch.float64)
    part = Grow(to={"width": 32, "depth": 5}, depth="identity")
    if old.config.model_type in ("bert", "roberta"):
        assert part.preserves(old.config)[0] == "approximately"
        with pytest.warns(UserWarning, match="post-norm"):
            assert gap(old, part.apply(old)) > 1e-3
    else:
        assert part.preserves(old.config)[0] == "exactly"
        grown = part.apply(old)
        assert gap(old, grown) < 1e-10
        assert sum(not bool(p.any()) for p in grown.parameters()) >= 4  # two writers in each of two new blocks


@pytest.mark.parametrize("depth", ["stack", "interleave", "identity"])
def test_depth_alone_copies_whole_blocks_and_nothing_else(depth: str) -> None:
    old = make_model("llama-untied")
    grown = Grow(to={"depth": 8}, depth=depth).apply(old)  # type: ignore[arg-type]
    before, after = dict(old.named_parameters()), dict(grown.named_parameters())
    source = {"stack": [0, 1, 2, 0, 1, 2, 1, 2]}.get(depth, [0, 0, 0, 1, 1, 1, 2, 2])
    for name, weight in after.items():
        parts = name.split(".")
        if parts[1] != "layers":
            assert torch.equal(weight, before[name])
            continue
        layer = int(parts[2])
        copied = before[name.replace(f".{layer}.", f".{source[layer]}.", 1)]
        new = layer > 0 and source[layer] == source[layer - 1]
        silent = depth == "identity" and new and parts[-2] in ("o_proj", "down_proj")
        assert torch.equal(weight, torch.zeros_like(copied) if silent else copied)


@pytest.mark.parametrize("name", FOUR_FAMILIES)
@pytest.mark.parametrize("width", ["fpi", "aki", "exact", "direct", "random"])
def test_growing_to_the_same_size_changes_nothing(name: str, width: str) -> None:
    if width == "random":
        return
    old = make_model(name)
    part = Grow(to={"width": 16, "depth": 3}, width=width, noise=0.1)  # type: ignore[arg-type]
    assert part.preserves(old.config)[0] == "exactly"
    for (_, a), (_, b) in zip(old.named_parameters(), part.apply(old).named_parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()


@pytest.mark.parametrize("name", MODELS)
def test_the_grown_model_has_the_weights_of_a_fresh_one_of_its_size(name: str) -> None:
    old = make_model(name)
    for to in ({"width": 32}, {"width": 48, "mlp": 100, "depth": 7}):
        for width in ("fpi", "aki", "exact"):
            grown = Grow(to=to, width=width, depth="stack").apply(old)  # type: ignore[arg-type]
            with torch.random.fork_rng(devices=[]):
                fresh = type(old)(grown.config)
            assert grown.num_parameters() == fresh.num_parameters()
            assert {n: p.shape for n, p in grown.named_parameters()} == {
                n: p.shape for n, p in fresh.named_parameters()
            }
            assert all(p.requires_grad for p in grown.parameters())


def test_the_old_model_is_left_alone_and_the_new_one_is_like_it() -> None:
    old = make_model("gpt2-tied", torch.float64).train()
    old.generation_config.max_length = 77
    before = {n: p.clone() for n, p in old.named_parameters()}
    grown = Grow(to={"width": 32}).apply(old)
    assert all(torch.equal(before[n], p) for n, p in old.named_parameters())
    assert (old.config.n_embd, grown.config.n_embd) == (16, 32)
    assert grown.training
    assert grown.dtype == torch.float64
    assert grown.generation_config.max_length == 77
    assert grown.lm_head.weight is grown.transformer.wte.weight


def test_half_precision_is_rounded_once() -> None:
    old = make_model("llama-untied")
    for parameter in old.parameters():
        parameter.data = parameter.data.bfloat16()
    fpi = Grow(to={"width": 32}).apply(old)
    exact = Grow(to={"width": 24, "heads": 8}, width="exact").apply(old)
    assert {p.dtype for grown in (fpi, exact) for p in grown.parameters()} == {torch.bfloat16}
    assert gap(old.float(), fpi.float()) < 1e-5  # halves are exact in any binary format
    assert 1e-5 < gap(old.float(), exact.float()) < 0.05  # a square root of 2 / 3 and unequal shares are not


def train(model: Any, steps: int = 10) -> Any:
    """A few steps of AdamW on fixed random data, dropout off."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        if model.config.model_type == "vit":
            batch = {"pixel_values": torch.randn(4, 3, 8, 8, generator=generator)}
            batch["labels"] = torch.randint(2, (4,), generator=generator)
        else:
            tokens = torch.randint(37, (4, 12), generator=generator)
            batch = {"input_ids": tokens, "labels": tokens}
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


FFN = {"gpt2-tied": ("transformer.h.0.mlp.c_fc.weight", 1), "llama-tied": ("model.layers.0.mlp.up_proj.weight", 0)}
FFN |= {"bert-tied": ("bert.encoder.layer.0.intermediate.dense.weight", 0), "vit": ("vit.layers.0.mlp.fc1.weight", 0)}


def apart(model: Any, name: str, dimension: int) -> float:
    """Largest difference between the two copies of each neuron."""
    first, second = model.get_parameter(name).detach().chunk(2, dimension)
    return float((first - second).abs().max())


@pytest.mark.parametrize("name", FFN)
def test_copies_stay_equal_under_fpi_and_part_under_aki_and_exact(name: str) -> None:
    old = make_model(name)
    fpi, aki, exact = (train(Grow(to={"width": 32}, width=how).apply(old)) for how in ("fpi", "aki", "exact"))  # type: ignore[arg-type]
    start = old.get_parameter(FFN[name][0]).detach()
    trained = fpi.get_parameter(FFN[name][0]).detach()[: start.shape[0], : start.shape[1]]
    assert float((trained - start / 2).abs().max()) > 1e-3  # it did learn
    assert apart(fpi, *FFN[name]) < 1e-6
    assert apart(aki, *FFN[name]) > 1e-2
    assert apart(exact, *FFN[name]) > 1e-3


@pytest.mark.parametrize("name", FFN)
def test_neurons_grown_alone_part_under_exact_only(name: str) -> None:
    """Without a wider stream only the unequal shares part the copies; Adam must feel them too."""
    old = make_model(name)
    neurons = old.get_parameter(FFN[name][0]).shape[FFN[name][1]]
    fpi, exact = (train(Grow(to={"mlp": 2 * neurons}, width=how).apply(old)) for how in ("fpi", "exact"))  # type: ignore[arg-type]
    assert apart(fpi, *FFN[name]) < 1e-6
    assert apart(exact, *FFN[name]) > 1e-4


@pytest.mark.parametrize("name", ["bert-tied", "llama-tied", "gpt2-tied"])
def test_residual_entries_stay_equal_under_fpi_and_part_under_exact(name: str) -> None:
    old = make_model(name)
    for how, equal in (("fpi", True), ("exact", False)):
        grown = train(Grow(to={"width": 32}, width=how).apply(old))  # type: ignore[arg-type]
        first, second = grown.get_input_embeddings().weight.detach().chunk(2, 1)
        assert (float((first - second).abs().max()) < 1e-6) == equal
        assert float(second.std(dim=1).min()) > 1e-4  # the new entries differ among themselves


def test_grow_is_found_as_a_part_and_survives_a_recipe() -> None:
    part = find("surgery", "grow")(to={"n_embd": 32}, width="aki")
    assert isinstance(part, Grow)
    assert Grow.model_validate(part.model_dump(mode="json")) == part
