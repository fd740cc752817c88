"""The first layers of an encoder compute what they did inside the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from docstring_examples import run_example
from tiny_encoders import SIZES, encoder, tokenizer

from warmstart.errors import ModelError
from warmstart.models.build import configuration, new_model
from warmstart.models.layers import depth_of, first_layers, layer_states
from warmstart.models.load import load_model
from warmstart.surgery.check import compare
from warmstart.surgery.truncate_encoder import TruncateEncoder


def made(like: str) -> Any:
    if like != "modernbert":
        return encoder(like, "embedding", num_hidden_layers=3).eval()
    sizes = {name: size for name, size in SIZES.items() if "dropout" not in name} | {"num_hidden_layers": 3}
    special = {"cls_token_id": 2, "sep_token_id": 3}
    return new_model(configuration(like, sizes | special | {"local_attention": 8}, tokenizer()), "embedding", 0).eval()


@pytest.mark.parametrize("like", ["bert", "roberta", "electra", "modernbert"])
def test_the_output_is_the_hidden_state_of_the_whole(like: str, tmp_path: Path) -> None:
    """Must hold 7; in a model with a final norm (ModernBERT) the state after that norm."""
    model = made(like)
    ids = torch.arange(5, 45).view(2, 20)
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    with torch.no_grad():
        states = layer_states(model, range(4), input_ids=ids, attention_mask=mask)
        hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for layers in (1, 2, 3):
            small = TruncateEncoder(layers=layers).apply(model)
            small.save_pretrained(tmp_path / str(layers))
            for one in (small, load_model(tmp_path / str(layers), "embedding")):
                found = one(input_ids=ids, attention_mask=mask).last_hidden_state
                torch.testing.assert_close(found, states[layers], atol=1e-5, rtol=0)
            if like != "modernbert":
                torch.testing.assert_close(states[layers], hidden[layers], atol=0, rtol=0)
            assert depth_of(small) == small.config.num_hidden_layers == layers
            assert small.num_parameters() < model.num_parameters() or layers == 3
    torch.testing.assert_close(states[3], hidden[3], atol=0, rtol=0)
    assert depth_of(model) == 3


def test_a_model_with_a_head_keeps_it() -> None:
    model = encoder("bert", "masked", num_hidden_layers=3).eval()
    small = first_layers(model, 1)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    assert small(input_ids=torch.tensor([[2, 9, 3]])).logits.shape == (1, 3, 300)
    assert small.cls is not model.cls


def test_a_head_is_handed_nothing_when_layers_are_asked_for() -> None:
    model = encoder("bert", "masked", num_hidden_layers=3).eval()
    sizes: list[Any] = []
    model.cls.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape)))
    ids = torch.tensor([[2, 9, 3]])
    (state,) = layer_states(model, [2], input_ids=ids)
    assert sizes == [(1, 0, 32)]
    torch.testing.assert_close(state, model.bert(input_ids=ids, output_hidden_states=True).hidden_states[2])


def test_what_it_promises() -> None:
    model = encoder(head="embedding", num_hidden_layers=3)
    assert TruncateEncoder(layers=3).preserves(model.config)[0] == "exactly"
    compare(model, TruncateEncoder(layers=3).apply(model), promise="exactly")
    assert TruncateEncoder(layers=2).preserves(model.config)[0] == "nothing"
    with pytest.raises(ModelError, match="layers 4 of a model with 3"):
        TruncateEncoder(layers=4).apply(model)
    with pytest.raises(ModelError, match="give a number from 1 to 3"):
        first_layers(model, 0)
    with pytest.raises(ModelError, match="layer 5 of a model with 3"):
        layer_states(model, [5], input_ids=torch.tensor([[2]]))
    shared = new_model(configuration("albert", SIZES | {"embedding_size": 16}, tokenizer()), "embedding", 0)
    with pytest.raises(ModelError, match="no single list of its 2 layers"):
        first_layers(shared, 1)


def test_example(tmp_path: Path) -> None:
    run_example(TruncateEncoder, TruncateEncoder=TruncateEncoder, model=encoder(head="embedding"), folder=tmp_path)
    assert load_model(tmp_path, "embedding").config.num_hidden_layers == 1
