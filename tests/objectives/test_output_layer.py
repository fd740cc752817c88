"""The loss straight from a model's hidden states: for every kind of head, and the plain path where there is another."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tiny_encoders import SIZES, encoder, random_rows, tokenizer
from tiny_models import KINDS, TOKENS, build
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import AutoConfig, AutoModelForCausalLM

from warmstart.models.build import configuration, new_model
from warmstart.objectives import Batch, Loss, Objective
from warmstart.objectives import chunked_cross_entropy as module
from warmstart.objectives.blocks import NO_TARGET, token_loss
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked
from warmstart.objectives.masked_at_targets import MaskedAtTargets
from warmstart.objectives.output_layer import OutputLayer, output_layer, token_loss_of
from warmstart.randomness import numpy_generator
from warmstart.train.compute import FlopMeter

LABELS = torch.where(TOKENS % 5 == 0, NO_TARGET, (TOKENS * 7) % 30)
SMALL: dict[str, Any] = {**KINDS["llama"], "head_dim": 8, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def _tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few tokens, so that tiny models have several."""
    monkeypatch.setitem(module.CHUNK, "cpu", 200)


def causal(like: str, **changes: Any) -> Any:
    """A tiny causal model with weights so large that its logits are no small numbers."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    sizes = KINDS.get(like, SMALL)
    config = AutoConfig.for_model(like, vocab_size=30, **ids, initializer_range=0.5, **(sizes | changes))
    return AutoModelForCausalLM.from_config(config)


def gradients(total: torch.Tensor, model: nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(total, list(model.parameters())))


def assert_same(model: nn.Module, tolerance: float = 1e-5, **given: Any) -> None:
    """Loss, every row's loss and all gradients are those of the plain path, and no logits were made."""
    given = given or {"input_ids": TOKENS}
    wanted = token_loss(model(**given).logits, LABELS)
    made: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda m, i, o: made.append(o.numel()))  # type: ignore[operator]
    found = token_loss_of(model, LABELS, **given)
    hook.remove()
    assert made[-1] == 0
    assert found.logits is None
    torch.testing.assert_close(found.total, wanted.total, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.per_row, wanted.per_row, rtol=tolerance, atol=tolerance)
    assert int(found.targets) == int(wanted.targets)
    pairs = zip(gradients(found.total, model), gradients(wanted.total, model), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=100 * tolerance, atol=10 * tolerance * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("like", "settings", "law"),
    [
        ("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, (1.0, None)),
        ("llama", {}, (1.0, None)),
        ("gemma2", {"final_logit_softcapping": 5.0}, (1.0, 5.0)),
        ("granite", {"logits_scaling": 13.0}, (1 / 13, None)),
        ("cohere", {"logit_scale": 0.0625}, (0.0625, None)),
        ("phi", {}, (1.0, None)),  # a bias
    ],
)
def test_causal_heads(like: str, settings: dict[str, Any], law: tuple[float, float | None]) -> None:
    model = causal(like, **settings)
    found = output_layer(model)
    assert isinstance(found, OutputLayer), found
    assert found.layer is model.get_output_embeddings()
    assert found.scale == pytest.approx(law[0], rel=1e-6)
    assert found.cap == (law[1] and pytest.approx(law[1], rel=1e-6))
    assert_same(model)


@pytest.mark.parametrize("like", ["bert", "roberta", "modernbert", "distilbert", "albert", "electra"])
def test_masked_heads(like: str) -> None:
    """A transform and a bias; labels of one place in seven."""
    sizes = SIZES
    if like == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0}
    if like == "modernbert":
        sizes = {name: size for name, size in SIZES.items() if not name.endswith("dropout_prob")}
    model = new_model(configuration(like, sizes, tokenizer()), "masked", 0).train()
    batch = Masked(rate=0.15).collate(random_rows(count=4), tokenizer(), numpy_generator(0))
    assert_agree(Masked(), model, batch)
    assert_agree(MaskedAtTargets(), model, MaskedAtTargets().collate(random_rows(4), tokenizer(), numpy_generator(0)))


