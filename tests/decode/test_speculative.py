"""Speculative decoding changes how fast a text is written and nothing else."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import gpt2, llama

from warmstart.decode.composed import Composed
from warmstart.decode.emulated import emulate, emulation
from warmstart.decode.speculative import speculative_generate, verify, verify_greedy

SAMPLES = 50_000


def bigram_tables(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draft and target log-probabilities of a token after another, `(3, 3)` each; the target is an emulation."""
    generator = torch.Generator().manual_seed(seed)
    base, tuned, reference = (1.5 * torch.randn((3, 3), generator=generator, dtype=torch.float64) for _ in range(3))
    return tuned.log_softmax(-1), emulate(base, [tuned], reference)


def text_chances(table: torch.Tensor) -> Any:
    """The probability of each of the 27 texts of three tokens after a 0, `(27,)`."""
    places = torch.tensor(list(itertools.product(range(3), repeat=3))).T
    log_probs = table.double()
    chances = (log_probs[0, places[0]] + log_probs[places[0], places[1]] + log_probs[places[1], places[2]]).exp()
    return (chances / chances.sum()).numpy()


def counted(texts: torch.Tensor) -> Any:
    """How often each of the 27 texts was written, from `(texts, 3)`."""
    return torch.bincount(texts @ torch.tensor([9, 3, 1]), minlength=27).numpy()


