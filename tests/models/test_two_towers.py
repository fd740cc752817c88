"""Models with two towers: built from a recipe, asked for embeddings, saved, frozen on one side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_text import LIKE, TINY_CLIP, tokenizer, two_towers
from transformers import AutoModel

from warmstart.errors import ModelError
from warmstart.models.build import configuration, new_model
from warmstart.models.load import load_model
from warmstart.models.save import save_model
from warmstart.models.two_towers import (
    embed,
    embed_images,
    embed_texts,
    frozen_image_tower,
    image_size,
    text_length,
    unit,
    width,
)

SETTINGS = {name: value for name, value in TINY_CLIP.items() if name != "like"}
IDS = torch.tensor([[70, 71, 0, 0], [72, 0, 0, 0]])
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])
PIXELS = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)


@pytest.mark.parametrize("like", list(LIKE))
def test_one_way_to_ask_all_kinds(like: str) -> None:
    model = two_towers(like).eval()
    found, output = embed(model, IDS, PIXELS, MASK), model(input_ids=IDS, pixel_values=PIXELS, attention_mask=MASK)
    torch.testing.assert_close(unit(found.image), output.image_embeds)
    torch.testing.assert_close(unit(found.text), output.text_embeds)
    torch.testing.assert_close(found.image, embed_images(model, PIXELS))
    torch.testing.assert_close(found.text, embed_texts(model, IDS, MASK))
    assert not torch.allclose(found.image.norm(dim=1), torch.ones(2), atol=1e-3)
    assert (image_size(model), text_length(model), width(model)) == (16, 12, found.image.shape[1])


@pytest.mark.parametrize("like", list(LIKE))
def test_saved_models_open_with_plain_transformers(like: str, tmp_path: Path) -> None:
    model = two_towers(like).eval()
    save_model(model, tokenizer(), tmp_path / "m")
    for again in (AutoModel.from_pretrained(tmp_path / "m").eval(), load_model(tmp_path / "m", "image-text").eval()):
        assert type(again) is type(model)
        assert torch.equal(embed_images(again, PIXELS), embed_images(model, PIXELS))


def test_the_vocabulary_is_the_text_towers() -> None:
    config = configuration("clip", SETTINGS, tokenizer())
    text = config.get_text_config()
    assert (text.vocab_size, text.eos_token_id, text.pad_token_id) == (len(tokenizer()), 0, 0)
    assert SETTINGS["text_config"].keys().isdisjoint({"vocab_size"})  # the recipe's own mapping is left alone
    assert configuration("clip", {"text_config": {"vocab_size": 999}}, tokenizer()).text_config.vocab_size == 999


def test_the_shape_of_a_given_model_with_changes_inside(tmp_path: Path) -> None:
    save_model(two_towers(), tokenizer(), tmp_path)
    config = configuration(str(tmp_path), {"vision_config": {"num_hidden_layers": 1}}, tokenizer())
    assert (config.vision_config.num_hidden_layers, config.vision_config.hidden_size) == (1, 16)
    assert config.text_config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("like", "settings", "message"),
    [
        ("clip", {"text_config": {"hiden_size": 3}}, r"init\.text_config\.hiden_size: .*did you mean 'hidden_size'"),
        ("clip", {"vision_config": 3}, r"init\.vision_config: expected a mapping of fields, found 3"),
        ("clip", {"vison_config": {}}, r"did you mean 'vision_config'"),
        (
            "vision-text-dual-encoder",
            {"text_config": {"model_type": "bertt"}},
            r"init\.text_config\.model_type: transformers has no model type 'bertt' \(did you mean 'bert'",
        ),
    ],
)
def test_fields_that_there_are_not(like: str, settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        configuration(like, settings, tokenizer())


def test_a_model_with_one_tower_has_no_such_head() -> None:
    with pytest.raises(ModelError, match="no gpt2 model with a image-text head"):
        new_model(configuration("gpt2", {}, tokenizer()), "image-text", 0)


def test_a_frozen_image_tower_has_no_gradient_and_is_as_before_afterwards() -> None:
    model = two_towers()
    model.visual_projection.weight.requires_grad_(False)
    with frozen_image_tower(model):
        found = embed(model, IDS, PIXELS, MASK)
        assert not model.vision_model.training
        assert model.text_model.training
    assert not found.image.requires_grad
    assert found.text.requires_grad
    assert model.vision_model.training
    assert all(p.requires_grad for p in model.vision_model.parameters())
    assert not model.visual_projection.weight.requires_grad
