"""What fake tensors say is what real ones do: hooks on what autograd saves, and bytes that are alive."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from tiny_configurations import tiny
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from warmstart.forecast.cluster import activations as module
from warmstart.forecast.cluster.activations import Batch, activations, chunk_bytes, measured, run_without_memory
from warmstart.forecast.cluster.live import LiveBytes
from warmstart.objectives.blocks import token_loss

ROWS, LENGTH = 3, 32
NUMBERS = [("fp32", True), ("bf16", False), ("bf16", True)]


def real(config: PretrainedConfig, batch: Batch) -> PreTrainedModel:
    stored = torch.bfloat16 if batch.shares and batch.precision == "bf16" else torch.float32
    return AutoModelForCausalLM.from_config(config, dtype=stored).train()  # type: ignore[no-any-return]


def saved_bytes(model: PreTrainedModel, batch: Batch) -> int:
    """Bytes of all tensors that autograd saves for the backward pass, weights left aside."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        found[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    tokens = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    positions = torch.arange(batch.length).expand(batch.rows, -1) % (batch.length // 2)
    low = torch.autocast("cpu", torch.bfloat16) if batch.precision == "bf16" else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), low:
        loss = token_loss(model(input_ids=tokens, position_ids=positions, use_cache=False).logits, tokens).total
    assert loss.requires_grad
    return sum(storage.nbytes() for key, storage in found.items() if key not in own)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "shares"), NUMBERS)
@pytest.mark.parametrize("like", ["llama", "gpt2"])
def test_what_is_kept_is_what_autograd_saves(like: str, precision: str, shares: bool) -> None:
    """But for a few numbers that are alive for other reasons (the tokens, the positions): below half a hundredth."""
    config, batch = tiny(like), Batch(ROWS, LENGTH, precision, shares)
    saved = saved_bytes(real(config, batch), batch)
    assert activations(config, batch).kept == pytest.approx(saved, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("precision", "shares"), NUMBERS)
@pytest.mark.parametrize("like", ["llama", "gpt2"])
def test_fake_tensors_live_as_long_as_real_ones(like: str, precision: str, shares: bool, checkpointing: bool) -> None:
    """From two depths and two numbers of rows to others: the forward pass to the byte, the backward pass to 1 %."""
    config, batch = tiny(like), Batch(ROWS, LENGTH, precision, shares, checkpointing)
    kept, forward, backward = measured(real(config, batch), batch)
    found = activations(config, batch)
    assert found.kept == kept
    assert found.forward == pytest.approx(forward, rel=0.01)
    assert found.backward == pytest.approx(backward, rel=0.01)


@pytest.mark.slow
def test_joined_documents_and_a_single_row() -> None:
    for batch in (Batch(1, LENGTH), Batch(2, LENGTH, isolated=False)):
        config = tiny("llama", num_hidden_layers=3)
        kept, _, backward = measured(real(config, batch), batch)
        found = activations(tiny("llama", num_hidden_layers=3), batch)
        assert (found.kept, found.backward) == (kept, backward)
    isolated, joined = (activations(tiny("llama"), Batch(2, LENGTH, isolated=flag)).kept for flag in (True, False))
    assert isolated - joined > 6 * 2 * LENGTH**2 * 2  # a mask in bf16 for each block and row


def test_a_llama_block_keeps_what_one_can_count_by_hand() -> None:
    """Shares in bf16, joined documents. Of each token: for two norms what they read in fp32 (4 d), its normalised form
    and what comes out (2 d each), and a number in fp32; queries and the attention's output (2 d each), keys and values
    (2 k each), a number in fp32 for each head; four times the inner width."""
    d, k, f, heads = 48, 16, 136, 6
    one, two = (
        run_without_memory(tiny("llama", num_hidden_layers=n), Batch(2, LENGTH, isolated=False))[0] for n in (1, 2)
    )
    assert two - one == 2 * LENGTH * (2 * (4 * d + 2 * d + 2 * d + 4) + 2 * 2 * d + 2 * 2 * k + 4 * heads + 4 * 2 * f)


def test_checkpointing_keeps_a_hidden_state_for_each_block() -> None:
    one, two = (
        run_without_memory(tiny("llama", num_hidden_layers=n), Batch(2, LENGTH, checkpointing=True))[0] for n in (1, 2)
    )
    assert two - one == 2 * LENGTH * 48 * 2


@pytest.mark.slow
def test_a_loss_in_chunks() -> None:
    """What the chunked loss itself holds, with chunks so small that there are many (where the library has it)."""
    batch = Batch(4, LENGTH, chunked=True)
    whole, chunked = activations(tiny("llama"), Batch(4, LENGTH)), activations(tiny("llama"), batch)
    assert whole.kept - chunked.kept >= 4 * LENGTH * 100 * 4  # no log-probabilities in fp32
    assert chunked.forward >= chunked.kept + chunk_bytes(tiny("llama"), batch)


@pytest.mark.parametrize(("precision", "shares"), NUMBERS)
def test_the_bytes_of_a_chunk(monkeypatch: pytest.MonkeyPatch, precision: str, shares: bool) -> None:
    from warmstart.objectives.chunked_cross_entropy import chunked_cross_entropy

    width, vocabulary, tokens, rows = 48, 400, 64, 16
    monkeypatch.setattr(module, "CHUNK", rows * vocabulary)
    batch = Batch(1, tokens, precision, shares, chunked=True)
    low = torch.bfloat16 if precision == "bf16" else torch.float32
    weight = torch.randn(vocabulary, width, dtype=low if shares else torch.float32, requires_grad=True)
    states = torch.randn(tokens, width, dtype=low, requires_grad=True)
    context = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with LiveBytes([weight, states]) as live, context:
        chunked_cross_entropy(states, weight, torch.zeros(tokens, dtype=torch.long), rows=rows)
    expected = chunk_bytes(tiny("llama", vocab_size=vocabulary), batch)
    assert live.peak == pytest.approx(expected, rel=0.05)


def test_live_bytes_are_counted_once_and_forgotten() -> None:
    kept = torch.zeros(10)
    with LiveBytes([kept]) as live:
        one = torch.zeros(100)
        view = one[:50] + 0
        assert live.now == 400 + 200
        assert kept.view(-1).sum() == 0
        del one
        assert live.now == 200
        del view
    assert (live.now, live.peak >= 600) == (0, True)


def test_nothing_is_allocated() -> None:
    """A block of Llama 2 70B's size on 4096 tokens is 10 GB of numbers, on no memory."""
    config = tiny("llama", hidden_size=8192, intermediate_size=28672, num_attention_heads=64, num_hidden_layers=1)
    kept, _, _ = run_without_memory(config, Batch(4, 4096))
    assert kept > 8e9
