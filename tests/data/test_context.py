"""Documents after a header: what is a target, what sees what, and what happens where the header leaves no room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from corpora import GivenRows

from warmstart.data.batch import Block, Tokens
from warmstart.data.batch.encode import Encoder
from warmstart.data.prepare import Prepared, prepare
from warmstart.errors import DataError
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives import Batch, Row
from warmstart.objectives.causal import Causal
from warmstart.recipe_data import Data

TEXTS = [f"Story {n}. " + f"word{n} and more, " * (n % 5 + 1) for n in range(60)]
HOSTS = ["en.wikipedia.org", "example.com", "a.b.co.uk"]
ROWS = [{"text": text, "url": f"https://{HOSTS[n % 3]}/{n}"} for n, text in enumerate(TEXTS)]
GENERATOR = np.random.default_rng(0)
SHUFFLED = [{"type": "metadata-prefix", "shuffled": True}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, 300, "causal")


def data_of(**settings: Any) -> Data:
    base = {
        "source": GivenRows(given=ROWS),
        "length": 96,
        "begin_of_text": True,
        "packing": "best-fit",
        "split": {"validation": 0.2},
    }
    return Data.model_validate(base | settings)


def rows_of(prepared: Prepared) -> list[Row]:
    return [blocks[n] for blocks in prepared.train for n in range(len(blocks))]


def documents_of(rows: list[Row]) -> list[tuple[list[int], list[int], list[int]]]:
    """(tokens, the target at each of them, which are context) of each document."""
    found = []
    for row in rows:
        labels = Causal().collate([row], None, GENERATOR)["labels"][0]
        shifted = np.concatenate([[-100], labels[:-1].numpy()])  # the target beside the token that it asks for
        for number in range(row["documents"].max() + 1):
            here = row["documents"] == number
            context = row.get("context", np.zeros(len(here), bool))
            found.append((row["tokens"][here].tolist(), shifted[here].tolist(), context[here].tolist()))
    return found


def test_a_header_changes_no_target(tokenizer: Any) -> None:
    """As many as bare; header and begin mark have none; the first token of the document is one, and so is the end."""
    bare = documents_of(rows_of(prepare(data_of(), tokenizer)))
    own = documents_of(rows_of(prepare(data_of(rewrite=["metadata-prefix"]), tokenizer)))
    wrong = documents_of(rows_of(prepare(data_of(rewrite=SHUFFLED), tokenizer)))
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert len(bare) == len(own) == len(wrong) > 40
    bodies = sorted(tokens[1:] for tokens, _, _ in bare)
    for some in (own, wrong):
        texts = []
        for tokens, labels, context in some:
            front = sum(context)
            assert context == [True] * front + [False] * (len(tokens) - front)
            assert tokens[0] == begin
            assert tokenizer.decode(tokens[1:front]) in [f"URL: {host}\n\n" for host in HOSTS]
            assert labels[:front] == [-100] * front
            assert labels[front:] == tokens[front:], "the first document token is a target"
            assert tokens[-1] == labels[-1] == end
            texts.append(tokens[front:])
        assert sorted(texts) == bodies
    for tokens, labels, _ in bare:
        assert tokens[0] == begin
        assert labels == [-100, *tokens[1:]]
    count = [sum(label != -100 for _, labels, _ in some for label in labels) for some in (bare, own, wrong)]
    assert count[0] == count[1] == count[2]


def model_of(tokenizer: Any) -> torch.nn.Module:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    model = new_model(configuration("llama", settings, tokenizer), "causal", 0).eval()
    for parameter in model.parameters():  # larger weights, so that a leak is far above rounding
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return model


def block_of(documents: list[Tokens], length: int) -> Row:
    block, filled = Block.empty(length, 0), 0
    for number, document in enumerate(documents):
        filled = block.put(filled, number, document)
    return {name: getattr(block, name) for name in ("tokens", "documents", "positions", "context")}


def logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        found = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    return found.logits[0]


def test_a_header_reaches_its_own_document_alone(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, begin=True)
    texts, model = ["one two", "three four five", "six"], model_of(tokenizer)
    first = encoder(texts, ["URL: a.org\n\n", "URL: b.org\n\n", "URL: c.org\n\n"])
    other = encoder(texts, ["URL: a.org\n\n", "URL: x.org\n\n", "URL: c.org\n\n"])
    assert len(first[1]) == len(other[1])
    batches = [Causal().collate([block_of(some, 64)], None, GENERATOR) for some in (first, other)]
    assert torch.equal(batches[0]["labels"], batches[1]["labels"])
    found = [logits(model, batch) for batch in batches]
    begin, end = len(first[0]), len(first[0]) + len(first[1])
    last = end + len(first[2])
    assert (found[0][:begin] - found[1][:begin]).abs().max() < 1e-5
    assert (found[0][end:last] - found[1][end:last]).abs().max() < 1e-5
    body = begin + first[1].context
    assert (found[0][body:end] - found[1][body:end]).abs().max() > 1e-3, "its own document does see it"


def test_a_document_in_a_pack_is_what_it_is_alone(tokenizer: Any) -> None:
    encoder, model = Encoder(tokenizer, begin=True), model_of(tokenizer)
    documents = encoder(["one two", "three four five", "six"], ["URL: a.org\n\n", "", "URL: c.org\n\n"])
    together = logits(model, Causal().collate([block_of(documents, 64)], None, GENERATOR))
    start = 0
    for document in documents:
        alone = logits(model, Causal().collate([block_of([document], len(document))], None, GENERATOR))
        assert (together[start : start + len(document)] - alone).abs().max() < 1e-4
        start += len(document)


def test_complete_blocks_are_full_and_begin_with_the_begin_mark(tokenizer: Any) -> None:
    prepared = prepare(data_of(rewrite=["metadata-prefix"], packing="complete"), tokenizer)
    rows = rows_of(prepared)
    assert len(rows) > 5
    cut = 0
    for row in rows:
        assert row["tokens"].shape == (96,)
        assert row["tokens"][0] == tokenizer.bos_token_id
        assert row["documents"].min() == 0
        assert row["positions"][0] == 0
        starts = np.flatnonzero(row["positions"] == 0)
        assert (row["tokens"][starts[1:] - 1] == tokenizer.eos_token_id).all()
        last = row["tokens"][starts[-1] :]
        cut += int(last[-1] != tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in last[1:-1]
    assert cut > 0, "the end mark of a cut document is absent"
    facts = prepared.statistics
    assert facts["train_packed_tokens"] == 96 * len(rows) < facts["train_tokens"]
    assert facts["train_packed_context_tokens"] == sum(int(row["context"].sum()) for row in rows)


def test_a_header_that_leaves_no_room_is_an_error(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, begin=True)
    front = {host: encoder(["x"], [f"URL: {host}\n\n"])[0].context for host in HOSTS}
    longest = max(front, key=lambda host: front[host])
    settings: dict[str, Any] = {"rewrite": ["metadata-prefix"]}
    assert front[longest] >= 8
    prepare(data_of(length=front[longest] + 1, **settings), tokenizer)  # header == length - 2: one token has room
    with pytest.raises(DataError, match=rf"context 'URL: {longest}.*no room for the text .* data\.length"):
        prepare(data_of(length=front[longest], **settings), tokenizer)
    told: list[str] = []
    prepared = prepare(data_of(length=front[longest], on_error="skip", **settings), tokenizer, notify=told.append)
    expected = sum(front[host] == front[longest] for host in HOSTS) * 20
    assert prepared.statistics["rows_skipped"] == expected
    assert prepared.statistics["documents"] == 60 - expected
    assert sum("no room" in line for line in told) == 5


def test_bits_per_byte_leave_headers_aside(tokenizer: Any) -> None:
    bare, own = (prepare(data_of(rewrite=steps), tokenizer) for steps in ([], ["metadata-prefix"]))
    targets = bare.statistics["validation_tokens"] - bare.statistics["validation_documents"]  # all but the begin marks
    assert own.statistics["validation_tokens"] - own.statistics["validation_context_tokens"] == targets
    assert bare.statistics["bytes"] == own.statistics["bytes"]
    assert own.bytes_per_token == pytest.approx(bare.bytes_per_token, rel=0.1)