@pytest.mark.parametrize("seed", range(5))
def test_the_output_has_the_targets_distribution(seed: int) -> None:
    """Random tables on three tokens, 50,000 texts of three tokens at once, two of them drafted."""
    draft, target = bigram_tables(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    first = torch.multinomial(draft[0].exp().expand(SAMPLES, 3), 1, generator=generator)[:, 0]
    second = torch.multinomial(draft[first].exp(), 1, generator=generator)[:, 0]
    drafted = torch.stack([first, second], dim=1)
    start = torch.zeros(SAMPLES, dtype=torch.long)
    chances = torch.stack([draft[start], draft[first]], dim=1)
    wanted = torch.stack([target[start], target[first], target[second]], dim=1)
    kept, after = verify(drafted, chances, wanted, generator)
    texts = torch.cat([drafted, drafted[:, :1]], dim=1)  # the third is always written below
    rows = torch.arange(SAMPLES)
    texts[rows, kept] = after
    for place in (1, 2):  # where fewer were kept, go on token by token
        missing = kept < place
        fresh = torch.multinomial(target[texts[:, place - 1]].exp(), 1, generator=generator)[:, 0]
        texts[:, place] = torch.where(missing, fresh, texts[:, place])
    assert chisquare(counted(texts), SAMPLES * text_chances(target)).pvalue > 0.01
    assert 0 < int((kept < 2).sum()) < SAMPLES  # some were kept, some were not
    assert chisquare(counted(texts), SAMPLES * text_chances(draft)).pvalue < 1e-6  # the test can tell


class Table(torch.nn.Module):
    """A causal model whose next token depends on the last one alone; its cache is the number of tokens read."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table, requires_grad=False)
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=3), model_type="table")
        self.device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, **_: Any) -> SimpleNamespace:
        cache = past_key_values or SimpleNamespace(crop=lambda count: None)
        return SimpleNamespace(logits=self.table[input_ids], past_key_values=cache)


def test_the_whole_loop_has_the_targets_distribution() -> None:
    generator = torch.Generator().manual_seed(3)
    tables = [1.5 * torch.randn((3, 3), generator=generator) for _ in range(3)]
    model = Composed([Table(table) for table in tables], emulation(1), drafter=1)
    target = emulate(tables[0], [tables[1]], tables[2])
    texts, samples = [], 1500
    for _ in range(samples):
        found = speculative_generate(
            model,
            torch.zeros((1, 1), dtype=torch.long),
            max_new_tokens=3,
            draft=2,
            eos_token_id=[],
            generator=generator,
        )
        texts.append(found.tokens)
    assert chisquare(counted(torch.tensor(texts)), samples * text_chances(target)).pvalue > 0.01


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("draft", [1, 3, 4, 9])
def test_greedy_is_greedy_token_for_token(make: Any, draft: int) -> None:
    """Drafts are kept and thrown away here, so that caches are rolled back by different lengths."""
    small = make(2)
    tuned = make(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model = Composed([make(1), tuned, small], emulation(1, strength=2.0), drafter=1)
    kept = []
    for seed in range(2):
        ids = torch.randint(1, 40, (1, 4), generator=torch.Generator().manual_seed(seed))
        wanted = model.generate(ids, max_new_tokens=16, do_sample=False, eos_token_id=None)[0, 4:].tolist()
        found = speculative_generate(model, ids, max_new_tokens=16, draft=draft, temperature=0, eos_token_id=[])
        assert found.tokens == wanted
        kept.append(found.acceptance)
        assert found.rounds <= 16
    assert min(kept) < 1, "some drafts must be thrown away for this to test anything"


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_identical_draft_and_target_accept_everything(temperature: float) -> None:
    tuned, small = gpt2(1), gpt2(2)
    model = Composed([small, tuned, small], emulation(1), drafter=1)
    ids = torch.tensor([[3, 4, 5]])
    generator = torch.Generator().manual_seed(0)
    found = speculative_generate(
        model, ids, max_new_tokens=25, draft=4, temperature=temperature, eos_token_id=[], generator=generator
    )
    assert found.acceptance == 1
    assert (found.rounds, len(found.tokens), found.drafted) == (5, 25, 20)


def test_equal_tables_always_keep_the_draft() -> None:
    draft, _ = bigram_tables(0)
    chances = draft[None].expand(1000, 3, 3)
    drafted = torch.multinomial(chances.reshape(-1, 3).exp(), 1).view(1000, 3)
    kept, after = verify(drafted, chances, torch.cat([chances, chances[:, :1]], dim=1))
    assert (kept == 3).all()
    assert set(after.tolist()) == {0, 1, 2}
    impossible = torch.tensor([[[-float("inf"), 0.0, -float("inf")]]]).repeat(1, 2, 1)
    kept, after = verify(torch.tensor([[0]]), torch.zeros((1, 1, 3)).log_softmax(-1), impossible)
    assert (int(kept), int(after)) == (0, 1)


def test_greedy_verification_stops_at_the_first_difference() -> None:
    target = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0, 1], [1, 0, 0, 1]]), 3).float()
    kept, after = verify_greedy(torch.tensor([[1, 2, 0], [1, 2, 0]]), target)
    assert kept.tolist() == [3, 1]
    assert after.tolist() == [1, 0]


def test_models_may_read_their_own_prompts() -> None:
    models = [gpt2(1, width=32), gpt2(2), gpt2(3)]
    model = Composed(models, emulation(1), drafter=1)
    prompts = [(torch.randint(1, 40, (1, length)), None) for length in (3, 6, 4)]
    found = speculative_generate(model, prompts, max_new_tokens=15, draft=3, temperature=0, eos_token_id=[])
    wanted = model.generate(prompts[0][0], prompts=prompts[1:], max_new_tokens=15, do_sample=False, eos_token_id=None)[
        0, 3:
    ]
    assert found.tokens == wanted.tolist()


def test_it_ends_at_an_end_mark_wherever_it_comes() -> None:
    model = Composed([gpt2(1, width=32), gpt2(2), gpt2(3)], emulation(1), drafter=1)
    ids = torch.tensor([[3, 4, 5]])
    whole = speculative_generate(model, ids, max_new_tokens=20, temperature=0, eos_token_id=[]).tokens
    for end in set(whole):
        found = speculative_generate(model, ids, max_new_tokens=20, temperature=0, eos_token_id=[end]).tokens
        assert found == whole[: whole.index(end) + 1]
    for count in (1, 2, 5, 6):
        assert (
            speculative_generate(model, ids, max_new_tokens=count, temperature=0, eos_token_id=[]).tokens
            == (whole[:count])
        )


def test_bad_settings() -> None:
    model = Composed([gpt2(1), gpt2(2), gpt2(3)], emulation(1), drafter=1)
    ids = torch.tensor([[3, 4, 5]])
    for wrong in ({"draft": 0}, {"max_new_tokens": 0}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match="must be at least"):
            speculative_generate(model, ids, **({"max_new_tokens": 4} | wrong))
    with pytest.raises(ValueError, match="one text at a time"):
        speculative_generate(model, ids.expand(2, -1), max_new_tokens=4)
    with pytest.raises(ValueError, match="none of the composed models drafts"):
        speculative_generate(Composed(list(model.models), emulation(1)), ids, max_new_tokens=4)
