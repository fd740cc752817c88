"""Flat batches through plain encoders: equal to padded ones, blind across texts, and refused where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    GPT2Config,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from warmstart.data.batch.deal import snake
from warmstart.data.batch.unpad import repad, unpad
from warmstart.errors import ModelError
from warmstart.objectives.blocks import NO_TARGET, first_position, token_loss
from warmstart.train import varlen_attention as module
from warmstart.train.varlen_attention import takes_flat_batches, use_varlen, varlen_attention

SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 520,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
LENGTHS = [512, 77, 16, 16, 5, 1, 1]


def bert() -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**SIZE))


def roberta() -> RobertaForMaskedLM:
    return RobertaForMaskedLM(RobertaConfig(**SIZE))


def modern_bert() -> ModernBertForMaskedLM:
    """One layer of local attention (8 tokens wide) and one of global."""
    return ModernBertForMaskedLM(ModernBertConfig(**SIZE, **SPECIAL, local_attention=8, global_attn_every_n_layers=2))


encoders = pytest.mark.parametrize("encoder", [bert, roberta, modern_bert])


def texts(lengths: list[int], left: bool = False, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and labels of a padded batch; every text has a target."""
    draw = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    places = torch.arange(longest).expand(len(lengths), -1)
    if left:
        places = places.flip(1)
    mask = places < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, 50, mask.shape, generator=draw) * mask
    chosen = ((torch.rand(mask.shape, generator=draw) < 0.3) & mask) | (places == 0)
    return ids, mask, torch.where(chosen, ids, NO_TARGET)


def padded_loss(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> Any:
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + first_position(model)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    return logits, token_loss(logits, labels)


def flat_loss(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> Any:
    flat = unpad(ids, mask)
    logits = model(
        input_ids=flat.ids[None],
        position_ids=flat.positions[None] + first_position(model),
        text_lengths=flat.lengths,
    ).logits
    return repad(logits[0], flat.indices, tuple(ids.shape)), token_loss(logits, labels.flatten()[flat.indices][None])


def gradient(model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@encoders
def test_outputs_and_gradients_equal_the_padded_models(encoder):
    torch.manual_seed(1)
    model = encoder()
    for lengths in (LENGTHS, [3], [512, 1]):
        ids, mask, labels = texts(lengths)
        model.set_attn_implementation("sdpa")
        expected, expected_loss = padded_loss(model, ids, mask, labels)
        expected_gradient = gradient(model, expected_loss.total)
        use_varlen(model)
        found, loss = flat_loss(model, ids, mask, labels)
        torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-5)
        assert int(loss.targets) == int(expected_loss.targets)
        torch.testing.assert_close(gradient(model, loss.total), expected_gradient, rtol=0, atol=1e-5)


@encoders
def test_calls_without_lengths_work_as_before(encoder):
    model = encoder()
    ids, mask, labels = texts([40, 7, 1])
    full = torch.ones_like(mask)
    expected = [padded_loss(model, ids, each, labels)[0] for each in (mask, full)]
    expected.append(model(input_ids=ids).logits)
    use_varlen(model)
    found = [padded_loss(model, ids, each, labels)[0] for each in (mask, full)]
    found.append(model(input_ids=ids).logits)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[mask], other[mask], rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.booleans())
def test_random_lengths_padded_on_either_side(lengths, left):
    torch.manual_seed(2)
    model = bert()
    lengths = sorted(lengths, reverse=True)
    ids, mask, labels = texts(lengths, left)
    expected, _ = padded_loss(model, ids, mask, labels)
    use_varlen(model)
    found, _ = flat_loss(model, ids, mask, labels)
    torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-5)
    right, right_mask, _ = texts(lengths)
    right[right_mask] = ids[mask]
    other, _ = flat_loss(model, right, right_mask, labels)
    assert torch.equal(other[right_mask], found[mask])


