"""Sizes that follow, sizes that are refused: the configuration of the grown model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from small_models import MODELS, make_model
from transformers import AutoConfig, PretrainedConfig

from warmstart.errors import ModelError
from warmstart.surgery.grow import Grow


def config(name: str, **changes: Any) -> PretrainedConfig:
    kind, _, settings = MODELS[name]
    return AutoConfig.for_model(kind, **(settings | changes))


def target(name: str, to: dict[str, int], **changes: Any) -> PretrainedConfig:
    return Grow(to=to).target(config(name, **changes))


def test_sizes_that_are_not_named_follow_the_width() -> None:
    found = target("gpt2-tied", {"n_embd": 32})
    assert (found.n_embd, found.n_head, found.n_inner, found.n_layer) == (32, 4, None, 3)
    assert target("gpt2-tied", {"n_embd": 32}, n_inner=20).n_inner == 40
    found = target("bert-tied", {"hidden_size": 24})
    assert (found.num_attention_heads, found.intermediate_size) == (3, 18)
    found = target("llama-untied", {"hidden_size": 32})
    assert (found.num_attention_heads, found.num_key_value_heads, found.head_dim) == (8, 2, 4)
    assert found.intermediate_size == 24
    found = target("llama-mha", {"hidden_size": 24})
    assert (found.num_attention_heads, found.num_key_value_heads) == (6, 6)
    found = target("llama-mha", {"num_attention_heads": 8, "num_key_value_heads": 4})
    assert (found.num_attention_heads, found.num_key_value_heads) == (8, 4)


def test_every_way_to_name_a_size() -> None:
    for name in ("n_embd", "hidden_size", "width"):
        assert target("gpt2-tied", {name: 32}).n_embd == 32
    for name in ("n_layer", "num_hidden_layers", "depth"):
        assert target("gpt2-tied", {name: 5}).n_layer == 5
    found = target("llama-untied", {"heads": 8, "mlp": 13, "kv_heads": 2})
    assert (found.num_attention_heads, found.intermediate_size) == (8, 13)
    assert target("vit", {"width": 24, "hidden_size": 24}).hidden_size == 24
    assert target("gpt2-tied", {"vocab_size": 37, "n_embd": 32}).vocab_size == 37  # unchanged may be said


def test_what_has_one_entry_per_block_follows_its_block() -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    old = config("qwen3-untied", layer_types=types, use_sliding_window=True, sliding_window=8)
    assert Grow(to={"depth": 5}, depth="stack").target(old).layer_types == [*types, types[1], types[2]]
    assert Grow(to={"depth": 6}, depth="identity").target(old).layer_types == [t for t in types for _ in range(2)]


def test_the_old_configuration_is_not_changed() -> None:
    old = config("qwen3-tied")
    before = old.to_dict()
    Grow(to={"width": 24, "heads": 8, "depth": 5}, width="exact").target(old)
    assert old.to_dict() == before


REFUSED = [
    ("gpt2-tied", {"n_embd": 8}, r"to\.n_embd: growing cannot shrink 16 to 8"),
    ("gpt2-tied", {"n_layer": 2}, r"to\.n_layer: growing cannot shrink 3 to 2"),
    ("bert-tied", {"intermediate_size": 11}, r"to\.intermediate_size: growing cannot shrink 12 to 11"),
    ("llama-untied", {"heads": 2}, r"to\.num_attention_heads: growing cannot shrink 4 to 2"),
    ("gpt2-tied", {"n_embd": 32, "n_head": 2}, r"to\.n_head: 2 heads .* would change the head size 8"),
    ("bert-tied", {"heads": 4}, r"to\.num_attention_heads: 4 heads in a width of 16 would change the head size 8"),
    ("gpt2-tied", {"n_embd": 20}, r"to\.n_embd: 20 is not a multiple of the head size 8"),
    ("llama-untied", {"head_dim": 8}, r"to\.head_dim: growing cannot change head_dim \(4 -> 8\)"),
    ("gpt2-tied", {"vocab_size": 50}, r"to\.vocab_size: growing cannot change vocab_size \(37 -> 50\)"),
    ("gpt2-tied", {"n_positions": 48}, r"to\.n_positions: growing cannot change n_positions"),
    ("llama-untied", {"num_key_value_heads": 4}, r"to\.num_key_value_heads: growing keeps the 2 groups"),
    ("llama-mha", {"heads": 8, "kv_heads": 6}, r"to\.num_key_value_heads: growing keeps the 4 groups"),
    ("llama-untied", {"hidden_size": 20}, r"to\.num_attention_heads: 5 is not a multiple of the 2 key and value heads"),
    ("bert-tied", {"hidden_size": 24, "n_embd": 24}, r"to\.n_embd: a bert model has no such size"),
    ("bert-tied", {"hiden_size": 24}, r"to\.hiden_size: .*did you mean 'hidden_size'"),
    ("bert-tied", {"hidden_size": 24, "width": 32}, r"to\.width: 32 contradicts another name .* \(24\)"),
    ("vit", {"patch_size": 8}, r"to\.patch_size: growing cannot change patch_size"),
]


@pytest.mark.parametrize(("name", "to", "line"), REFUSED, ids=[f"{n}-{next(iter(t))}" for n, t, _ in REFUSED])
def test_impossible_targets_get_one_clear_line(name: str, to: dict[str, int], line: str) -> None:
    with pytest.raises(ModelError, match=line) as caught:
        target(name, to)
    assert "\n" not in str(caught.value)


def test_more_refusals() -> None:
    with pytest.raises(ModelError, match="not a whole number of MLP neurons; give intermediate_size too"):
        target("bert-tied", {"hidden_size": 24}, intermediate_size=13)
    with pytest.raises(ModelError, match=r"do not add up to its width .* give num_attention_heads"):
        target("qwen3-untied", {"hidden_size": 32}, head_dim=6)
    with pytest.raises(ModelError, match="transformers refuses the grown llama configuration"):
        target("llama-untied", {"hidden_size": 22, "heads": 4, "mlp": 12})
    with pytest.raises(ModelError, match="growing cannot change model_type"):
        target("gpt2-tied", {"model_type": 1})
    with pytest.raises(ModelError, match="no axes table for the architecture 't5'"):
        Grow(to={"width": 8}).target(AutoConfig.for_model("t5"))


def test_a_grow_without_sizes_or_with_senseless_ones_is_refused_when_it_is_read() -> None:
    for settings in (
        {"to": {}},
        {"to": {"width": 0}},
        {"to": {"width": 8}, "noise": -1},
        {},
        {"to": {"a": 1}, "wide": 1},
    ):
        with pytest.raises(ValidationError):
            Grow(**settings)


def test_apply_refuses_what_target_refuses() -> None:
    with pytest.raises(ModelError, match="cannot shrink"):
        Grow(to={"width": 8}).apply(make_model("gpt2-tied"))
