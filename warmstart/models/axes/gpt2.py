"""GPT-2: pre-norm, learned positions, fused q/k/v stored as (inputs, outputs), a tied or an untied head."""

from __future__ import annotations

from warmstart.models.axes.table import (
    Fields,
    Table,
    Tied,
    conv1d,
    embedding,
    layer_norm,
    linear,
    without_bias,
)

GPT2 = Table(
    model_types=("gpt2",),
    prefix="transformer",
    layers="transformer.h",
    fields=Fields(
        width="n_embd",
        depth="n_layer",
        heads="n_head",
        mlp="n_inner",
        eps="layer_norm_epsilon",
        vocab="vocab_size",
        positions="n_positions",
    ),
    weights={
        **embedding("wte", "vocab"),
        **embedding("wpe", "positions"),
        **layer_norm("h.{layer}.ln_1"),
        **conv1d("h.{layer}.attn.c_attn", "width", ("heads", "kv_heads", "kv_heads")),
        **conv1d("h.{layer}.attn.c_proj", "heads", "width"),
        **layer_norm("h.{layer}.ln_2"),
        **conv1d("h.{layer}.mlp.c_fc", "width", "mlp"),
        **conv1d("h.{layer}.mlp.c_proj", "mlp", "width"),
        **layer_norm("ln_f"),
        **without_bias(linear("lm_head", "width", "vocab")),
        **without_bias(linear("score", "width", "labels")),
    },
    writers=("h.{layer}.attn.c_proj", "h.{layer}.mlp.c_proj"),
    pre_norm=True,
    norm="layernorm",
    tied=Tied(head="lm_head.weight", embedding="wte.weight", norm="ln_f"),
    mlp_ratio=4,
    scaled_writers=True,
    unsupported=("add_cross_attention", "scale_attn_by_inverse_layer_idx"),
)
