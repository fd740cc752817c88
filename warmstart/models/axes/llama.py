"""Llama, Mistral, Qwen2 and Qwen3: pre-norm with RMSNorm, rotary positions, grouped-query attention, a gated MLP.

They differ in which projections have a bias (a bias that a model lacks is simply not met) and in Qwen3's norms over
each head's queries and keys.
"""

from __future__ import annotations

from warmstart.models.axes.table import Fields, Table, Tied, Weight, embedding, linear, rms_norm, without_bias

_FIELDS = Fields(
    width="hidden_size",
    depth="num_hidden_layers",
    heads="num_attention_heads",
    kv_heads="num_key_value_heads",
    head_dim="head_dim",
    mlp="intermediate_size",
    eps="rms_norm_eps",
    vocab="vocab_size",
    positions="max_position_embeddings",
    per_layer=("layer_types",),
)


def _weights(*, qk_norms: bool) -> dict[str, Weight]:
    block = "layers.{layer}."
    norms = {
        **rms_norm(block + "self_attn.q_norm", "head_dim"),
        **rms_norm(block + "self_attn.k_norm", "head_dim"),
    }
    return {
        **embedding("embed_tokens", "vocab"),
        **rms_norm(block + "input_layernorm"),
        **linear(block + "self_attn.q_proj", "width", "heads", normed=qk_norms),
        **linear(block + "self_attn.k_proj", "width", "kv_heads", normed=qk_norms),
        **linear(block + "self_attn.v_proj", "width", "kv_heads"),
        **(norms if qk_norms else {}),
        **linear(block + "self_attn.o_proj", "heads", "width"),
        **rms_norm(block + "post_attention_layernorm"),
        **linear(block + "mlp.gate_proj", "width", "mlp"),
        **linear(block + "mlp.up_proj", "width", "mlp"),
        **linear(block + "mlp.down_proj", "mlp", "width"),
        **rms_norm("norm"),
        **without_bias(linear("lm_head", "width", "vocab")),
        **without_bias(linear("score", "width", "labels")),
    }


def _table(*model_types: str, qk_norms: bool) -> Table:
    return Table(
        model_types=model_types,
        prefix="model",
        layers="model.layers",
        fields=_FIELDS,
        weights=_weights(qk_norms=qk_norms),
        writers=("layers.{layer}.self_attn.o_proj", "layers.{layer}.mlp.down_proj"),
        pre_norm=True,
        norm="rmsnorm",
        tied=Tied(head="lm_head.weight", embedding="embed_tokens.weight", norm="norm"),
    )


LLAMA = _table("llama", "mistral", "qwen2", qk_norms=False)
QWEN3 = _table("qwen3", qk_norms=True)
