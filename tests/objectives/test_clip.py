"""CLIP's and SigLIP's losses against those of transformers, and batches of pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from image_text import LIKE, pairs, pairs_recipe, tokenizer, two_towers
from pydantic import ValidationError

from warmstart.errors import DataError, ModelError
from warmstart.models.build import configuration, new_model
from warmstart.objectives.clip import Clip, clip_loss
from warmstart.objectives.pairs import caption_batch
from warmstart.objectives.siglip import Siglip, siglip_loss
from warmstart.recipe import Recipe


def batch_for(model: Any, objective: Any, count: int = 6) -> tuple[Any, dict[str, torch.Tensor]]:
    fitted = objective.for_model(model)
    return fitted, fitted.collate(pairs(count), tokenizer(), np.random.default_rng(0))


def given(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "pixel_values", "attention_mask")}


@pytest.mark.parametrize("like", ["clip", "vision-text-dual-encoder"])
def test_the_loss_is_that_of_transformers(like: str) -> None:
    model = two_towers(like).eval()
    objective, batch = batch_for(model, Clip(augment="none"))
    loss, theirs = objective.loss(model, batch), model(**given(batch), return_loss=True)
    torch.testing.assert_close(loss.total, theirs.loss)
    assert loss.right == (theirs.logits_per_image.argmax(dim=1) == torch.arange(6)).sum()
    assert loss.per_row is not None
    torch.testing.assert_close(loss.per_row.mean(), loss.total.detach())
    ours, wanted = (torch.autograd.grad(x, model.visual_projection.weight)[0] for x in (loss.total, theirs.loss))
    torch.testing.assert_close(ours, wanted)


def test_the_sigmoid_loss_is_that_of_transformers() -> None:
    model = two_towers("siglip").eval()
    objective, batch = batch_for(model, Siglip(augment="none"))
    assert objective.start(model) is None
    assert (model.logit_scale.item(), model.logit_bias.item()) == (pytest.approx(math.log(10)), -10)
    theirs = model(**given(batch), return_loss=True).loss
    torch.testing.assert_close(objective.loss(model, batch).total, theirs)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    objective.start(model)  # a trained model keeps what it has
    assert float(model.logit_scale) == 1.0


def test_the_sigmoid_loss_counts_every_answer_by_itself() -> None:
    draw = np.random.default_rng(0)
    image, text = (torch.from_numpy(draw.normal(size=(4, 3))).float() for _ in range(2))
    found = siglip_loss(image, text, torch.tensor(1.5), torch.tensor(-2.0))
    total = 0.0
    for i in range(4):
        for j in range(4):
            cosine = float(torch.cosine_similarity(image[i].double(), text[j].double(), dim=0))
            total += math.log1p(math.exp(-(1 if i == j else -1) * (math.exp(1.5) * cosine - 2)))
    assert float(found.total) == pytest.approx(total / 4, rel=1e-5)


def test_a_model_without_a_bias_gets_one() -> None:
    model = two_towers("clip")
    objective, batch = batch_for(model, Siglip())
    bias = objective.start(model)
    assert bias is not None
    objective.loss(model, batch, bias).total.backward()
    assert bias.bias.grad is not None
    assert model.logit_scale.grad is not None
    with pytest.raises(ModelError, match="needs the bias"):
        objective.loss(model, batch)


def test_the_scale_stays_within_its_bounds() -> None:
    model = two_towers()
    objective, batch = batch_for(model, Clip())
    for start, kept in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            model.logit_scale.fill_(start)
        loss = objective.loss(model, batch)
        assert float(model.logit_scale) == pytest.approx(kept)
        assert float(loss.parts["scale"]) == pytest.approx(math.exp(kept), rel=1e-5)


def test_perfect_pairs_have_no_loss() -> None:
    loss = clip_loss(torch.eye(5), 3 * torch.eye(5), torch.tensor(math.log(100)))
    assert float(loss.total) < 1e-6
    assert (int(loss.targets), int(loss.right)) == (5, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("like", list(LIKE))
def test_every_kind_of_model_trains(like: str) -> None:
    model = two_towers(like)
    objective, batch = batch_for(model, Clip())
    objective.loss(model, batch).total.backward()
    for name in ("vision_model", "text_model"):
        assert any(p.grad is not None and p.grad.any() for p in getattr(model, name).parameters()), name


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_captions_are_cut_and_padded_to_one_length() -> None:
    words = tokenizer()
    end = words.eos_token_id
    batch = caption_batch(["a", "a small red circle in the middle of nowhere and more"], words, 8)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.shape == mask.shape == (2, 8)
    assert mask.sum(dim=1).tolist() == [2, 8]
    assert ids[0].tolist() == [words("a")["input_ids"][0], *[end] * 7]
    assert ids[1, -1] == end
    assert not (ids[1, :-1] == end).any()


def test_a_batch_follows_from_the_generator_alone() -> None:
    model = two_towers()
    objective = Clip(augment="strong").for_model(model)
    one, again, other = (objective.collate(pairs(5), tokenizer(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["pixel_values"], other["pixel_values"])
    assert torch.equal(one["input_ids"], other["input_ids"])
    assert one["numbers"].tolist() == [0, 1, 2, 3, 4]
    assert one["pixel_values"].shape == (5, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, r"row 'shapes-0:0' of source 'shapes' has no caption \(column 'text'\)"),
        ({"image": None}, r"row 'shapes-0:0' of source 'shapes' has no picture \(column 'image'\)"),
        ({"image": "./none.png"}, r"'\./none\.png' cannot be read"),
        ({"tokens": np.zeros(3)}, r"data\.packing: rows"),
    ],
)
def test_rows_that_are_no_pairs(change: dict[str, Any], message: str) -> None:
    objective = Clip().for_model(two_towers())
    with pytest.raises(DataError, match=message):
        objective.collate([pairs(1)[0] | change], tokenizer(), np.random.default_rng(0))
    if change.get("image") != "./none.png":
        with pytest.raises(DataError, match=message):
            objective.start(two_towers(), tokenizer(), [pairs(1)[0] | change])


def test_models_and_settings_that_do_not_fit() -> None:
    gpt2 = new_model(configuration("gpt2", {"n_layer": 1, "n_embd": 8, "n_head": 1}, tokenizer()), "causal", 0)
    with pytest.raises(ModelError, match="needs a model with an image tower and a text tower"):
        Clip().for_model(gpt2)
    with pytest.raises(ModelError, match="length 99 is more than the text tower's 12 tokens"):
        Clip(length=99).for_model(two_towers())
    with pytest.raises(ModelError, match=r"use objective\.for_model\(model\)"):
        Clip().collate(pairs(1), tokenizer(), np.random.default_rng(0))
    with pytest.raises(ValidationError, match="compares all rows of a step"):
        Recipe.model_validate(pairs_recipe(accumulate=2))


@pytest.mark.parametrize("kind", [Clip, Siglip])
def test_examples(kind: Any) -> None:
    names = run_example(
        kind, Clip=Clip, Siglip=Siglip, torch=torch, np=np, model=two_towers(), tokenizer=tokenizer(), rows=pairs(4)
    )
    assert names["loss"].total.isfinite()
