"""Prompts after a header have the tokens of training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from warmstart.data.batch.encode import Encoder
from warmstart.data.rewrite.metadata_prefix import MetadataPrefix
from warmstart.decode.conditional_prefix import conditional_inputs, header, prompt_ids
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["the aim of a text is to be read, on example.com and elsewhere"] * 3, 300, "causal")


def test_a_prompt_has_the_tokens_that_training_shows(tokenizer: Any) -> None:
    columns = {"text": ["the aim of"], "source": ["a"], "id": ["0"], "row": [0], "url": ["https://example.com/x"]}
    step = MetadataPrefix()
    (context,) = step.apply(columns, step.fit(iter([step.measure(columns)])))["context"]
    assert context == header("example.com") == "URL: example.com\n\n"
    trained = Encoder(tokenizer, begin=True)(columns["text"], [context])[0]
    assert trained.ids[-1] == tokenizer.eos_token_id
    (ids,) = prompt_ids(tokenizer, columns["text"], [header("example.com")])
    assert ids == trained.ids[:-1].tolist()
    mark, rest = ids[0], tokenizer.decode(ids[1:])
    assert mark == tokenizer.bos_token_id
    assert rest == "URL: example.com\n\nthe aim of"
    assert prompt_ids(tokenizer, [""], [""]) == [[tokenizer.bos_token_id]]
    assert prompt_ids(tokenizer, ["the"], [""], begin_of_text=False) == [tokenizer("the").input_ids]
    with pytest.raises(ValueError, match="2 prompts, but 1 headers"):
        prompt_ids(tokenizer, ["a", "b"], ["c"])


def test_generation_from_a_batch_is_that_of_each_prompt_alone(tokenizer: Any) -> None:
    settings = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    model = new_model(configuration("gpt2", settings, tokenizer), "causal", 0).eval()
    prompts, headers = ["the aim", "", "a text is to be read"], [header("example.com"), header("a.org"), ""]
    inputs = conditional_inputs(tokenizer, prompts, headers)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    together = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    for number, row in enumerate(prompt_ids(tokenizer, prompts, headers)):
        alone = model.generate(input_ids=torch.tensor([row]), **options)[0, len(row) :]
        assert together[number, : len(alone)].tolist() == alone.tolist()
