"""What a table says: the meaning of every dimension of every weight of one architecture.

An *axis* is a size that a model's configuration sets and that several weights share: the width of the residual
stream, the attention heads, the neurons of the MLP, the vocabulary, ... Surgery never asks which architecture it
has before it; it asks the table along which axes a weight runs, over which of its dimensions the layer sums (the
*input* dimension), and what kind of weight it is. That is enough to widen, deepen, prune or merge any model that
has a table.

Tables are data. The small functions at the end (`linear`, `layer_norm`, ...) only save repetition in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import nn
from transformers import PretrainedConfig

from warmstart.errors import ModelError

Axis = Literal[
    "width",  # the residual stream
    "heads",  # query heads; the dimension's size is heads * head_dim
    "kv_heads",  # key and value heads; the dimension's size is kv_heads * head_dim
    "mlp",  # hidden neurons of the feed-forward block
    "vocab",
    "positions",
    "types",  # token types (segments)
    "labels",  # classes of a classification head
    "head_dim",  # one head's own dimensions
    "fixed",  # a size that never takes part in surgery (image patches, a singleton, ...)
]
Role = Literal["matrix", "bias", "norm_weight", "norm_bias", "embedding"]
Dimension = Axis | tuple[Axis, ...]
"""One axis, or several that lie one after the other in one dimension (a fused q, k, v projection)."""


@dataclass(frozen=True)
class Weight:
    """One weight (a name pattern of the table).

    Attributes:
        axes: the axes of each dimension of the tensor, in the tensor's order.
        role: what kind of weight it is. An embedding is a table of vectors that is looked up, never summed over.
        input: the dimension that the layer sums over; None where there is none (biases, norms, embeddings).
        normed: its output goes through a norm over each head's dimensions (Qwen3's q and k), so that its scale
            matters only beside that norm's epsilon.
    """

    axes: tuple[Dimension, ...]
    role: Role
    input: int | None = None
    normed: bool = False

    @property
    def output(self) -> int:
        """The dimension that is not summed over: the neurons that the weight makes."""
        if self.role == "embedding":
            return next(d for d, axis in enumerate(self.axes) if axis == "width")
        return 1 if self.input == 0 else 0


@dataclass(frozen=True)
class Fields:
    """The names of an architecture's sizes in its configuration; None where the architecture has no such field."""

    width: str
    depth: str
    heads: str
    mlp: str
    eps: str
    kv_heads: str | None = None
    head_dim: str | None = None
    vocab: str | None = None
    positions: str | None = None
    types: str | None = None
    per_layer: tuple[str, ...] = ()
    """Fields that hold one entry per layer."""


@dataclass(frozen=True)
class Tied:
    """An output head whose weight is the token embedding when `tie_word_embeddings` is set."""

    head: str
    embedding: str
    norm: str
    """The norm whose output the head reads, without `.weight`."""


