"""wav2vec 2.0: every hidden step of an utterance is told apart from other hidden steps, by what the last layer makes of
its surroundings.

The baseline of w2v-BERT, at the same depth. What it learns is what tells steps of one utterance apart; the last layers
then hold rather what the contrast needs than what a word is made of.

Source: A. Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020.
"""

from __future__ import annotations

from typing import Literal

from warmstart.objectives.masked_speech import MaskedSpeech


class Wav2Vec2(MaskedSpeech):
    """The contrastive loss of wav2vec 2.0 at the last layer, and the diversity loss of its codes.

    Example:
        In one's own loop, with a `Wav2Vec2BertModel` and rows whose `audio` are paths of sound files; the heads train
        too, and are thrown away afterwards::

            objective = Wav2Vec2(codes=32)
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
    """

    type: Literal["wav2vec2"] = "wav2vec2"

    @property
    def weights(self) -> tuple[float, float]:
        return 1.0, 0.0

    def contrastive_depth(self, layers: int) -> int:
        return layers
