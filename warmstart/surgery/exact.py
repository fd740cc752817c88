"""Widening that keeps the function at any ratio and leaves no two neurons equal.

Let D be the old width, D' the new one, r = D / D'.

**Heads and MLP neurons** (all architectures, any number). A new neuron is a copy of an old one k. The copies make
the same value, so a reader that gives them the weights s_1 w, s_2 w, ... with s_1 + s_2 + ... = 1 gets what it got
before. FPI takes equal shares, and the copies stay equal for ever. Here the shares are drawn anew for every weight,
so the copies get gradients in different directions. (Different for every weight, not one share per neuron: a common
factor would cancel in Adam's update.)

**The residual width, pre-norm.** The stream x is only ever read through a norm, which we can correct.

- LayerNorm: let every new entry hold m, the mean of the old entries: x' = [x, m, ..., m]. All that is written into
  the stream is linear in its output dimension, so it is enough that the new columns of every writer, bias and
  embedding are the mean of its old ones. The mean of x' is m, its variance is r var(x). With gamma' = sqrt(r) gamma
  and eps' = r eps,

      (x - m) sqrt(r) gamma / sqrt(r var + r eps) + beta = (x - m) gamma / sqrt(var + eps) + beta:

  the old entries leave the norm unchanged, the new ones leave it as 0 * gamma' + beta' = 0 with beta' = 0.
- RMSNorm: let the new entries be 0. The mean square of x' is r times that of x, and the same w' = sqrt(r) w,
  eps' = r eps give the same output, with 0 in the new entries.

So every reader, a tied or untied output head included, sees the old values and zeros, and its weights for the new
entries are free: they are drawn at random, which is what lets the new entries learn different things. (A tied
head's new columns are the embedding's; they meet zeros.) A norm over each head's queries and keys (Qwen3) shares
eps: the projections before it are scaled by sqrt(r), so that there too the mean square, eps and the square of the
output keep their proportion.

**The residual width, post-norm (BERT).** Here the stream *is* the output of a norm, x = gamma * n + beta, and is
added to and normalised again. To keep the next norm's statistics, new entries would have to hold the mean of
gamma * n + beta, which changes with the input; but a norm can put only beta' + gamma' * (what was normalised) there,
and for entries that held the mean before, that is the constant beta'. Copies keep mean and variance only if every
entry has equally many: so exactly the integer ratios are possible, by equal copies, which readers take in unequal
shares.

Sources: LEMON (arXiv 2310.07999) for the idea of lossless expansion by padding and unequal shares; the derivation
is ours.
"""

from __future__ import annotations

import math

import torch

from warmstart.surgery.width import Piece

SLICE = 2**20
"""Entries of a matrix for which shares are drawn at once."""


def by_shares(piece: Piece) -> torch.Tensor:
    """Copies along every dimension, read in random shares that sum to 1 (heads, MLP; a post-norm model's width)."""
    new = piece.tensor
    for dimension, m in enumerate(piece.maps):
        if m is not None:
            new = new.index_select(dimension, m.index)
            if dimension == piece.weight.input:
                _share_out(new, dimension, piece)
    return new.clone() if new is piece.tensor else new


def by_padding(piece: Piece, norm: str, ratio: float) -> torch.Tensor:
    """The width by padding, other dimensions by shares (pre-norm models).

    Args:
        norm: `layernorm` or `rmsnorm`.
        ratio: r = old width / new width.
    """
    weight = piece.weight
    new = piece.tensor
    for dimension, (axes, m) in enumerate(zip(weight.axes, piece.maps, strict=True)):
        if m is None:
            continue
        if axes == "width":
            new = torch.cat([new, _padding(piece, new, dimension, m.new - m.old, norm)], dimension)
        else:
            new = new.index_select(dimension, m.index)
            if dimension == weight.input:
                _share_out(new, dimension, piece)
    if weight.role == "norm_weight" and weight.axes == ("width",):
        return new * math.sqrt(ratio)
    if weight.normed:
        return new * math.sqrt(ratio)
    return new.clone() if new is piece.tensor else new


def _share_out(tensor: torch.Tensor, dimension: int, piece: Piece) -> None:
    """Multiplies a matrix by shares along `dimension`, slice by slice: all at once would take thrice its memory."""
    other = 1 - dimension
    for part in tensor.split(max(1, SLICE // tensor.shape[dimension]), other):
        part.mul_(shares(list(part.shape), dimension, piece))


def shares(shape: list[int], dimension: int, piece: Piece) -> torch.Tensor:
    """Random positive shares of the given shape; the copies of one entry along `dimension` sum to 1.

    Two copies get between 1/4 and 3/4 each, so that none is idle.
    """
    m = piece.maps[dimension]
    assert m is not None
    drawn = torch.empty(shape, dtype=piece.tensor.dtype).uniform_(0.5, 1.5, generator=piece.generator)
    sums = torch.zeros([m.old if d == dimension else n for d, n in enumerate(shape)], dtype=drawn.dtype)
    sums.index_add_(dimension, m.index, drawn)
    return drawn.div_(sums.index_select(dimension, m.index))


def _padding(piece: Piece, tensor: torch.Tensor, dimension: int, count: int, norm: str) -> torch.Tensor:
    """What the new entries of the residual width hold in a tensor."""
    weight = piece.weight
    shape = [count if d == dimension else n for d, n in enumerate(tensor.shape)]
    if dimension == weight.input:  # reads zeros: free
        return torch.empty(shape, dtype=tensor.dtype).normal_(0.0, piece.std, generator=piece.generator)
    if weight.role == "norm_weight":  # multiplies zeros: free; a typical old value
        return tensor.mean().expand(shape)
    if weight.role == "norm_bias" or norm == "rmsnorm":
        return torch.zeros(shape, dtype=tensor.dtype)
    return tensor.mean(dimension, keepdim=True).expand(shape)
