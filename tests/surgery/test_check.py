from __future__ import annotations

import pytest
import torch
from small_models import FOUR_FAMILIES, make_model

from warmstart.errors import ModelError
from warmstart.models.axes import TABLES
from warmstart.surgery.check import check_inputs, compare, real_tokens
from warmstart.surgery.grow import Grow


@pytest.mark.parametrize("name", FOUR_FAMILIES)
def test_a_kept_promise_gives_a_small_difference_and_a_broken_one_an_error(name: str) -> None:
    old = make_model(name)
    grown = Grow(to={"width": 32}).apply(old)
    found = compare(old, grown, promise="exactly")
    assert found.largest < 1e-5
    assert 0 <= found.mean <= found.largest
    assert found.promised == "exactly"
    weight = next(
        p for n, p in grown.named_parameters() if TABLES[old.config.model_type].get(n).weight.role == "matrix"
    )
    weight.data[:] *= 1.05
    with pytest.raises(ModelError, match=r"promised to keep the function exactly, but a logit differs by"):
        compare(old, grown, promise="exactly")
    assert compare(old, grown, promise="approximately").largest > 1e-4


def test_not_a_number_breaks_a_promise() -> None:
    old = make_model("gpt2-tied")
    grown = Grow(to={"width": 32}).apply(old)
    grown.transformer.ln_f.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="promised"):
        compare(old, grown, promise="exactly")


def test_uneven_copies_break_a_promise_of_exactness_by_far() -> None:
    """The limit lies well between rounding and the smallest mistake."""
    old = make_model("gpt2-tied")
    part = Grow(to={"n_embd": 24})
    with pytest.warns(UserWarning, match="approximately"):
        grown = part.apply(old)
    found = compare(old, grown)
    assert found.largest > 100 * 1e-4 * found.spread


def test_tokens_may_have_any_length_and_are_cut_to_the_models_positions() -> None:
    old = make_model("roberta-tied")
    assert check_inputs(old.config, torch.arange(30), 0)[0]["input_ids"].shape == (1, 22)  # 24 less padding's two
    assert check_inputs(make_model("gpt2-tied").config, list(range(30)), 0)[0]["input_ids"].shape == (1, 24)
    compare(old, old, torch.arange(30))
    assert len(check_inputs(old.config, torch.ones(3, 5), 0)) == 3


def test_tokens_outside_the_vocabulary_get_one_clear_line() -> None:
    old = make_model("gpt2-tied")
    with pytest.raises(ModelError, match="token id 37 is outside the model's vocabulary of 37"):
        compare(old, old, torch.tensor([37]))
    with pytest.raises(ModelError, match="token id -1 is outside"):
        compare(old, old, torch.tensor([-1]))


def test_image_models_take_pixels_and_modes_are_put_back() -> None:
    old = make_model("vit").train()
    grown = Grow(to={"width": 24}, width="exact").apply(old)
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert compare(old, grown, pixels, promise="exactly").largest < 1e-5
    assert old.training
    assert grown.training


def test_a_folder_without_a_tokenizer_has_no_real_tokens(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert real_tokens(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{")
    assert real_tokens(tmp_path) is None
