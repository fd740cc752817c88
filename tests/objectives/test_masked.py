"""Masked language modelling: what is hidden, and how."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from pydantic import ValidationError
from scipy.stats import chisquare
from tiny_encoders import encoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from warmstart.errors import ModelError
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Batch, Row
from warmstart.objectives.bidirectional import document_mask
from warmstart.objectives.masked import Masked
from warmstart.objectives.words import Words

TEXT = "def reader(self):\n    return self.read_all(chunk=1024) + other\n"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer([TEXT, "some more text"], 300, "masked")


def word_piece() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##s", "the", "game"]
    machine = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    machine.pre_tokenizer = pre_tokenizers.Whitespace()
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=machine, **roles)


def random_rows(count: int = 64, length: int = 128) -> list[Row]:
    """Blocks of [CLS] ... [SEP] documents of 32 random tokens."""
    draw = np.random.default_rng(5)
    tokens = draw.integers(5, 300, size=(count, length))
    tokens[:, ::32], tokens[:, 31::32] = 2, 3
    where = np.arange(length)
    return [{"tokens": row, "positions": where % 32, "documents": where // 32} for row in tokens]


def collated(rows: list[Row], tokenizer: Any, seed: int = 0, **settings: Any) -> tuple[Batch, np.ndarray]:
    return Masked(**settings).collate(rows, tokenizer, np.random.default_rng(seed)), np.stack(
        [r["tokens"] for r in rows]
    )


@pytest.mark.parametrize("whole_word", [False, True])
def test_statistics(tokenizer: Any, whole_word: bool) -> None:
    batch, tokens = collated(random_rows(), tokenizer, whole_word=whole_word)
    labels, visible = batch["labels"].numpy(), batch["input_ids"].numpy()
    chosen = labels != -100
    ordinary = tokens >= 5
    assert (labels[chosen] == tokens[chosen]).all()
    assert (visible[~chosen] == tokens[~chosen]).all()
    assert not chosen[~ordinary].any()  # special tokens are never targets
    assert chosen[ordinary].mean() == pytest.approx(0.15, abs=0.02)
    masked = visible[chosen] == tokenizer.mask_token_id
    kept = visible[chosen] == tokens[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.04)
    assert kept.mean() == pytest.approx(0.1, abs=0.03)
    assert (visible[chosen][~masked] >= 5).all()  # random tokens are ordinary ones
    assert len(np.unique(visible[chosen][~masked & ~kept])) > 50


def test_randomness_comes_from_the_generator_alone(tokenizer: Any) -> None:
    rows = random_rows(4)
    first, second, other = (collated(rows, tokenizer, seed=seed)[0] for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["input_ids"], other["input_ids"])
    assert rows[0]["tokens"].tolist() == random_rows(4)[0]["tokens"].tolist()  # the rows are left alone


def test_rate(tokenizer: Any) -> None:
    labels = collated(random_rows(), tokenizer, rate=0.4)[0]["labels"]
    assert float((labels != -100).float().mean()) == pytest.approx(0.4 * 30 / 32, abs=0.03)
    with pytest.raises(ValidationError):
        Masked(rate=1.5)


def spelled(tokenizer: Any, text: str) -> list[str]:
    """The words that `Words` finds in a text."""
    ids = np.array([tokenizer(text, add_special_tokens=False)["input_ids"]])
    starts = Words(tokenizer).starts(ids, np.zeros_like(ids))[0]
    edges = [*np.flatnonzero(starts), ids.shape[1]]
    return [tokenizer.decode(ids[0, start:end]) for start, end in pairwise(edges)]


def test_words_of_byte_level_bpe(tokenizer: Any) -> None:
    expected = [
        "def",
        " reader",
        "(",
        "self",
        "):",
        "\n",
        "   ",
        " return",
        " self",
        ".",
        "read",
        "_",
        "all",
        "(",
        "chunk",
        "=",
        "1024",
    ]
    found = spelled(tokenizer, TEXT)
    assert [word for word in found if word.strip()] == [
        word for word in [*expected, ")", " +", " other"] if word.strip()
    ]
    assert "".join(found) == TEXT


def test_words_of_word_piece() -> None:
    tokenizer = word_piece()
    ids = np.array([[2, 5, 6, 7, 8, 9, 7, 3]])  # [CLS] play ##ing ##s the game ##s [SEP]
    documents = np.zeros_like(ids)
    assert Words(tokenizer).starts(ids, documents)[0].astype(int).tolist() == [1, 1, 0, 0, 1, 1, 0, 1]
    documents[0, 6:] = 1
    assert Words(tokenizer).starts(ids, documents)[0, 6]  # a document's first token begins a word


def test_whole_words_are_hidden_together(tokenizer: Any) -> None:
    ids = np.array(tokenizer(TEXT * 4)["input_ids"])
    row = {"tokens": ids, "positions": np.arange(len(ids)), "documents": np.zeros(len(ids), dtype=np.int64)}
    starts = Words(tokenizer).starts(ids[None], row["documents"][None])[0]
    word = np.cumsum(starts)
    assert word[-1] < 0.9 * len(ids)  # some words do have several tokens
    split = 0
    for whole in (True, False):
        labels = collated([row] * 20, tokenizer, whole_word=whole)[0]["labels"].numpy()
        for number in np.unique(word):
            chosen = labels[:, word == number] != -100
            split += int((chosen.any(axis=1) != chosen.all(axis=1)).sum())
        assert (split == 0) == whole  # single tokens do split words


def test_documents_and_padding_are_told_only_where_there_are_some(tokenizer: Any) -> None:
    rows = random_rows(2)
    shared = collated(rows, tokenizer)[0]
    assert torch.equal(shared["documents"][0], torch.arange(128) // 32)
    assert "attention_mask" not in shared
    mask = document_mask(shared["documents"])
    assert mask.shape == (2, 1, 128, 128)
    assert mask.dtype == torch.float32
    same = torch.arange(128)[:, None] // 32 == torch.arange(128)[None] // 32
    assert (mask[0, 0][same] == 0).all()
    assert (mask[0, 0][~same] < -1e20).all()
    single = [row | {"documents": np.zeros(128, dtype=np.int64)} for row in rows]
    assert not {"documents", "attention_mask"} & set(collated(single, tokenizer)[0])
    single[1]["documents"] = np.repeat([0, -1], [100, 28])
    padded = collated(single, tokenizer)[0]
    assert "documents" not in padded
    assert padded["attention_mask"].sum(dim=1).tolist() == [128, 100]
    assert (padded["labels"][1, 100:] == -100).all()


def test_a_tokenizer_without_a_mask_token() -> None:
    with pytest.raises(ModelError, match="no mask token"):
        collated(random_rows(1), train_tokenizer([TEXT], 300, "causal"))


def test_fates(tokenizer: Any) -> None:
    batch, tokens = collated(random_rows(), tokenizer, fates=(0.5, 0.2, 0.3))
    chosen, visible = batch["labels"].numpy() != -100, batch["input_ids"].numpy()
    masked = visible[chosen] == tokenizer.mask_token_id
    assert masked.mean() == pytest.approx(0.5, abs=0.05)
    assert (visible[chosen] == tokens[chosen]).mean() == pytest.approx(0.3, abs=0.05)
    with pytest.raises(ValidationError, match=r"must add up to 1, found 1\.1"):
        Masked(fates=(0.8, 0.2, 0.1))


def test_without_a_mask_every_chosen_token_is_a_random_one(tokenizer: Any) -> None:
    """SLM: no [MASK] in the input, labels at chosen places only, all ordinary tokens alike."""
    rows = random_rows(400)
    batch, tokens = collated(rows, tokenizer, fates=(0, 1, 0))
    visible, labels = batch["input_ids"].numpy(), batch["labels"].numpy()
    chosen = labels != -100
    assert not (visible == tokenizer.mask_token_id).any()
    assert (visible[~chosen] == tokens[~chosen]).all()
    assert (labels[chosen] == tokens[chosen]).all()
    assert chosen[tokens >= 5].mean() == pytest.approx(0.15, abs=0.01)
    assert (visible[chosen] == tokens[chosen]).mean() < 3 / len(tokenizer)  # never kept on purpose
    counts = np.bincount(visible[chosen], minlength=len(tokenizer))
    assert counts[:5].sum() == 0
    assert chisquare(counts[5:]).pvalue > 1e-3
    unmasked = train_tokenizer([TEXT], 300, "causal")
    other = [row | {"tokens": np.minimum(row["tokens"], len(unmasked) - 1)} for row in rows[:2]]
    assert "labels" in collated(other, unmasked, fates=(0, 1, 0))[0]  # no mask token is needed


@pytest.mark.parametrize("fates", [(0.8, 0.1, 0.1), (0, 1, 0)])
def test_the_loss_begins_at_the_logarithm_of_the_vocabulary(tokenizer: Any, fates: Any) -> None:
    batch = collated(random_rows(), tokenizer, fates=fates)[0]
    loss = Masked(fates=fates).loss(encoder(head="masked"), batch)
    assert loss.total.item() == pytest.approx(math.log(len(tokenizer)), abs=0.2)


def test_example(tokenizer: Any) -> None:
    names = run_example(
        Masked, Masked=Masked, torch=torch, np=np, model=encoder(head="masked"), tokenizer=tokenizer,
        rows=random_rows(4),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