def assert_agree(objective: Objective, model: nn.Module, batch: Batch) -> None:
    """`loss_without_logits` is `loss`; in evaluation it also says how many guesses are right."""
    wanted, found = objective.loss(model, batch), objective.loss_without_logits(model, batch)
    assert isinstance(output_layer(model), OutputLayer)
    torch.testing.assert_close(found.total, wanted.total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.per_row, wanted.per_row, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients_of_all(found, model), gradients_of_all(wanted, model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        pair = objective.loss(model, batch).without_logits(batch), objective.loss_without_logits(model, batch)
        assert pair[0].right is not None
        assert int(pair[0].right) == int(pair[1].right or 0)
    costs = [
        FlopMeter().measure((), lambda loss=loss: loss(model, batch).total)  # type: ignore[misc]
        for loss in (objective.loss, objective.loss_without_logits)
    ]
    assert costs[0] == costs[1]


def gradients_of_all(loss: Loss, model: nn.Module) -> list[torch.Tensor]:
    used = torch.autograd.grad(loss.total, list(model.parameters()), allow_unused=True)
    return [gradient for gradient in used if gradient is not None]


def test_causal_objective() -> None:
    model = causal("llama")
    batch = {"input_ids": TOKENS, "position_ids": torch.arange(12).expand(2, -1), "labels": LABELS}
    assert_agree(Causal(), model, batch)


def test_in_float64_to_the_last_digits() -> None:
    for like, settings in (("llama", {}), ("gemma2", {"final_logit_softcapping": 5.0}), ("cohere", {})):
        model = causal(like, **settings).double()
        logits = model(input_ids=TOKENS).logits
        wanted = nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.flatten(), ignore_index=NO_TARGET)
        found = token_loss_of(model, LABELS, input_ids=TOKENS).total
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        for ours, theirs in zip(gradients(found, model), gradients(wanted, model), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


class AddedLater(nn.Module):
    """A model that does something of its own to its logits."""

    def __init__(self, model: nn.Module, change: Any) -> None:
        super().__init__()
        self.model, self.change, self.config = model, change, model.config

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()  # type: ignore[operator]

    def forward(self, **given: Any) -> Any:
        output = self.model(**given)
        output.logits = self.change(output.logits)
        return output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits: logits + torch.arange(logits.shape[-1]) / 100, "does more to its logits than"),
        (lambda logits: logits.clamp(-50, 50), "does more to its logits than"),
        (lambda logits: -logits, "does more to its logits than"),
        (lambda logits: logits[..., :-1], "makes logits"),
        (lambda logits: logits.reshape(1, -1)[:, 100000], "could not be tried out: IndexError"),
    ],
)
def test_other_heads_take_the_plain_path_and_say_why(change: Any, reason: str) -> None:
    model = AddedLater(causal("llama"), change)
    found = output_layer(model)
    assert isinstance(found, str)
    assert reason in found
    if "IndexError" in reason:
        return
    with pytest.warns(UserWarning, match=f"the logits exist in full.*{reason}"):
        loss = token_loss_of(model, LABELS.clamp(max=28), input_ids=TOKENS)
    wanted = token_loss(model(input_ids=TOKENS).logits, LABELS.clamp(max=28))
    assert torch.equal(loss.total, wanted.total)
    assert loss.logits is None


def test_a_layer_that_is_not_linear_takes_the_plain_path() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = causal("llama")
    model.lm_head = Doubled(16, 30)
    assert "is no plain linear layer but Doubled" in str(output_layer(model))
    assert "has no output layer" in str(output_layer(encoder(head="none")))


def test_small_logits_take_the_plain_path_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = causal("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = token_loss_of(model, LABELS, input_ids=TOKENS)
    assert torch.equal(loss.total, token_loss(model(input_ids=TOKENS).logits, LABELS).total)
    assert not hasattr(model, "_warmstart_output_layer")


def test_finding_out_leaves_no_trace() -> None:
    model = build("gpt2").train()
    model.register_buffer("seen", torch.zeros(()))
    model.register_forward_pre_hook(lambda module, inputs: module.seen.add_(torch.rand(()) + 1) and None)  # type: ignore[operator]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert isinstance(output_layer(model), OutputLayer)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not model.lm_head._forward_hooks
    assert not model.lm_head._forward_pre_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_copy_and_a_new_head_are_looked_at_again() -> None:
    model = causal("llama")
    output_layer(model)
    twin = copy.deepcopy(model)
    found = output_layer(twin)
    assert isinstance(found, OutputLayer)
    assert found.layer is twin.lm_head is not model.lm_head
    model.resize_token_embeddings(40)
    found = output_layer(model)
    assert isinstance(found, OutputLayer)
    assert found.layer.out_features == 40
    assert_same(model)


def test_an_error_in_the_model_takes_the_hooks_away() -> None:
    model = causal("llama")
    output_layer(model)
    with pytest.raises(ValueError, match="input_ids"):
        token_loss_of(model, LABELS)
    assert not model.lm_head._forward_hooks
    assert not model._forward_hooks
    assert_same(model)


@pytest.mark.slow
def test_compiled_it_is_one_graph_and_the_same() -> None:
    """One graph for the model and its loss together, compiled once and not again at every call."""
    model = causal("llama", num_hidden_layers=1)
    output_layer(model)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(token_loss_of, dynamic=False, backend=counter)
    wanted = token_loss_of(model, LABELS, input_ids=TOKENS)
    gradient = gradients(wanted.total, model)
    for _ in range(3):
        found = compiled(model, LABELS, input_ids=TOKENS)
        torch.testing.assert_close(found.total, wanted.total)
        for ours, theirs in zip(gradients(found.total, model), gradient, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert counter.frame_count == 1
    assert sum("autograd_function_apply" in str(node.target) for node in counter.graphs[0].graph.nodes) == 1
