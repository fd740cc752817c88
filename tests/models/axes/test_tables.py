"""Every axis of every table against the shapes of real models whose sizes all differ: a wrong table cannot pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from warmstart.errors import ModelError
from warmstart.models.axes import TABLES, Table, table_for
from warmstart.models.axes.table import Axis

# Primes wherever a size may be anything, so that no product of two sizes is a third one.
GPT2 = {"n_embd": 35, "n_head": 5, "n_layer": 3, "n_inner": 61, "vocab_size": 101, "n_positions": 29, "num_labels": 13}
GPT2 |= {"bos_token_id": 0, "eos_token_id": 0}
LLAMA = {
    "hidden_size": 42,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 14,
    "intermediate_size": 61,
    "num_hidden_layers": 3,
    "vocab_size": 101,
    "num_labels": 13,
}
BERT = {
    "hidden_size": 35,
    "num_attention_heads": 5,
    "intermediate_size": 61,
    "num_hidden_layers": 3,
    "vocab_size": 101,
    "max_position_embeddings": 29,
    "type_vocab_size": 3,
    "num_labels": 13,
}
VIT = {
    "hidden_size": 35,
    "num_attention_heads": 5,
    "intermediate_size": 61,
    "num_hidden_layers": 3,
    "image_size": 20,
    "patch_size": 4,
    "num_labels": 13,
    "pooler_output_size": 17,
}
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("gpt2", "GPT2LMHeadModel", GPT2),
    ("gpt2", "GPT2LMHeadModel", GPT2 | {"n_inner": None, "tie_word_embeddings": False}),
    ("gpt2", "GPT2Model", GPT2),
    ("gpt2", "GPT2ForSequenceClassification", GPT2),
    ("llama", "LlamaForCausalLM", LLAMA | {"attention_bias": True, "mlp_bias": True}),
    ("llama", "LlamaForCausalLM", LLAMA | {"tie_word_embeddings": True}),
    ("llama", "LlamaModel", LLAMA),
    ("llama", "LlamaForSequenceClassification", LLAMA),
    ("mistral", "MistralForCausalLM", LLAMA),
    ("qwen2", "Qwen2ForCausalLM", LLAMA),
    ("qwen3", "Qwen3ForCausalLM", LLAMA),
    ("qwen3", "Qwen3ForCausalLM", LLAMA | {"attention_bias": True, "tie_word_embeddings": True}),
    ("qwen3", "Qwen3ForSequenceClassification", LLAMA),
    ("bert", "BertForMaskedLM", BERT),
    ("bert", "BertForMaskedLM", BERT | {"tie_word_embeddings": False}),
    ("bert", "BertForPreTraining", BERT),
    ("bert", "BertForSequenceClassification", BERT),
    ("bert", "BertModel", BERT),
    ("roberta", "RobertaForMaskedLM", BERT),
    ("roberta", "RobertaForMaskedLM", BERT | {"tie_word_embeddings": False}),
    ("roberta", "RobertaForSequenceClassification", BERT),
    ("roberta", "RobertaForTokenClassification", BERT),
    ("roberta", "RobertaModel", BERT),
    ("vit", "ViTForImageClassification", VIT),
    ("vit", "ViTForImageClassification", VIT | {"qkv_bias": False, "head_dim": 11}),
    ("vit", "ViTForMaskedImageModeling", VIT),
    ("vit", "ViTModel", VIT),
]
# Weights of a head that surgery has no axis for; ViT's mask-image decoder writes pixels.
LEFT_OUT = {"ViTForMaskedImageModeling": {"decoder.0.weight", "decoder.0.bias"}}


def build(kind: str, name: str, settings: dict[str, Any]) -> PreTrainedModel:
    config = AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        return getattr(transformers, name)(config)


def size_of(axis: Axis, table: Table, config: PretrainedConfig) -> set[int] | None:
    known = table.sizes(config).along(axis)
    if known is not None:
        return {known}
    if axis == "labels":
        return {config.num_labels, 2}  # BERT's next-sentence head always has two
    if axis == "positions" and config.model_type == "vit":
        return {(config.image_size // config.patch_size) ** 2 + 1}
    name = getattr(table.fields, axis, None)
    return {getattr(config, name)} if name else None


@pytest.mark.parametrize(("kind", "name", "settings"), MODELS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_weight_is_covered_once_and_every_axis_has_the_real_size(
    kind: str, name: str, settings: dict[str, Any]
) -> None:
    model = build(kind, name, settings)
    table = table_for(model.config)
    sizes = [
        s for axis in ("width", "heads", "kv_heads", "mlp", "head_dim") if (s := table.sizes(model.config).along(axis))
    ]
    named = dict(model.named_parameters(remove_duplicate=False))
    for full, parameter in named.items():
        if full in LEFT_OUT.get(name, ()):
            assert table.find(full) is None
            continue
        hits = [p for p, e in table._patterns.items() if e.fullmatch(table.bare(full))]
        assert len(hits) == 1, (full, hits)
        found = table.get(full)
        assert len(found.weight.axes) == parameter.dim(), full
        assert (found.layer is None) == ("{layer}" not in found.pattern)
        for dimension, axes in enumerate(found.weight.axes):
            parts = (axes,) if isinstance(axes, str) else axes
            expected = [size_of(axis, table, model.config) for axis in parts]
            if None not in expected:
                total = {sum(one) for one in [[min(e) for e in expected], [max(e) for e in expected]]}  # type: ignore[type-var]
                assert parameter.shape[dimension] in total, (full, dimension, axes)
            else:
                assert parts == ("fixed",) or axes == "positions", (full, axes)
                assert parameter.shape[dimension] not in sizes, (full, dimension)
        if found.weight.role == "matrix":
            assert found.weight.input is not None
    assert table.layer_list(model) is model.get_submodule(
        table.layers if model.base_model is not model else table.layers.split(".", 1)[1]
    )


def test_every_pattern_of_every_table_is_met_by_some_model() -> None:
    unused = {id(t): set(t.weights) for t in TABLES.values()}
    for kind, name, settings in MODELS:
        model = build(kind, name, settings)
        table = table_for(model.config)
        for full, _ in model.named_parameters(remove_duplicate=False):
            found = table.find(full)
            if found:
                unused[id(table)].discard(found.pattern)
    left = {pattern for patterns in unused.values() for pattern in patterns}
    # Biases that only some relatives of the family have.
    assert left <= {
        "layers.{layer}.mlp.gate_proj.bias",
        "layers.{layer}.mlp.up_proj.bias",
        "layers.{layer}.mlp.down_proj.bias",
    }


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_writers_tied_weights_and_norms_are_in_the_table(kind: str) -> None:
    table = TABLES[kind]
    for writer in table.writers:
        weight = table.weights[f"{writer}.weight"]
        assert weight.axes[weight.output] == "width"
        assert weight.role == "matrix"
    if table.tied:
        assert table.weights[table.tied.head].role == "matrix"
        assert table.weights[table.tied.embedding].role == "embedding"
        assert table.weights[f"{table.tied.norm}.weight"].role == "norm_weight"
    has_norm_bias = any(w.role == "norm_bias" for w in table.weights.values())
    assert has_norm_bias == (table.norm == "layernorm")


def test_the_input_dimension_is_the_one_that_the_layer_sums_over() -> None:
    """A one in one entry of the input must move the outputs by that entry's row of the weight."""
    for kind, name, settings in MODELS[:1] + MODELS[4:5] + MODELS[13:14] + MODELS[23:24]:
        config = AutoConfig.for_model(kind, **settings)
        model = getattr(transformers, name)(config)
        table = table_for(config)
        for full, module in model.named_modules():
            found = table.find(full + ".weight") if full else None
            if found is None or found.weight.role != "matrix" or isinstance(module, torch.nn.Conv2d):
                continue
            assert found.weight.input is not None
            x = torch.zeros(found_shape := module.weight.shape[found.weight.input])
            x[found_shape // 2] = 1.0
            with torch.no_grad():
                difference = module(x[None])[0] - module(torch.zeros_like(x)[None])[0]
                column = module.weight.select(found.weight.input, found_shape // 2)
            torch.testing.assert_close(difference, column, atol=1e-6, rtol=1e-4)


def test_names_of_older_files_and_bare_models() -> None:
    vit, bert, gpt2 = TABLES["vit"], TABLES["bert"], TABLES["gpt2"]
    found = vit.get("vit.encoder.layer.11.attention.attention.query.weight")
    assert (found.pattern, found.layer) == ("layers.{layer}.attention.q_proj.weight", 11)
    assert found.at(3) == "vit.encoder.layer.3.attention.attention.query.weight"
    assert vit.get("encoder.layer.0.output.dense.bias").pattern == "layers.{layer}.mlp.fc2.bias"
    assert bert.get("bert.embeddings.LayerNorm.gamma").pattern == "embeddings.LayerNorm.weight"
    assert gpt2.get("h.1.ln_1.weight").at(11) == "h.11.ln_1.weight"
    assert gpt2.find("h.1.attn.masked_bias") is None


def test_a_model_without_a_table_gets_one_clear_line() -> None:
    with pytest.raises(ModelError, match=r"no axes table for the architecture 't5'.*gpt2, llama.*to add one"):
        table_for(AutoConfig.for_model("t5"))
    with pytest.raises(ModelError, match="does not cover the weight 'nope'"):
        TABLES["gpt2"].get("nope")
    with pytest.raises(ModelError, match="add_cross_attention"):
        TABLES["gpt2"].sizes(AutoConfig.for_model("gpt2", add_cross_attention=True))
