"""Does a model answer in the form that it was taught? Greedy answers to held-out prompts, and how many end by
themselves and look right.

The loss of an answer says how well the right words are predicted when the words before are right; this says whether the
model, left alone, stops, and keeps to a form. It does not say whether an answer is true.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.prompted import left_padded, prompted_documents
from warmstart.models.evaluating import evaluating


class Answers(Evaluator):
    """`<set>/format_rate`: the share of greedy answers that end by themselves and match `pattern`; and
    `<set>/answer_tokens`: their mean length."""

    type: Literal["answers"] = "answers"
    held_out: str = Field("validation", description="The held-out set with prompts: validation, or another.")
    prompts: Annotated[int, Field(gt=0)] = Field(200, description="So many prompts, evenly spaced.")
    tokens: Annotated[int, Field(gt=0)] = Field(64, description="Tokens of each answer, at most.")
    pattern: str = Field(r"\s*\S[^\n]*", description="What a whole answer must match; default: one line, not empty.")
    batch_size: Annotated[int, Field(gt=0)] = Field(50, description="Prompts at a time.")

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern

    def evaluate(self, subject: Subject) -> dict[str, float]:
        model: Any = subject.model
        device = next(model.parameters()).device
        end = subject.tokenizer.eos_token_id
        prompts = [document.prompt for document in prompted_documents(subject, self.held_out, self.prompts)]
        right = length = 0
        with evaluating(model):
            for first in range(0, len(prompts), self.batch_size):
                ids, mask = left_padded(prompts[first : first + self.batch_size], end, device)
                written = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=self.tokens,
                    do_sample=False,
                    pad_token_id=end,
                    eos_token_id=end,
                )[:, ids.shape[1] :].tolist()
                for answer in written:
                    ended = end in answer
                    answer = answer[: answer.index(end)] if ended else answer
                    length += len(answer)
                    text = subject.tokenizer.decode(answer)
                    right += ended and re.fullmatch(self.pattern, text) is not None
        values = {"format_rate": right / len(prompts), "answer_tokens": length / len(prompts)}
        return {f"{self.held_out}/{name}": value for name, value in values.items()}
