"""A small masked language model that proposes replacements: ELECTRA's generator, beside any encoder.

It is an ELECTRA model of `transformers`, whose embeddings may be wider than its layers: so it shares the tables of the
large model (tokens, and positions and token types where that has them) whatever the sizes, and projects what it reads
down to its own width. Only its layers and its output head are weights of its own. Logits are computed at the hidden
places alone, a seventh of the text.

Source: K. Clark et al., "ELECTRA", 2020, section 3, and its code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import ElectraConfig, ElectraForMaskedLM

from warmstart.errors import ModelError

TABLES = ("position_embeddings", "token_type_embeddings")
NARROWEST = 64


class Generator(nn.Module):
    """A masked language model of `width` times the encoder's hidden size, with as many layers times `depth`.

    The hidden size is a whole number of the encoder's attention heads, and not below 64 (or the encoder's own).

    Raises:
        ModelError: the encoder has no table of token embeddings.
    """

    def __init__(self, model: nn.Module, width: float = 0.25, depth: float = 1.0) -> None:
        super().__init__()
        encoder: Any = model
        tokens = encoder.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
        if not isinstance(tokens, nn.Embedding):
            raise ModelError(
                f"a generator needs a model with a table of token embeddings; {type(model).__name__} has none"
            )
        config = encoder.config
        head = config.hidden_size // config.num_attention_heads
        narrow = max(config.hidden_size * width, min(NARROWEST, config.hidden_size))
        heads = max(1, round(narrow / head))
        inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
        tables = {name: module for name, module in _tables(model) if module.embedding_dim == tokens.embedding_dim}
        sizes = {name: module.num_embeddings for name, module in tables.items()}
        settings = ElectraConfig(
            vocab_size=tokens.num_embeddings,
            embedding_size=tokens.embedding_dim,
            hidden_size=heads * head,
            num_hidden_layers=max(1, round(config.num_hidden_layers * depth)),
            num_attention_heads=heads,
            intermediate_size=max(1, round(inner * heads * head / config.hidden_size)),
            max_position_embeddings=sizes.get("position_embeddings", config.max_position_embeddings),
            type_vocab_size=sizes.get("token_type_embeddings", 1),
            hidden_dropout_prob=getattr(config, "hidden_dropout_prob", 0.0),
            attention_probs_dropout_prob=getattr(config, "attention_probs_dropout_prob", 0.0),
            initializer_range=getattr(config, "initializer_range", 0.02),
            pad_token_id=tokens.padding_idx,
        )
        settings._attn_implementation = config._attn_implementation
        self.network = ElectraForMaskedLM(settings)
        self.network.to(tokens.weight.device)  # type: ignore[arg-type]  # its signature is lost in a wrapper
        own: Any = self.network.electra.embeddings
        own.word_embeddings.weight = self.network.generator_lm_head.weight = tokens.weight
        for name, module in tables.items():
            getattr(own, name).weight = module.weight

    def forward(self, input_ids: torch.Tensor, places: torch.Tensor, **given: Any) -> torch.Tensor:
        """Logits at some places of each row: `(batch, places, vocabulary)`.

        Args:
            input_ids: `(batch, length)`.
            places: int64 `(batch, places)`, numbers of tokens in their row.
            given: positions and masks, as the network takes them.
        """
        hidden = self.network.electra(input_ids=input_ids, **given).last_hidden_state
        chosen = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        return self.network.generator_lm_head(self.network.generator_predictions(chosen))


def _tables(model: nn.Module) -> list[tuple[str, nn.Embedding]]:
    """The encoder's tables of positions and token types, by the names that BERT and its kin have for them."""
    found = ((name.rpartition(".")[2], module) for name, module in model.named_modules())
    return [(name, module) for name, module in found if name in TABLES and isinstance(module, nn.Embedding)]


def sample_tokens(logits: torch.Tensor, draws: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """A token from each distribution, by its cumulative probabilities; no gradient passes.

    Args:
        logits: `(..., vocabulary)`.
        draws: numbers from [0, 1), evenly distributed, `(...)`: the same draws give the same tokens on every device.
    """
    line = torch.softmax(logits.detach().float() / temperature, dim=-1).cumsum(dim=-1)
    wanted = draws[..., None].to(line.dtype) * line[..., -1:]
    return torch.searchsorted(line, wanted, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
