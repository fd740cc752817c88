"""Attention over flat batches: every token sees its own text and nothing else.

A model of `transformers` computes everything but attention token by token, and lets the attention be chosen by name.
With `use_varlen(model)` and the texts' lengths in the call, a plain encoder takes texts one after another::

    model(input_ids=ids[None], position_ids=positions[None], text_lengths=lengths)

Calls without `text_lengths` work as before (padded batches and masks, by PyTorch's fused attention). On a CPU each
group of texts of equal length is one call of that attention on a view, without copies and masks; with `caps` lengths
are rounded up, which makes fewer and larger calls. On CUDA PyTorch's variable-length kernel is used where it can be
(half precision, no dropout inside attention); that path has been tested against a stand-in only, not on a GPU.

Sliding windows (ModernBERT) are kept inside each text. Decoders are refused: this is about encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from warmstart.data.batch.unpad import LengthGroup, boundaries, length_groups
from warmstart.errors import ModelError

NAME = "warmstart_varlen"


def use_varlen(model: PreTrainedModel) -> None:
    """Lets an encoder take flat batches, after making sure that its texts cannot see each other.

    Raises:
        ModelError: the model's attention cannot be replaced, is causal, or mixes texts all the same.
    """
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(NAME)
        _check_isolation(model)
    except ModelError:
        model.set_attn_implementation(before)
        raise
    except (TypeError, ValueError) as error:
        raise ModelError(f"{type(model).__name__} cannot take batches without padding: {error}") from error


def takes_flat_batches(model: Any) -> bool:
    """Whether `use_varlen` was called on the model."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == NAME


@torch.no_grad()
def _check_isolation(model: PreTrainedModel) -> None:
    """A text's outputs must not move, not in the last bit, when its neighbour changes."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    positions = torch.tensor([[0, 1, 2, 0, 1]], device=device)
    batches = torch.tensor([[1, 2, 3, 1, 2], [3, 2, 3, 1, 2], [1, 2, 3, 3, 2]], device=device)
    try:
        plain, first, second = (
            model(input_ids=ids[None], position_ids=positions, text_lengths=(3, 2))[0] for ids in batches
        )
    finally:
        model.train(training)
    if not (torch.equal(plain[:, 3:], first[:, 3:]) and torch.equal(plain[:, :3], second[:, :3])):
        raise ModelError(f"{type(model).__name__} mixes the texts of a batch without padding; use padded batches")


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    caps: Sequence[int] | None = None,
) -> torch.Tensor:
    """Attention inside each text.

    Args:
        query, key, value: `(tokens, heads, head_dim)`, texts in descending order of length.
        lengths: tokens of each text.
        window: a token sees tokens less than `window` places away; None: its whole text.
        caps: lengths that texts are padded up to, so that fewer, larger calls are made; None: no padding.

    Returns:
        `(tokens, heads, head_dim)`.
    """
    tokens, heads, size = query.shape
    if sum(lengths) != tokens:
        raise ValueError(f"the texts' lengths add up to {sum(lengths)}, not to the {tokens} tokens of the batch")
    groups = _groups(tuple(lengths), None if caps is None else tuple(caps))
    counts = [sum(lengths[group.first : group.end]) for group in groups]
    outputs = []
    # Split, not sliced: the gradient of a split is one concatenation, that of a slice a tensor as large as the batch.
    for group, *parts in zip(groups, *(tensor.split(counts) for tensor in (query, key, value)), strict=True):
        inside = lengths[group.first : group.end]
        even = len(parts[0]) == group.cap * len(inside)
        where = None if even else _places(tuple(inside), group.cap).to(query.device)
        q, k, v = (_padded(part, where, len(inside), group.cap) for part in parts)
        output = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_mask(inside, group.cap, window, query.device),
            dropout_p=dropout,
            scale=scaling,
        )
        flat = output.transpose(1, 2).reshape(-1, heads, size)
        outputs.append(flat if where is None else flat[where])
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


@lru_cache(maxsize=16)
def _groups(lengths: tuple[int, ...], caps: tuple[int, ...] | None) -> list[LengthGroup]:
    return length_groups(lengths, caps)


@lru_cache(maxsize=256)
def _places(lengths: tuple[int, ...], cap: int) -> torch.Tensor:
    """The place of each token among the texts padded to `cap`: int64 `(tokens,)`."""
    return torch.cat([torch.arange(length) + row * cap for row, length in enumerate(lengths)])


def _padded(flat: torch.Tensor, where: torch.Tensor | None, texts: int, cap: int) -> torch.Tensor:
    """`(tokens, heads, size)` to `(texts, heads, cap, size)`; a view where no text is shorter than the cap."""
    if where is not None:
        flat = flat.new_zeros(texts * cap, *flat.shape[1:]).index_copy(0, where, flat)
    return flat.view(texts, cap, *flat.shape[1:]).transpose(1, 2)


def _mask(lengths: Sequence[int], cap: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which keys each query sees, `(texts or 1, 1, 1 or cap, cap)` bool; None: all."""
    mask = None
    if any(length < cap for length in lengths):
        seen = torch.arange(cap, device=device) < torch.tensor(list(lengths), device=device)[:, None]
        mask = seen[:, None, None, :]
    if window is not None and window < cap:
        places = torch.arange(cap, device=device)
        near = ((places[:, None] - places[None, :]).abs() < window)[None, None]
        # A query that is padding may have no real key near it; it must see something, or it becomes NaN.
        mask = near if mask is None else (mask & near) | torch.eye(cap, dtype=torch.bool, device=device)
    return mask


def _kernel_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """The same by PyTorch's variable-length kernel (CUDA, half precision): one call for all texts."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = _device_boundaries(tuple(lengths), query.device), max(lengths)
    reach = (-1, -1) if window is None else (window - 1, window - 1)
    output = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scaling, window_size=reach)
    assert isinstance(output, torch.Tensor)
    return output


@lru_cache(maxsize=16)
def _device_boundaries(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Sent to the device once per batch, not once per layer."""
    return boundaries(lengths).to(device)


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    text_lengths: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The interface of `transformers`: `(batch, heads, tokens, size)` in, `(batch, tokens, heads, size)` out."""
    if getattr(module, "is_causal", False):
        raise ModelError(f"{type(module).__name__} is causal; batches without padding are for encoders")
    batch, _, tokens, _ = query.shape
    if text_lengths is None:
        if attention_mask is None and sliding_window is not None:
            attention_mask = _mask((tokens,), tokens, sliding_window, query.device)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
    if attention_mask is not None or batch != 1:
        raise ValueError("text_lengths go with a flat batch (1, tokens) and without an attention mask")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and dropout == 0:
        output = _kernel_attention(q, k, v, text_lengths, scaling, sliding_window)
    else:
        output = varlen_attention(q, k, v, text_lengths, scaling=scaling, dropout=dropout, window=sliding_window)
    return output[None], None


def _no_mask_without_padding(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
    """No mask where the caller hides nothing: windows are the attention's own affair."""
    return None if attention_mask is None else sdpa_mask(*args, **kwargs | {"attention_mask": attention_mask})


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, _no_mask_without_padding)
