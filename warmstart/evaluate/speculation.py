"""How much of what the small model drafts does a composed model keep? Speculative decoding of held-out prompts.

Where most drafts are kept, a large model needs few passes for a text: one for every `tokens_per_pass` tokens.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from warmstart.decode.composed import Composed
from warmstart.decode.speculative import speculative_generate
from warmstart.errors import ModelError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.prompted import prompted_documents
from warmstart.randomness import derive_seed


class Speculation(Evaluator):
    """`speculation/acceptance`: the share of drafted tokens that are kept; and `speculation/tokens_per_pass`: new
    tokens for each pass of the models that do not draft."""

    type: Literal["speculation"] = "speculation"
    held_out: str = Field("validation", description="The held-out set with prompts: validation, or another.")
    prompts: Annotated[int, Field(gt=0)] = Field(20, description="So many prompts, evenly spaced.")
    tokens: Annotated[int, Field(gt=0)] = Field(32, description="Tokens of each answer, at most.")
    draft: Annotated[int, Field(gt=0)] = Field(4, description="Tokens drafted at a time.")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0: greedy decoding.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        if not isinstance(subject.model, Composed) or subject.model.drafter is None:
            raise ModelError("evaluator speculation: needs evaluate.decode with a model that drafts, e.g. emulated")
        device = next(subject.model.parameters()).device
        generator = torch.Generator(device).manual_seed(derive_seed(subject.seed, "speculation", self.held_out))
        written = drafted = accepted = passes = 0
        for document in prompted_documents(subject, self.held_out, self.prompts):
            found = speculative_generate(
                subject.model,
                torch.tensor([document.prompt], device=device),
                max_new_tokens=self.tokens,
                draft=self.draft,
                temperature=self.temperature,
                eos_token_id=[subject.tokenizer.eos_token_id],
                generator=generator,
            )
            written += len(found.tokens)
            drafted, accepted, passes = drafted + found.drafted, accepted + found.accepted, passes + found.rounds
        return {
            "speculation/acceptance": accepted / drafted if drafted else 0.0,
            "speculation/tokens_per_pass": written / passes,
        }
