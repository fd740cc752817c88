"""ViT: pre-norm, image patches through a convolution, a class token, learned positions, no embedding of tokens.

Checkpoint files keep the names that ViT's modules had before transformers 5; `renames` reads them.
"""

from __future__ import annotations

from warmstart.models.axes.table import Fields, Table, Weight, layer_norm, linear

VIT = Table(
    model_types=("vit",),
    prefix="vit",
    layers="vit.layers",
    fields=Fields(
        width="hidden_size",
        depth="num_hidden_layers",
        heads="num_attention_heads",
        head_dim="head_dim",
        mlp="intermediate_size",
        eps="layer_norm_eps",
    ),
    weights={
        "embeddings.cls_token": Weight(("fixed", "fixed", "width"), "embedding"),
        "embeddings.mask_token": Weight(("fixed", "fixed", "width"), "embedding"),
        "embeddings.position_embeddings": Weight(("fixed", "positions", "width"), "embedding"),
        # (width, channels, patch height, patch width): sums over pixels, which never grow.
        "embeddings.patch_embeddings.projection.weight": Weight(
            ("width", "fixed", "fixed", "fixed"), "matrix", input=1
        ),
        "embeddings.patch_embeddings.projection.bias": Weight(("width",), "bias"),
        **layer_norm("layers.{layer}.layernorm_before"),
        **linear("layers.{layer}.attention.q_proj", "width", "heads"),
        **linear("layers.{layer}.attention.k_proj", "width", "kv_heads"),
        **linear("layers.{layer}.attention.v_proj", "width", "kv_heads"),
        **linear("layers.{layer}.attention.o_proj", "heads", "width"),
        **layer_norm("layers.{layer}.layernorm_after"),
        **linear("layers.{layer}.mlp.fc1", "width", "mlp"),
        **linear("layers.{layer}.mlp.fc2", "mlp", "width"),
        **layer_norm("layernorm"),
        **linear("pooler.dense", "width", "fixed"),
        **linear("classifier", "width", "labels"),
    },
    writers=("layers.{layer}.attention.o_proj", "layers.{layer}.mlp.fc2"),
    pre_norm=True,
    norm="layernorm",
    renames=(
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ),
)
