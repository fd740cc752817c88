"""Conditional inference: prompt a model with the header that its documents had in training.

A model that was trained with metadata headers (`rewrite: [metadata-prefix]`) can be steered by one, also by one that
was made up if its words say what is wanted. The tokens must be those of training: begin mark, header, prompt, each
tokenised apart from the next, and the template byte by byte, for it is the blank line that ends a header.

    inputs = conditional_inputs(tokenizer, ["The aim of"], [header("en.wikipedia.org")])
    model.generate(**inputs, max_new_tokens=50)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from warmstart.data.batch.encode import Encoder
from warmstart.data.rewrite.metadata_prefix import header

__all__ = ["conditional_inputs", "header", "prompt_ids"]


def prompt_ids(
    tokenizer: Any, prompts: Sequence[str], headers: Sequence[str], *, begin_of_text: bool = True
) -> list[list[int]]:
    """The tokens of each prompt after its header: those that a document has in training, without the end mark.

    Args:
        prompts: may be empty strings: the model then begins a document of its own.
        headers: one per prompt, e.g. `header("en.wikipedia.org")`; an empty string for none.
        begin_of_text: as `data.begin_of_text` was in training.

    Raises:
        ValueError: not as many headers as prompts.
        ModelError: a tokenizer that cannot mark a document's end or beginning.
    """
    if len(prompts) != len(headers):
        raise ValueError(f"{len(prompts)} prompts, but {len(headers)} headers: give one header for each prompt")
    documents = Encoder(tokenizer, begin=begin_of_text)(list(prompts), list(headers))
    return [document.ids[:-1].tolist() for document in documents]


def conditional_inputs(
    tokenizer: Any, prompts: Sequence[str], headers: Sequence[str], *, begin_of_text: bool = True
) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 `(prompts, tokens)`, for a causal model's `generate`.

    Shorter prompts are filled up at the left, where a mask hides the filling. Arguments and errors as `prompt_ids`.
    """
    rows = prompt_ids(tokenizer, prompts, headers, begin_of_text=begin_of_text)
    longest = max(map(len, rows), default=0)
    filling = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.full((len(rows), longest), filling, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[number, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}
