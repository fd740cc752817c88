"""Activation checkpointing: the same numbers, fewer tensors, and a second forward pass that is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import tiny_recipe, write_corpus
from tiny_models import KINDS, TOKENS, build
from transformers import AutoConfig, AutoModel

from warmstart.errors import Interrupted, ModelError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.activations import checkpoint_activations
from warmstart.train.compute import FlopMeter
from warmstart.train.progress import Reporter

DROPOUT = {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}
BERT_DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


def loss(model: Any) -> torch.Tensor:
    """Without a cache, as in training: with one, checkpointed blocks have none, and sums another order."""
    uncached = {} if model.config.model_type == "bert" else {"use_cache": False}
    return torch.nn.functional.cross_entropy(model(input_ids=TOKENS, **uncached).logits.flatten(0, 1), TOKENS.flatten())


def gradients(model: Any, seed: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return list(torch.autograd.grad(loss(model), list(model.parameters())))


@pytest.mark.parametrize(("like", "changes"), [("gpt2", DROPOUT), ("llama", {}), ("bert", BERT_DROPOUT)])
def test_gradients_are_the_same_bit_for_bit(like: str, changes: dict[str, float]) -> None:
    plain, checkpointed = (build(like, **changes).train() for _ in range(2))
    checkpoint_activations(checkpointed)
    with_dropout = gradients(plain)
    for ours, theirs in zip(gradients(checkpointed), with_dropout, strict=True):
        assert torch.equal(ours, theirs)
    if changes:
        assert not torch.equal(with_dropout[0], gradients(plain, seed=4)[0])


def kept_bytes(model: Any) -> int:
    """Bytes of activations that the backward pass holds."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(model)
    return sum(found.values())


def test_less_is_kept() -> None:
    plain, checkpointed = build("llama").train(), build("llama").train()
    checkpoint_activations(checkpointed)
    assert kept_bytes(checkpointed) < kept_bytes(plain) / 3


@pytest.mark.parametrize("like", ["gpt2", "llama", "bert"])
def test_the_second_forward_pass_is_counted(like: str) -> None:
    """All blocks once more, but for what stands after the last product of a block (nothing with a matrix product)."""
    plain, checkpointed = build(like).train(), build(like).train()
    checkpoint_activations(checkpointed)
    costs = [FlopMeter().measure((), lambda model=model: loss(model)) for model in (plain, checkpointed)]  # type: ignore[misc]
    depth, width = 5, 16
    head = 2 * TOKENS.numel() * width * (30 + (width if like == "bert" else 0))  # BERT's has a layer of its own
    forward = FlopMeter().measure_forward((), lambda: loss(plain))
    blocks = forward - head
    # The last product of each block is not computed again: nothing needs what comes out of it.
    inner = {"gpt2": 64, "llama": 24, "bert": 24}[like]
    last = depth * 2 * TOKENS.numel() * width * inner
    assert costs[0] == 3 * forward
    assert costs[1] - costs[0] in (blocks, blocks - last)


def test_frozen_embeddings_are_not_charged() -> None:
    plain, checkpointed = build("llama").train(), build("llama").train()
    checkpoint_activations(checkpointed)
    for model in (plain, checkpointed):
        model.get_input_embeddings().requires_grad_(False)
        for layer in model.model.layers[:4]:
            layer.requires_grad_(False)
    costs = [FlopMeter().measure((), lambda model=model: loss(model)) for model in (plain, checkpointed)]  # type: ignore[misc]
    assert costs[1] < costs[0] * 1.3


def test_two_towers() -> None:
    towers = {
        "text_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
        "vision_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "image_size": 16,
            "patch_size": 8,
        },
    }
    towers["text_config"] |= {"vocab_size": 30, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 0}
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.for_model("clip", projection_dim=8, **towers)).train()
        if checkpointed:
            checkpoint_activations(model)
        output = model(input_ids=TOKENS, pixel_values=torch.ones(2, 3, 16, 16).cumsum(3) / 16)
        used = torch.autograd.grad(output.logits_per_image.sum(), list(model.parameters()), allow_unused=True)
        found.append([gradient for gradient in used if gradient is not None])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_a_model_that_cannot_says_so() -> None:
    class Closed(type(build("llama"))):  # type: ignore[misc]
        supports_gradient_checkpointing = False

    model = Closed(AutoConfig.for_model("llama", vocab_size=30, **KINDS["llama"]))
    with pytest.raises(ModelError, match=r"activation_checkpointing: a llama model \(Closed\) does not support it"):
        checkpoint_activations(model)


def test_a_model_without_blocks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("no block has the flag\nand more")

    model = build("llama")
    monkeypatch.setattr(model, "activation_checkpointing_enable", refuse)
    with pytest.raises(ModelError, match=r"does not support it \(no block has the flag\); set it to false"):
        checkpoint_activations(model)


def test_a_resumed_run_is_the_same_bit_for_bit_and_the_budget_pays(tmp_path: Path) -> None:
    """Dropout on; stopped after half of the steps, and gone on with; the plain run costs less and ends the same."""
    corpus = write_corpus(tmp_path / "corpus.jsonl")

    def facts(folder: str, **train: Any) -> dict[str, Any]:
        raw = tiny_recipe(corpus, steps=8, save_every=4, **train)
        run(Recipe.model_validate(raw), tmp_path / folder, reporter=reporters.get(folder, Reporter()))
        return dict(json.loads((tmp_path / folder / "stages/00-first/stage.json").read_text()))

    class Impatient(Reporter):
        def event(self, kind: str, **values: Any) -> None:
            if kind == "step" and values["fraction"] == 0.5:
                raise Interrupted("here")

    reporters: dict[str, Reporter] = {"stopped": Impatient()}
    whole = facts("whole", activation_checkpointing=True)
    with pytest.raises(Interrupted):
        facts("stopped", activation_checkpointing=True)
    reporters.clear()
    resumed = facts("stopped", activation_checkpointing=True)
    plain = facts("plain")
    assert whole["weights"] == resumed["weights"] == plain["weights"]
    assert whole["final"]["validation/loss"] == plain["final"]["validation/loss"]
    lines = [
        json.loads((tmp_path / folder / "stages/00-first/metrics.jsonl").read_text().splitlines()[-1])
        for folder in ("whole", "plain")
    ]
    assert 1.15 < lines[0]["flops"] / lines[1]["flops"] < 4 / 3
