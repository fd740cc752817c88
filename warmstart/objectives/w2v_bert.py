"""w2v-BERT: the lower layers learn codes for frames of speech, the upper ones to predict them where they are hidden.

Masked language modelling of speech needs tokens. Here they are learned in the same run: the contrastive task of wav2vec
2.0, after `contrastive_layers`, keeps the codes apart; the layers on top read its output and say which code a hidden
step has. Without the contrastive loss (`beta: 0`) nothing keeps the codes from becoming one, which is easy to predict:
watch `code_perplexity`, not the loss.

Source: Y.-A. Chung et al., "W2v-BERT: Combining Contrastive Learning and Masked Language Modeling for Self-Supervised
Speech Pre-Training", 2021 (arXiv 2108.06209), section 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from warmstart.objectives.masked_speech import MaskedSpeech, Weight


class W2vBert(MaskedSpeech):
    """The contrastive loss after some of the layers, and the prediction of codes after all of them.

    Example:
        In one's own loop, with a `Wav2Vec2BertModel` of two layers and rows whose `audio` are paths of sound files::

            objective = W2vBert(codes=32, contrastive_layers=1)
            heads = objective.start(model)
            both = torch.nn.ModuleList([model, heads])
            optimizer = torch.optim.AdamW(both.parameters(), lr=1e-3)
            draws = np.random.default_rng(0)
            for step in range(2):
                batch = objective.collate(rows, None, draws)
                loss = objective.loss(model, batch, heads)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
            perplexity = loss.parts["code_perplexity"]
    """

    type: Literal["w2v-bert"] = "w2v-bert"
    contrastive_layers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="N: layers before the contrastive loss; the others are for prediction. Default: half."
    )
    beta: Weight = Field(1.0, description="How often the contrastive and the diversity loss count.")
    gamma: Weight = Field(1.0, description="How often the predictive loss counts.")

    @model_validator(mode="after")
    def _some_loss(self) -> W2vBert:
        if self.beta == self.gamma == 0:
            raise ValueError("beta and gamma are both 0: there is nothing to learn")
        return self

    @property
    def weights(self) -> tuple[float, float]:
        return self.beta, self.gamma

    def contrastive_depth(self, layers: int) -> int:
        return max(1, layers // 2) if self.contrastive_layers is None else self.contrastive_layers