@encoders
def test_no_text_sees_another(encoder):
    """Bit for bit: whatever becomes of one text, all others stay as they are."""
    torch.manual_seed(3)
    model = encoder()
    use_varlen(model)
    lengths = [30, 9, 9, 1]
    ids, mask, labels = texts(lengths)
    expected, _ = flat_loss(model, ids, mask, labels)
    for changed in range(len(lengths)):
        other = ids.clone()
        other[changed, 0] = (ids[changed, 0] + 1) % 50
        found, _ = flat_loss(model, other, mask, labels)
        for text in range(len(lengths)):
            assert torch.equal(found[text], expected[text]) == (text != changed)


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("caps", [None, [64], [4, 16, 64], [8, 40]])
def test_groups_agree_with_a_reference_in_double_precision(window, caps):
    lengths = [40, 40, 16, 15, 7, 4, 3, 1]
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(sum(lengths), 2, 4, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(3)
    )
    found = varlen_attention(query, key, value, lengths, window=window, caps=caps)
    text = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = text[:, None] == text[None, :]
    if window is not None:
        places = torch.arange(sum(lengths))
        seen &= (places[:, None] - places[None, :]).abs() < window
    scores = torch.einsum("qhd,khd->hqk", query, key) / 2
    expected = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(dim=-1), value)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn(expected.shape, generator=draw, dtype=torch.float64)
    gradients = [torch.autograd.grad((each * weights).sum(), (query, key, value)) for each in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_dropout_and_scaling_reach_the_attention():
    torch.manual_seed(0)
    query, key, value = (torch.randn(20, 2, 4) for _ in range(3))
    plain = varlen_attention(query, key, value, [20])
    assert not torch.equal(varlen_attention(query, key, value, [20], scaling=0.1), plain)
    assert (varlen_attention(query, key, torch.ones_like(value), [20], dropout=0.5) != 1).any()


def test_the_kernels_arguments(monkeypatch):
    """What a CUDA kernel would be called with; a stand-in computes the same on the CPU."""
    calls = []

    def stand_in(query, key, value, cu_q, cu_k, max_q, max_k, *, scale, window_size):
        calls.append((cu_q.tolist(), cu_k.tolist(), max_q, max_k, window_size))
        lengths = cu_q.diff().tolist()
        window = None if window_size == (-1, -1) else window_size[0] + 1
        return varlen_attention(query, key, value, lengths, scaling=scale, window=window)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in)
    query, key, value = (torch.randn(9, 2, 4) for _ in range(3))
    found = module._kernel_attention(query, key, value, [6, 3], 0.5, 4)
    assert calls == [([0, 6, 9], [0, 6, 9], 6, 6, (3, 3))]
    assert torch.equal(found, varlen_attention(query, key, value, [6, 3], scaling=0.5, window=4))


def test_lengths_must_fit_the_batch():
    model = bert()
    use_varlen(model)
    ids = torch.ones(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match="add up to 4, not to the 5 tokens"):
        model(input_ids=ids, text_lengths=(3, 1))
    with pytest.raises(ValueError, match="descending"):
        model(input_ids=ids, text_lengths=(1, 4))
    with pytest.raises(ValueError, match="without an attention mask"):
        model(input_ids=ids, text_lengths=(4, 1), attention_mask=torch.tensor([[1, 1, 1, 1, 0]]))


def test_a_model_that_cannot_is_refused_and_left_as_it_was():
    decoder = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match="causal"):
        use_varlen(decoder)
    size = SIZE | {"relative_attention": True, "pos_att_type": ["p2c"]}
    own_attention = DebertaV2ForMaskedLM(DebertaV2Config(**size))
    with pytest.raises(ModelError, match="DebertaV2ForMaskedLM"):
        use_varlen(own_attention)
    for model in (decoder, own_attention):
        assert not takes_flat_batches(model)


def test_a_model_that_mixes_texts_is_refused(monkeypatch):
    model = bert()
    layer = model.bert.encoder.layer[0]
    layer.register_forward_hook(lambda module, inputs, output: output + output.mean(dim=1, keepdim=True))
    with pytest.raises(ModelError, match="mixes the texts"):
        use_varlen(model)


def test_the_check_leaves_no_trace():
    model = bert().train()
    state = torch.get_rng_state()
    use_varlen(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert takes_flat_batches(model)
    assert not takes_flat_batches(bert())


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_gradient_does_not_depend_on_the_deal(ranks):
    """With the mean over the whole step's targets, who computes a text changes nothing but rounding."""
    torch.manual_seed(4)
    model = bert()
    use_varlen(model)
    ids, mask, labels = texts([33, 20, 20, 11, 9, 4, 2, 1])
    total = int((labels != NO_TARGET).sum())
    _, whole = padded_loss(model, ids, mask, labels)
    expected = gradient(model, whole.total)
    gradients = []
    for hand in snake(mask.sum(dim=1).tolist(), ranks):
        _, loss = flat_loss(model, ids[hand], mask[hand], labels[hand])
        gradients.append(gradient(model, loss.total) * (int(loss.targets) / total))
    torch.testing.assert_close(torch.stack(gradients).sum(dim=0), expected, rtol=0, atol=1e-6)
