"""ELECTRA: which places are hidden, what the generator and the detector read, and whose gradients go where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny_encoders import alone, encoder, given_tokens, part_of, random_rows, tokenizer
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Batch, Row
from warmstart.objectives.generator import Generator, sample_tokens
from warmstart.objectives.replaced_token_detection import ReplacedTokenDetection, draw_places
from warmstart.train.compute import FlopMeter

MASK = 4


def collated(rows: list[Row], seed: int = 0, **settings: Any) -> Batch:
    return ReplacedTokenDetection(**settings).collate(rows, tokenizer(), np.random.default_rng(seed))


def started(like: str = "bert", **settings: Any) -> tuple[ReplacedTokenDetection, Any, Generator]:
    objective, model = ReplacedTokenDetection(**settings), encoder(like)
    torch.manual_seed(1)
    generator = objective.start(model)
    return objective, model, generator


def listen(module: torch.nn.Module) -> list[Any]:
    """What a module is given and answers, call by call."""
    heard: list[Any] = []
    module.register_forward_hook(lambda m, a, given, output: heard.append((a, given, output)), with_kwargs=True)
    return heard


# ---- what is hidden ------------------------------------------------------------------------------------------------


def test_which_places_are_hidden() -> None:
    rows = random_rows(300, padding=28)  # 100 real tokens: 15 places
    tokens, batch = given_tokens(rows), collated(rows)
    places, weights, masked = batch["places"].numpy(), batch["weights"].numpy(), batch["masked_ids"].numpy()
    valid = weights > 0
    assert places.shape == (300, round(0.15 * 128))
    assert (valid.sum(axis=1) == 15).all()
    hidden = np.zeros(tokens.shape, dtype=bool)
    for row in range(300):
        assert len(set(places[row][valid[row]])) == 15  # no place twice
        hidden[row, places[row][valid[row]]] = True
    assert (tokens[hidden] >= 5).all()  # no special token, no padding
    assert (masked[~hidden] == tokens[~hidden]).all()
    assert (batch["input_ids"].numpy() == tokens).all()
    assert set(np.unique(masked[hidden & (masked != tokens)])) == {MASK}  # no random tokens
    assert (masked[hidden] == MASK).mean() == pytest.approx(0.85, abs=0.02)
    labels = batch["labels"].numpy()
    assert (labels[:, :100] == 0).all()  # [CLS] and [SEP] too
    assert (labels[:, 100:] == -100).all()
    assert weights.sum() == pytest.approx(30_000, rel=1e-4)
    chances = np.bincount(np.nonzero(hidden)[1], minlength=128)[tokens[0] >= 5]
    assert chisquare(chances).pvalue > 1e-3


@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0.01, 0.9))
def test_as_many_places_as_there_can_be(seed: int, length: int, rate: float) -> None:
    draw = np.random.default_rng(seed)
    candidates = draw.random((5, length)) < draw.random()
    lengths = np.maximum(candidates.sum(axis=1), draw.integers(0, length + 1, size=5))
    places = draw_places(candidates, lengths, rate, draw)
    for row in range(5):
        found = places[row][places[row] >= 0]
        assert candidates[row, found].all()
        assert len(set(found)) == len(found) == min(max(1, round(rate * lengths[row])), candidates[row].sum())
        assert (np.diff(found) > 0).all()


def test_context_is_neither_hidden_nor_a_target() -> None:
    rows = [row | {"context": np.arange(128) < 100} for row in random_rows(8)]
    batch = collated(rows, rate=0.5)
    assert (batch["labels"][:, :100] == -100).all()
    assert (batch["places"][batch["weights"] > 0] >= 100).all()


# ---- the loss ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", ["bert", "electra"])
def test_the_loss_is_that_of_electra(like: str) -> None:
    """Computed again from the definition, with the losses of PyTorch and the whole generator at every place."""
    objective, model, generator = started(like, width=0.5)
    rows = alone(random_rows(6))
    batch = objective.collate(rows, tokenizer(), np.random.default_rng(0))
    heard = listen(model)
    loss = objective.loss(model, batch, generator)
    _, given, output = heard[0]
    seen, tokens = given["input_ids"], torch.from_numpy(given_tokens(rows))
    hidden = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, batch["places"], batch["weights"] > 0)
    assert hidden.sum(dim=1).tolist() == [19] * 6
    assert torch.equal(seen[~hidden], tokens[~hidden])
    fake = hidden & (seen != tokens)
    logits = generator.network(input_ids=batch["masked_ids"]).logits
    masked_loss = functional.cross_entropy(logits[hidden], tokens[hidden])
    said = output.logits if like == "electra" else output.logits[..., 1] - output.logits[..., 0]
    detection = functional.binary_cross_entropy_with_logits(said, fake.float())
    torch.testing.assert_close(loss.total, masked_loss + 50 * detection, atol=2e-5, rtol=1e-6)
    torch.testing.assert_close(loss.parts["generator/loss"], masked_loss.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(loss.parts["detector/loss"], detection.detach(), atol=1e-6, rtol=1e-6)
    assert loss.parts["replaced"] == fake.float().mean()
    assert loss.targets == tokens.numel()
    assert loss.right == ((said > 0) == fake).sum()
    assert loss.per_row is not None
    torch.testing.assert_close(loss.per_row.mean(), loss.total.detach())


def test_equal_draws_give_equal_losses() -> None:
    objective, model, generator = started()
    rows = random_rows(4)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 50)  # without dropout nothing is drawn from the global generator
        batch = objective.collate(rows, tokenizer(), np.random.default_rng(seed))
        losses.append(objective.loss(model, batch, generator).total.item())
    assert losses[0] == losses[1] != losses[2]


def test_micro_batches_add_up() -> None:
    objective, model, generator = started()
    rows = random_rows(3) + random_rows(5, padding=60)
    batch = objective.collate(rows, tokenizer(), np.random.default_rng(0))
    whole = objective.loss(model, batch, generator)
    total = torch.tensor(0.0)
    for first, end in ((0, 2), (2, 3), (3, 8)):
        part = objective.loss(model, part_of(batch, first, end), generator)
        total = total + part.total * part.targets / whole.targets
    torch.testing.assert_close(total, whole.total, atol=1e-5, rtol=1e-6)


def test_a_generator_that_is_always_right_makes_no_fakes() -> None:
    objective, model, _ = started()
    rows = random_rows(4)
    batch = objective.collate(rows, tokenizer(), np.random.default_rng(0))

    class Right(Generator):
        def __init__(self) -> None:
            super().__init__(model)

        def forward(self, input_ids: torch.Tensor, places: torch.Tensor, **given: Any) -> torch.Tensor:
            return 100 * functional.one_hot(batch["input_ids"].gather(1, places), len(tokenizer())).float()

    heard = listen(model)
    loss = objective.loss(model, batch, Right())
    assert torch.equal(heard[0][1]["input_ids"], batch["input_ids"])
    assert loss.parts["replaced"] == 0
    assert loss.parts["generator/loss"] < 1e-6


def test_whose_gradients_go_where() -> None:
    """The detector's loss never reaches the generator; what they share learns from both."""
    objective, model, generator = started("electra")
    batch = objective.collate(random_rows(4), tokenizer(), np.random.default_rng(0))
    table = model.get_input_embeddings().weight
    own = [p for p in generator.parameters() if all(p is not other for other in model.parameters())]
    assert own
    loss = objective.loss(model, batch, generator)
    both = torch.autograd.grad(loss.total, [table, *own], retain_graph=True, allow_unused=True)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in both[:5])

    def gradients(weight: float) -> tuple[Any, ...]:
        part = objective.model_copy(update={"weight": weight})
        total = part.loss(model, batch, generator).total
        return torch.autograd.grad(total, [table, *own], allow_unused=True)

    without, with_it = gradients(0.0), gradients(50.0)
    for alone_, together in zip(without[1:], with_it[1:], strict=True):
        assert (alone_ is None) == (together is None)
        assert alone_ is None or torch.equal(alone_, together)
    assert not torch.equal(without[0], with_it[0])
    assert without[0].abs().sum() > 0


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([1.0, -2.0, float("-inf"), 0.5])
    draws = torch.from_numpy(np.random.default_rng(0).random(50_000, dtype=np.float32))
    for temperature in (1.0, 0.3):
        chances = torch.softmax(logits.double() / temperature, 0).numpy()
        counts = np.bincount(sample_tokens(logits.expand(50_000, 4), draws, temperature), minlength=4)
        assert counts[2] == 0
        assert chisquare(counts[[0, 1, 3]], 50_000 * chances[[0, 1, 3]] / chances[[0, 1, 3]].sum()).pvalue > 1e-3
    edge = torch.tensor([0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
    assert sample_tokens(torch.tensor([float("-inf"), 0.0, float("-inf")]).expand(2, 3), edge).tolist() == [1, 1]


# ---- the generator -------------------------------------------------------------------------------------------------


def test_the_generator_shares_the_tables_and_is_narrow() -> None:
    model = encoder("electra", hidden_size=256, num_attention_heads=8, num_hidden_layers=3, embedding_size=24)
    generator = Generator(model, width=0.25, depth=0.34)
    config = generator.network.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (64, 2, 1)
    assert config.intermediate_size == 16  # a quarter
    assert config.embedding_size == 24
    theirs, own = model.electra.embeddings, generator.network.electra.embeddings
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        assert getattr(own, name).weight is getattr(theirs, name).weight
    assert generator.network.generator_lm_head.weight is theirs.word_embeddings.weight
    assert own.LayerNorm.weight is not theirs.LayerNorm.weight
    assert Generator(encoder(hidden_size=128, num_attention_heads=4)).network.config.hidden_size == 64
    assert Generator(encoder()).network.config.hidden_size == 32  # not wider than the model


def test_logits_at_some_places_are_those_of_the_whole() -> None:
    generator = Generator(encoder()).eval()
    ids = torch.from_numpy(given_tokens(random_rows(3)))
    places = torch.tensor([[0, 5, 127], [3, 3, 4], [9, 0, 1]])
    whole = generator.network(input_ids=ids).logits
    found = generator(ids, places)
    for row in range(3):
        torch.testing.assert_close(found[row], whole[row, places[row]])


@pytest.mark.parametrize("like", ["bert", "electra", "roberta"])
def test_packed_documents_do_not_see_each_other(like: str) -> None:
    """Generator and detector: the losses of a block are those of its documents alone."""
    objective, _, generator = started(like)
    whole = random_rows(3)
    pieces = [{name: column[32 * n : 32 * n + 32] for name, column in row.items()} for row in whole for n in range(4)]
    batch = objective.collate(whole, tokenizer(), np.random.default_rng(0))
    apart = alone(pieces)
    parts = objective.collate(apart, tokenizer(), np.random.default_rng(0))
    hidden: dict[int, list[int]] = {n: [] for n in range(12)}
    for row in range(3):
        for place in batch["places"][row][batch["weights"][row] > 0].tolist():
            hidden[4 * row + place // 32].append(place % 32)
    most = max(map(len, hidden.values()))
    parts["places"] = torch.tensor([hidden[n] + [0] * (most - len(hidden[n])) for n in range(12)])
    ids = batch["masked_ids"].view(12, 32)
    given = {"position_ids": parts["position_ids"]}
    from warmstart.objectives.bidirectional import places_of

    with torch.no_grad():
        together = generator(batch["masked_ids"], batch["places"], **places_of(generator.network, batch))
        single = generator(ids, parts["places"], **given)
    for row in range(3):
        for number, place in enumerate(batch["places"][row].tolist()):
            piece = 4 * row + place // 32
            other = single[piece, hidden[piece].index(place % 32)]
            torch.testing.assert_close(together[row, number], other, atol=1e-5, rtol=1e-4)


def test_the_generator_counts_in_the_flops() -> None:
    objective, model, generator = started()
    batch = objective.collate(random_rows(4), tokenizer(), np.random.default_rng(0))
    whole = FlopMeter().measure(("whole",), lambda: objective.loss(model, batch, generator).total)
    detector = FlopMeter().measure(("d",), lambda: model(input_ids=batch["input_ids"]).logits.sum())
    proposing = FlopMeter().measure(("g",), lambda: generator(batch["masked_ids"], batch["places"]).sum())
    assert whole == detector + proposing
    assert proposing > 0.5 * detector  # as wide as the model here


def test_what_cannot_be() -> None:
    objective, model, _ = started()
    batch = collated(random_rows(1))
    with pytest.raises(ModelError, match="needs the generator"):
        objective.loss(model, batch)
    with pytest.raises(ModelError, match="no mask token"):
        ReplacedTokenDetection().collate(
            random_rows(1), train_tokenizer(["text"], 300, "causal"), np.random.default_rng(0)
        )
    with pytest.raises(ModelError, match="table of token embeddings"):
        ReplacedTokenDetection().start(torch.nn.Linear(2, 2))


def test_example() -> None:
    model = encoder("electra")
    names = run_example(
        ReplacedTokenDetection, ReplacedTokenDetection=ReplacedTokenDetection, torch=torch, np=np, model=model,
        tokenizer=tokenizer(), rows=random_rows(4),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
