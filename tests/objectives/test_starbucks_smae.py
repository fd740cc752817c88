"""Starbucks SMAE: two masks, the head on a few dimensions, the decoder, and what the loss is made of."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_encoders import alone, encoder, given_tokens, part_of, random_rows, tokenizer
from torch.nn import functional

from warmstart.errors import DataError, ModelError
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Batch
from warmstart.objectives.bidirectional import vocabulary_of
from warmstart.objectives.dual_masks import dual_whole_word_masks
from warmstart.objectives.prefix_head import PrefixHead
from warmstart.objectives.starbucks_smae import StarbucksSMAE

SIZES = [(1, 8), (2, 32)]


def texts(count: int = 4, padding: int = 28, length: int = 128) -> list[Any]:
    return alone(random_rows(count, length=length, document=length, padding=padding))


def collated(rows: list[Any], seed: int = 0, **settings: Any) -> Batch:
    return StarbucksSMAE(**settings).collate(rows, tokenizer(), np.random.default_rng(seed))


def test_the_two_masks() -> None:
    """Must hold 5, and what becomes of what is hidden."""
    rows = texts(120)  # 100 real tokens each
    tokens, batch = torch.from_numpy(given_tokens(rows)), collated(rows)
    inner, outer = batch["labels"] != -100, batch["decoder_labels"] != -100
    assert not (inner & ~outer).any()
    assert not outer[:, 100:].any()  # padding
    assert not outer[tokens < 5].any()  # special tokens
    ordinary = int((tokens >= 5).sum())
    assert ordinary > 10_000
    assert inner.sum() / ordinary == pytest.approx(0.2, abs=0.02)
    assert outer.sum() / ordinary == pytest.approx(0.4, abs=0.02)
    assert torch.equal(batch["labels"][inner], tokens[inner])
    assert torch.equal(batch["decoder_labels"][outer], tokens[outer])
    for name, mask in (("input_ids", inner), ("decoder_ids", outer)):
        seen = batch[name]
        assert torch.equal(seen[~mask], tokens[~mask])
        assert (seen[mask] == 4).float().mean() == pytest.approx(0.8, abs=0.03)
        kept = (seen[mask] == tokens[mask]).float().mean()
        assert kept == pytest.approx(0.1 + 0.1 / 295, abs=0.03)
    words = vocabulary_of(tokenizer()).words
    starts = words.starts(tokens.numpy(), np.stack([row["documents"] for row in rows]))
    for row in range(len(rows)):
        numbers = np.cumsum(starts[row])
        for mask in (inner[row].numpy(), outer[row].numpy()):
            assert not set(numbers[mask]) & set(numbers[~mask])
    for places, labels in (("places", "labels"), ("decoder_places", "decoder_labels")):
        for row in range(len(rows)):
            found = batch[places][row][batch[places][row] >= 0]
            assert torch.equal(found, torch.nonzero(batch[labels][row] != -100)[:, 0])
    assert batch["decoder_weights"].sum() == pytest.approx(int(inner.sum()), rel=1e-4)


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0.01, 0.5), st.floats(0, 0.49))
def test_masks_of_any_text(seed: int, length: int, smaller: float, more: float) -> None:
    draw = np.random.default_rng(seed)
    starts, candidates = draw.random((3, length)) < 0.6, draw.random((3, length)) < 0.8
    starts[:, 0] = True
    inner, outer = dual_whole_word_masks(starts, candidates, smaller, smaller + more, draw)
    assert not (inner & ~outer).any()
    assert not (outer & ~candidates).any()
    for row in range(3):
        count = candidates[row].sum()
        assert outer[row].sum() <= max(1, round((smaller + more) * count))
        assert inner[row].sum() <= max(1, round(smaller * count))
        numbers = np.cumsum(starts[row])
        assert not set(numbers[outer[row]]) & set(numbers[~outer[row]])
        assert not set(numbers[inner[row]]) & set(numbers[~inner[row]])


@pytest.mark.parametrize("like", ["bert", "roberta"])
def test_the_head_on_a_prefix_is_the_head_on_zeros_beyond_it(like: str) -> None:
    """Must hold 4, against the model's own head."""
    model = encoder(like, "masked")
    own = model.cls if like == "bert" else model.lm_head
    states = torch.randn(3, 5, 32, generator=torch.manual_seed(0))
    for width in (1, 8, 31, 32):
        padded = functional.pad(states[..., :width], (0, 32 - width))
        torch.testing.assert_close(PrefixHead(model)(states[..., :width]), own(padded), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("like", ["bert", "roberta"])
def test_the_loss_is_that_of_the_definition(like: str) -> None:
    """Computed again with logits everywhere, zeros beyond the prefix, and the decoder written out."""
    objective, model = StarbucksSMAE(sizes=SIZES), encoder(like, "masked", initializer_range=0.3)  # all is felt
    decoder = objective.start(model)
    batch = objective.collate(texts(), tokenizer(), np.random.default_rng(0))
    loss = objective.loss(model, batch, decoder)
    trunk = model.base_model
    own = model.cls.predictions if like == "bert" else model.lm_head
    first = 0 if like == "bert" else 1 + trunk.config.pad_token_id
    given = {"attention_mask": batch["attention_mask"], "position_ids": batch["position_ids"] + first}
    states = trunk(input_ids=batch["input_ids"], output_hidden_states=True, **given).hidden_states
    total = torch.zeros(())
    for layer, width in SIZES:
        narrow = functional.pad(states[layer][..., :width], (0, 32 - width))
        transformed = own.transform(narrow) if like == "bert" else own.layer_norm(functional.gelu(own.dense(narrow)))
        filled = functional.cross_entropy(own.decoder(transformed).flatten(0, 1), batch["labels"].flatten())
        embedded = trunk.embeddings(input_ids=batch["decoder_ids"], position_ids=given["position_ids"]).clone()
        embedded[:, 0] = transformed[:, 0]
        closed = torch.zeros(4, 1, 1, 128).masked_fill(~batch["attention_mask"][:, None, None], -1e9)
        out = decoder.network.encoder.layer[0](embedded, attention_mask=closed)
        decoded = own(out[0] if isinstance(out, tuple) else out)
        total = (
            total + (filled + functional.cross_entropy(decoded.flatten(0, 1), batch["decoder_labels"].flatten())) / 4
        )
    torch.testing.assert_close(loss.total, total, atol=1e-5, rtol=1e-6)
    assert set(loss.parts) == {"1x8/mlm", "1x8/mae", "2x32/mlm", "2x32/mae"}
    torch.testing.assert_close(loss.total.detach(), torch.stack(list(loss.parts.values())).mean())
    assert loss.targets == (batch["labels"] != -100).sum()


def test_the_decoder_begins_as_the_first_layer_and_shares_the_rest() -> None:
    model = encoder("bert", "masked", num_hidden_layers=3)
    decoder = StarbucksSMAE().start(model)
    trunk, network = model.base_model, decoder.network
    assert network.embeddings is trunk.embeddings
    assert len(network.encoder.layer) == 1
    for own, theirs in zip(network.encoder.parameters(), trunk.encoder.layer[0].parameters(), strict=True):
        assert own is not theirs
        assert torch.equal(own, theirs)
    assert len(trunk.encoder.layer) == trunk.config.num_hidden_layers == 3
    assert network.config.num_hidden_layers == 1


def test_upper_layers_learn_only_from_larger_sizes() -> None:
    """Must hold 6."""
    for sizes in ([(2, 8)], [(2, 8), (4, 32)]):
        model = encoder("bert", "masked", num_hidden_layers=4)
        objective = StarbucksSMAE(sizes=sizes, allow_partial=True)
        decoder = objective.start(model)
        batch = objective.collate(texts(), tokenizer(), np.random.default_rng(0))
        objective.loss(model, batch, decoder).total.backward()
        for number, layer in enumerate(model.bert.encoder.layer, start=1):
            learns = any(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
            assert learns == (number <= sizes[-1][0])
        assert all(p.grad is not None for p in decoder.parameters())


def test_micro_batches_add_up() -> None:
    objective, model = StarbucksSMAE(sizes=SIZES), encoder("bert", "masked")
    decoder = objective.start(model)
    batch = objective.collate(texts(3) + texts(5, padding=90), tokenizer(), np.random.default_rng(0))
    whole = objective.loss(model, batch, decoder)
    total = torch.tensor(0.0)
    for first, end in ((0, 2), (2, 3), (3, 8)):
        part = objective.loss(model, part_of(batch, first, end), decoder)
        total = total + part.total * part.targets / whole.targets
    torch.testing.assert_close(total, whole.total, atol=1e-5, rtol=1e-6)


def test_the_head_is_computed_at_hidden_tokens_alone() -> None:
    objective, model = StarbucksSMAE(sizes=SIZES), encoder("bert", "masked")
    decoder = objective.start(model)
    rows: list[int] = []
    count = lambda module, inputs, output: rows.append(inputs[0].numel() // 32)  # noqa: E731
    model.cls.predictions.decoder.register_forward_hook(count)
    batch = objective.collate(texts(4, padding=0), tokenizer(), np.random.default_rng(0))
    objective.loss(model, batch, decoder)
    hidden = [batch["places"].numel(), batch["decoder_places"].numel()]
    assert rows == [0, *hidden * 2]  # the model's own head is handed nothing
    assert sum(hidden) < 0.75 * 4 * 128  # 20 % and 40 %, rounded up


def test_what_cannot_be() -> None:
    with pytest.raises(ModelError, match="needs the decoder"):
        StarbucksSMAE().loss(encoder("bert", "masked"), collated(texts(1)))
    with pytest.raises(ModelError, match="no mask token"):
        StarbucksSMAE().collate(texts(1), train_tokenizer(["text"], 300, "causal"), np.random.default_rng(0))
    with pytest.raises(DataError, match=r"several texts; use data\.packing: single"):
        collated(random_rows(2))
    with pytest.raises(ModelError, match="no masked head like BERT's"):
        StarbucksSMAE().start(encoder("electra", "masked"))
    with pytest.raises(ModelError, match="last size must be the whole model"):
        StarbucksSMAE(sizes=[(1, 8)]).start(encoder("bert", "masked"))
    with pytest.raises(ValidationError, match=r"encoder_rate 0.5 is above decoder_rate 0.4"):
        StarbucksSMAE(encoder_rate=0.5)


def test_example() -> None:
    model = encoder("bert", "masked")
    before = copy.deepcopy(model.state_dict())
    names = run_example(
        StarbucksSMAE, StarbucksSMAE=StarbucksSMAE, torch=torch, np=np, model=model, tokenizer=tokenizer(),
        rows=texts(),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
    assert not torch.equal(
        before["cls.predictions.transform.dense.weight"], model.cls.predictions.transform.dense.weight
    )
