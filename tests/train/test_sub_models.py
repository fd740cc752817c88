"""Two-stage training's sub-models: what they compute, what moves, what a step costs."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import DEPTH, KINDS, TOKENS, build, loss

from warmstart.errors import ModelError
from warmstart.train.compute import FlopMeter
from warmstart.train.optimizers.adamw import AdamW
from warmstart.train.trainable.sub_models import SubModels


def layer_of(name: str) -> int | None:
    return next((int(word) for word in name.split(".") if word.isdigit()), None)


@pytest.mark.parametrize("like", KINDS)
def test_forward_equals_a_model_of_that_depth(like: str) -> None:
    model = build(like)
    small = build(like, **{DEPTH[like]: 2})
    small.load_state_dict({k: v for k, v in model.state_dict().items() if k in small.state_dict()})
    with SubModels(layers=2).during(model, "2"):
        inside = model(input_ids=TOKENS).logits
    assert torch.equal(inside, small(input_ids=TOKENS).logits)
    assert not torch.allclose(inside, model(input_ids=TOKENS).logits)


@pytest.mark.parametrize("like", KINDS)
def test_only_the_top_layers_and_the_head_move(like: str) -> None:
    model = build(like)
    trainable = SubModels(layers=2)
    before = copy.deepcopy(model.state_dict())
    optimizer = AdamW(weight_decay=0.5).start(model, 0.1)
    with trainable.during(model, "4"):
        loss(model).backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {layer for name in moved if (layer := layer_of(name)) is not None} == {2, 3}
    embedding = {
        "gpt2": "transformer.wte.weight",
        "llama": "model.embed_tokens.weight",
        "bert": "bert.embeddings.word_embeddings.weight",
    }
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (embedding[like] in moved) == tied
    assert not any("position" in name or "wpe" in name for name in moved)


@pytest.mark.parametrize("like", KINDS)
def test_weights_without_a_gradient_keep_their_moments_too(like: str) -> None:
    """AdamW passes over them: no decay, no step from old momentum, no change of the moments."""
    model = build(like)
    optimizer = AdamW(weight_decay=0.5).start(model, 0.1)
    loss(model).backward()  # every weight has momentum now
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    before = copy.deepcopy([(p.detach(), optimizer.state[p]) for p in model.parameters()])
    with SubModels(layers=2).during(model, "4"):
        loss(model).backward()
    optimizer.step()
    rested = 0
    for parameter, (weight, moments) in zip(model.parameters(), before, strict=True):
        if parameter.grad is None:
            rested += 1
            assert torch.equal(parameter, weight)
            assert all(torch.equal(optimizer.state[parameter][name], moments[name]) for name in moments)
        else:
            assert not torch.equal(optimizer.state[parameter]["exp_avg"], moments["exp_avg"])
    assert 0 < rested < len(before)


def test_everything_is_undone_even_after_an_error() -> None:
    model = build("gpt2")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    logits = model(input_ids=TOKENS).logits
    with pytest.raises(ZeroDivisionError), SubModels(layers=1).during(model, "2"):
        raise ZeroDivisionError
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names
    assert torch.equal(model(input_ids=TOKENS).logits, logits)
    loss(model).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_head_alone_gives_the_tied_gradient() -> None:
    model = build("gpt2")
    with SubModels(layers=5).during(model, "5"):
        loss(model).backward()
    cut = model.transformer.wte.weight.grad.clone()
    model.zero_grad()
    hidden = model.transformer(input_ids=TOKENS).last_hidden_state.detach()
    logits = torch.nn.functional.linear(hidden, model.transformer.wte.weight)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS.flatten()).backward()
    torch.testing.assert_close(cut, model.transformer.wte.weight.grad)


def test_cost_is_own_depth_forward_and_the_top_layers_backward() -> None:
    model = build("gpt2")
    meter = FlopMeter()

    def cost(depth: str) -> float:
        with SubModels(layers=2).during(model, depth):
            return meter.measure((depth,), lambda: loss(model))

    layer = meter.measure_forward(("layer",), lambda: model.transformer.h[0](torch.randn(2, 12, 16)))
    head = meter.measure_forward(("head",), lambda: model.lm_head(torch.randn(2, 12, 16)))
    for depth in (2, 4, 5):
        assert cost(str(depth)) == depth * layer + 2 * 2 * layer + 3 * head


def test_depths_and_draws() -> None:
    model = build("gpt2")
    part = SubModels(layers=2)
    assert part.depths(5) == [2, 4, 5]
    assert part.depths(4) == [2, 4]
    draws = [part.choose(step, 1, model) for step in range(300)]
    assert draws == [part.choose(step, 1, model) for step in range(300)]
    assert all(80 < draws.count(depth) < 120 for depth in ("2", "4", "5"))
    assert draws != [part.choose(step, 2, model) for step in range(300)]
    with pytest.raises(ModelError, match="5 layers"):
        SubModels(layers=6).prepare(model)
