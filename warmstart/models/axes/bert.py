"""BERT and RoBERTa: post-norm (the residual stream itself is normalised), learned positions, masked-LM heads.

The heads' own layers (the masked-LM transform, the pooler, RoBERTa's classification layer) run from the width to the
width, so that they grow like the stream.
"""

from __future__ import annotations

from warmstart.models.axes.table import Fields, Table, Tied, Weight, embedding, layer_norm, linear

_FIELDS = Fields(
    width="hidden_size",
    depth="num_hidden_layers",
    heads="num_attention_heads",
    mlp="intermediate_size",
    eps="layer_norm_eps",
    vocab="vocab_size",
    positions="max_position_embeddings",
    types="type_vocab_size",
)
_BLOCK = "encoder.layer.{layer}."
_BODY: dict[str, Weight] = {
    **embedding("embeddings.word_embeddings", "vocab"),
    **embedding("embeddings.position_embeddings", "positions"),
    **embedding("embeddings.token_type_embeddings", "types"),
    **layer_norm("embeddings.LayerNorm"),
    **linear(_BLOCK + "attention.self.query", "width", "heads"),
    **linear(_BLOCK + "attention.self.key", "width", "kv_heads"),
    **linear(_BLOCK + "attention.self.value", "width", "kv_heads"),
    **linear(_BLOCK + "attention.output.dense", "heads", "width"),
    **layer_norm(_BLOCK + "attention.output.LayerNorm"),
    **linear(_BLOCK + "intermediate.dense", "width", "mlp"),
    **linear(_BLOCK + "output.dense", "mlp", "width"),
    **layer_norm(_BLOCK + "output.LayerNorm"),
    **linear("pooler.dense", "width", "width"),
}
_WRITERS = (_BLOCK + "attention.output.dense", _BLOCK + "output.dense")
_RENAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
_UNSUPPORTED = ("add_cross_attention",)

BERT = Table(
    model_types=("bert",),
    prefix="bert",
    layers="bert.encoder.layer",
    fields=_FIELDS,
    weights={
        **_BODY,
        "cls.predictions.bias": Weight(("vocab",), "bias"),
        **linear("cls.predictions.transform.dense", "width", "width"),
        **layer_norm("cls.predictions.transform.LayerNorm"),
        **linear("cls.predictions.decoder", "width", "vocab"),
        **linear("cls.seq_relationship", "width", "labels"),
        **linear("classifier", "width", "labels"),
    },
    writers=_WRITERS,
    pre_norm=False,
    norm="layernorm",
    tied=Tied(
        head="cls.predictions.decoder.weight",
        embedding="embeddings.word_embeddings.weight",
        norm="cls.predictions.transform.LayerNorm",
    ),
    renames=_RENAMES,
    unsupported=_UNSUPPORTED,
)

ROBERTA = Table(
    model_types=("roberta",),
    prefix="roberta",
    layers="roberta.encoder.layer",
    fields=_FIELDS,
    weights={
        **_BODY,
        "lm_head.bias": Weight(("vocab",), "bias"),
        **linear("lm_head.dense", "width", "width"),
        **layer_norm("lm_head.layer_norm"),
        **linear("lm_head.decoder", "width", "vocab"),
        **linear("classifier.dense", "width", "width"),
        **linear("classifier.out_proj", "width", "labels"),
        **linear("classifier", "width", "labels"),
    },
    writers=_WRITERS,
    pre_norm=False,
    norm="layernorm",
    tied=Tied(
        head="lm_head.decoder.weight",
        embedding="embeddings.word_embeddings.weight",
        norm="lm_head.layer_norm",
    ),
    renames=_RENAMES,
    positions_after_padding=True,
    unsupported=_UNSUPPORTED,
)