@dataclass(frozen=True)
class Table:
    """All that surgery must know about one family of architectures.

    Weight names are patterns without the base model's prefix (`transformer.`, `model.`, `bert.`), with `{layer}`
    for the number of the layer. One table serves every class of the family: the bare model, and the model under any
    head.

    Attributes:
        model_types: the `model_type`s of configurations that the table is for.
        prefix: the attribute under which classes with a head keep the bare model.
        layers: the module path of the layer list in a class with a head, e.g. `transformer.h`.
        weights: every weight that a model of the family may have; not every model has all of them.
        writers: the projections of a block that write into the residual stream, without `.weight` / `.bias`.
        pre_norm: True where a block normalises what it reads and adds to the raw stream; False where the stream
            itself is normalised after every addition (BERT).
        mlp_ratio: the size of the MLP as a multiple of the width when its field is None.
        scaled_writers: the family starts its writers smaller, by 1 / sqrt(2 * depth).
        renames: pieces of names in older checkpoint files, and what they are called now; applied in order.
        positions_after_padding: the first token's position is `pad_token_id + 1`, not 0 (RoBERTa).
        unsupported: configuration flags under which the model has weights or scales that the table leaves out.
    """

    model_types: tuple[str, ...]
    prefix: str
    layers: str
    fields: Fields
    weights: Mapping[str, Weight]
    writers: tuple[str, ...]
    pre_norm: bool
    norm: Literal["layernorm", "rmsnorm"]
    tied: Tied | None = None
    mlp_ratio: int | None = None
    scaled_writers: bool = False
    renames: tuple[tuple[str, str], ...] = ()
    positions_after_padding: bool = False
    unsupported: tuple[str, ...] = ()

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {
            name: re.compile(re.escape(name).replace(re.escape("{layer}"), r"(?P<layer>\d+)")) for name in self.weights
        }

    def bare(self, name: str) -> str:
        """A weight's name as the table knows it, but with its layer's number: today's names, without the prefix."""
        for old, new in self.renames:
            name = name.replace(old, new)
        return name.removeprefix(self.prefix + ".")

    def find(self, name: str) -> Found | None:
        """What the table says about a weight of a model or of a checkpoint file; None where it says nothing."""
        bare = self.bare(name)
        for pattern, expression in self._patterns.items():
            match = expression.fullmatch(bare)
            if match:
                layer = match.groupdict().get("layer")
                return Found(name, pattern, None if layer is None else int(layer), self.weights[pattern])
        return None

    def get(self, name: str) -> Found:
        """As `find`.

        Raises:
            ModelError: the table has no such weight.
        """
        found = self.find(name)
        if found is None:
            raise ModelError(
                f"the axes table of {'/'.join(self.model_types)} does not cover the weight '{name}'; "
                "this class of the family cannot be operated on (a table is a file in warmstart/models/axes)"
            )
        return found

    def sizes(self, config: PretrainedConfig) -> Sizes:
        """The sizes of a configuration, in the words of the table.

        Raises:
            ModelError: the configuration switches on something that the table leaves out.
        """
        for flag in self.unsupported:
            if getattr(config, flag, False):
                raise ModelError(
                    f"a {config.model_type} model with {flag} set cannot be operated on; its table leaves it out"
                )
        names = self.fields
        width, heads = int(getattr(config, names.width)), int(getattr(config, names.heads))
        mlp = getattr(config, names.mlp)
        head_dim = getattr(config, names.head_dim, None) if names.head_dim else None
        kv_heads = getattr(config, names.kv_heads, None) if names.kv_heads else None
        return Sizes(
            width=width,
            depth=int(getattr(config, names.depth)),
            heads=heads,
            kv_heads=int(kv_heads or heads),
            head_dim=int(head_dim or width // heads),
            mlp=int(mlp if mlp is not None else (self.mlp_ratio or 1) * width),
        )

    def layer_list(self, model: nn.Module) -> nn.ModuleList:
        """The blocks of a model, with or without a head."""
        path = self.layers if hasattr(model, self.prefix) else self.layers.removeprefix(self.prefix + ".")
        found = model.get_submodule(path)
        assert isinstance(found, nn.ModuleList)
        return found


@dataclass(frozen=True)
class Found:
    """A weight by its full name.

    Attributes:
        name: the name in the model or in the file.
        pattern: the table's name for it.
        layer: the number of its block; None outside the blocks.
    """

    name: str
    pattern: str
    layer: int | None
    weight: Weight

    def at(self, layer: int) -> str:
        """The same weight's full name in another block."""
        if self.layer is None:
            return self.name
        # The block's number is the first whole number in the name, in every naming that checkpoints use.
        return re.sub(rf"(?<=\.){self.layer}(?=\.)|^{self.layer}(?=\.)", str(layer), self.name, count=1)


@dataclass(frozen=True)
class Sizes:
    """The sizes that surgery may change. `heads` and `kv_heads` count heads; `head_dim` is the size of one."""

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int

    def along(self, axis: Axis) -> int | None:
        """The number of entries along an axis of a tensor; None for an axis that surgery never changes."""
        if axis in ("heads", "kv_heads"):
            return int(getattr(self, axis)) * self.head_dim
        return int(getattr(self, axis)) if axis in ("width", "mlp", "head_dim") else None


def linear(name: str, inputs: Dimension, outputs: Dimension, *, normed: bool = False) -> dict[str, Weight]:
    """An `nn.Linear`: weight `(outputs, inputs)`, and a bias where the model has one."""
    return {
        f"{name}.weight": Weight((outputs, inputs), "matrix", input=1, normed=normed),
        f"{name}.bias": Weight((outputs,), "bias", normed=normed),
    }


def conv1d(name: str, inputs: Dimension, outputs: Dimension) -> dict[str, Weight]:
    """GPT-2's `Conv1D`: a linear layer that stores its weight as `(inputs, outputs)`."""
    return {
        f"{name}.weight": Weight((inputs, outputs), "matrix", input=0),
        f"{name}.bias": Weight((outputs,), "bias"),
    }


def layer_norm(name: str, axis: Axis = "width") -> dict[str, Weight]:
    """A LayerNorm over one axis."""
    return {f"{name}.weight": Weight((axis,), "norm_weight"), f"{name}.bias": Weight((axis,), "norm_bias")}


def rms_norm(name: str, axis: Axis = "width") -> dict[str, Weight]:
    """An RMSNorm over one axis."""
    return {f"{name}.weight": Weight((axis,), "norm_weight")}


def embedding(name: str, rows: Axis) -> dict[str, Weight]:
    """An `nn.Embedding`: `(rows, width)`."""
    return {f"{name}.weight": Weight((rows, "width"), "embedding")}


def without_bias(weights: dict[str, Weight]) -> dict[str, Weight]:
    """The weights of a layer that never has a bias."""
    return {name: weight for name, weight in weights.items() if not name.endswith(".bias")}
