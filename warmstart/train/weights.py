"""Where the weights of a training stand: whole on every process, or in shares (FSDP2).

Both kinds answer the same questions, so that the loop has one way: what the forward pass is called on, when gradients
are exchanged, what is written to disk (always whole tensors, by the model's own names: a saved state and an exported
model do not tell how many processes made them), and how they come back.

Whole: every process has all weights, gradients and moments (DistributedDataParallel); nothing to know for parts.
Shares: every process has one n-th of each weight, of its gradient and its moments, and puts a layer together just
before it computes. It needs memory for one n-th of everything and for the largest layer, at the price of moving every
weight twice a step. Parts that look at weights themselves have to say that they can do so with shares.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

from warmstart.train.processes import Processes
from warmstart.train.tensors import load_tensors, own_copy, untied

Tensors = dict[str, torch.Tensor]


def wants_shares(setting: str, processes: int) -> bool:
    """Whether the weights are to be shared out: `auto` does what `accelerate launch --use_fsdp` asks for; one process
    has nobody to share with."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true", "yes")
    return processes > 1 and (setting == "always" or (setting == "auto" and asked))


class WholeWeights:
    """Every process has all weights.

    Attributes:
        model: the model.
        forward: what a training step calls; its gradients become the mean over all processes.

    Args:
        unused: there are steps in which some weights get no gradient.
    """

    in_shares = False

    def __init__(self, model: PreTrainedModel, processes: Processes, *, unused: bool = False) -> None:
        self.model, self._processes = model, processes
        self.forward: Any = processes.wrapped(model, unused=unused)

    def before_exchange(self) -> contextlib.AbstractContextManager[None]:
        """The context of a backward pass whose gradients are not exchanged yet."""
        return self._processes.no_sync(self.forward)

    def share_gradients(self, beside: nn.Module | None) -> None:
        """Gives the module beside the model (None: there is none) the mean of its gradients over all processes; what it
        shares with the model has its mean already."""
        own = {id(p) for p in self.model.parameters()}
        self._processes.share_gradients([p for p in beside.parameters() if id(p) not in own] if beside else [])

    def separate(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing to separate."""

    def clip(self, weights: list[nn.Parameter], largest: float) -> torch.Tensor:
        """Scales the gradient of these weights down to a norm of at most `largest`; its norm before that."""
        return torch.nn.utils.clip_grad_norm_(weights, largest)

    def norm(self, weights: list[nn.Parameter]) -> torch.Tensor:
        """The norm of the gradient of these weights."""
        return torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])

    def tensors(self) -> Tensors:
        """The model's weights and buffers, every storage once, as they are saved."""
        return untied(self.model)

    def load(self, tensors: Tensors) -> None:
        """Puts saved tensors back in place."""
        load_tensors(self.model, tensors)

    def gathered(self, tensors: Tensors) -> Tensors:
        """Tensors of the optimizer as they are saved."""
        return tensors

    @property
    def hands_out_copies(self) -> bool:
        """Whether what `tensors` and `gathered` return stays as it is while the training goes on."""
        return self.in_shares

    def placed(self, tensors: Tensors, like: Mapping[str, torch.Tensor]) -> Tensors:
        """Saved tensors of the optimizer as this process needs them."""
        return tensors

    def whole_model(self) -> PreTrainedModel:
        """An ordinary model with the weights as they are; here the model itself."""
        return self.model

    def exported(self) -> PreTrainedModel | None:
        """An ordinary model on the CPU, on the process that writes; None on the others. All processes take part."""
        if not self._processes.is_main:
            return None
        return self.model.to("cpu")  # type: ignore[arg-type]  # its signature is lost in a wrapper

    def after_passes(self) -> None:
        """To be called after forward passes that no backward pass follows."""


class SharedWeights(WholeWeights):
    """Every process has its share of every weight.

    Args:
        model: the model, on the CPU; it is taken apart in place, layer by layer on the way to the device, which so
            never holds all of it.
        kept_whole: weights that others use beside the model (an objective's own modules): they stay whole.
        precision: with `bf16` layers are put together in bf16; shares, gradients' sums and moments stay fp32.
        compile: compile each layer by itself.
    """

    in_shares = True

    def __init__(
        self,
        model: PreTrainedModel,
        processes: Processes,
        *,
        kept_whole: Iterable[nn.Parameter] = (),
        precision: str = "fp32",
        compile: bool = False,
    ) -> None:
        self.model, self._processes = model, processes
        beside = set(kept_whole)
        self._whole = {p for p in model.parameters() if p in beside or p.ndim == 0}  # a number cannot be shared out
        self._structure = without_weights(model)
        # What is returned is often a view, which PyTorch warns of lest somebody change it in place; nobody here does.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        self._mesh = init_device_mesh(processes.device.type, (processes.count,))
        settings: dict[str, Any] = {"mesh": self._mesh, "ignored_params": self._whole}
        if precision == "bf16":
            settings["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for layer in layers_of(model):
            if compile:
                layer.compile()
            fully_shard(layer, **settings)
        fully_shard(model, **settings)
        keep_outputs_known(model)
        model.to(processes.device)  # type: ignore[arg-type]  # what is kept whole
        self.forward = model

    @contextlib.contextmanager
    def before_exchange(self) -> Iterator[None]:
        root = self._root()
        root.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            root.set_requires_gradient_sync(True)

    def share_gradients(self, beside: nn.Module | None) -> None:
        """The same; and of the model's weights those that were kept whole, whose gradients nobody has exchanged."""
        whole = [p for p in self.model.parameters() if p in self._whole]
        self._processes.share_gradients(
            [*whole, *(p for p in (beside.parameters() if beside else ()) if p not in self._whole)]
        )

    def separate(self, optimizer: torch.optim.Optimizer) -> None:
        """Whole weights get groups of their own: one kernel does not take both kinds."""
        for group in list(optimizer.param_groups):
            whole = [p for p in group["params"] if not isinstance(p, DTensor)]
            if whole and len(whole) < len(group["params"]):
                group["params"] = [p for p in group["params"] if isinstance(p, DTensor)]
                optimizer.add_param_group({**group, "params": whole})

    def norm(self, weights: list[nn.Parameter]) -> torch.Tensor:
        norms = []
        for members in _by_kind(weights):
            norm = torch.nn.utils.get_total_norm([p.grad for p in members if p.grad is not None])
            norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm.to(self._processes.device))
        return torch.linalg.vector_norm(torch.stack(norms))

    def clip(self, weights: list[nn.Parameter], largest: float) -> torch.Tensor:
        total = self.norm(weights)
        for members in _by_kind(weights):
            torch.nn.utils.clip_grads_with_norm_(members, largest, total)
        return total

    def tensors(self) -> Tensors:
        """Whole tensors on the CPU, on the process that writes; the others help, and get none."""
        self.after_passes()
        seen: set[int] = set()
        named: Tensors = {}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                named[name] = tensor
        return self.gathered(named)

    def load(self, tensors: Tensors) -> None:
        self.after_passes()
        load_tensors(self.model, self.placed(tensors, self.model.state_dict()))

    def gathered(self, tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, tensor in tensors.items():
            whole = whole_tensor(tensor)  # one at a time: together they may not fit
            if self._processes.is_main:
                found[name] = whole.cpu() if isinstance(tensor, DTensor) else own_copy(whole)
        return found

    def placed(self, tensors: Tensors, like: Mapping[str, torch.Tensor]) -> Tensors:
        return {name: share_of(tensor, like.get(name)) for name, tensor in tensors.items()}

    def whole_model(self) -> PreTrainedModel:
        """An ordinary copy of the model on this process's device, with the weights as they are. All processes take
        part."""
        self.after_passes()
        weights = {n: whole_tensor(p) for n, p in self.model.named_parameters()}
        return with_weights(self._structure, weights, dict(self.model.named_buffers()))

    def exported(self) -> PreTrainedModel | None:
        self.after_passes()
        weights = self.gathered(dict(self.model.named_parameters()))
        buffers = self.gathered(dict(self.model.named_buffers()))
        return with_weights(self._structure, weights, buffers) if self._processes.is_main else None

    def after_passes(self) -> None:
        """A forward pass leaves the outermost weights whole for the backward pass; where none came, take them apart."""
        self._root().reshard()

    def _root(self) -> FSDPModule:
        assert isinstance(self.model, FSDPModule)
        return self.model


def _by_kind(weights: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those in shares, and those that are whole: no kernel takes both together."""
    return [[p for p in weights if isinstance(p, DTensor) == shared] for shared in (True, False)]


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that are put together one at a time: those that `transformers` says must not be split, none inside
    another; for a model that says nothing, the members of its module lists. What shares a weight with anything outside
    (embeddings that are tied to the head) belongs to the model as a whole."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
        found = [member for members in lists for member in members]
    inner = {id(below) for module in found for below in module.modules() if below is not module}
    uses = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    return [
        module for module in found if id(module) not in inner and module is not model and _keeps_to_itself(module, uses)
    ]


def _keeps_to_itself(module: nn.Module, uses: Counter[int]) -> bool:
    """Whether no weight of it has another use in the model (`uses`: how many, by weight)."""
    own = Counter(id(weight) for below in module.modules() for weight in below._parameters.values())
    return all(uses[weight] == count for weight, count in own.items() if weight != id(None))


def keep_outputs_known(model: PreTrainedModel) -> None:
    """`transformers` looks up by the name of a model's class which inner outputs it can hand out (hidden states), and
    sharing out gives it a class of its own: enter that one too."""
    for module in model.modules():
        if isinstance(module, FSDPModule) and isinstance(module, PreTrainedModel):
            _CAN_RECORD_REGISTRY[module] = module._can_record_outputs


def without_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model whose weights take no memory; buffers are kept, ties too."""
    empty = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)  # what the copy takes for these objects' copies


def with_weights(
    structure: PreTrainedModel, weights: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]
) -> PreTrainedModel:
    """A copy of a model without weights, with these and with copies of these buffers; tied weights are tied again."""
    named = dict(structure.named_parameters())
    filled: dict[int, Any] = {id(p): nn.Parameter(weights[name].detach(), p.requires_grad) for name, p in named.items()}
    filled |= {id(buffer): buffers[name].detach().clone() for name, buffer in structure.named_buffers()}
    model = copy.deepcopy(structure, filled)
    device = next(iter(weights.values())).device
    return model.to(device)  # type: ignore[arg-type]  # its signature is lost in a wrapper


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that is shared out (all processes take part); any other as it is."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def share_of(tensor: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """This process's share of a whole tensor, cut like another one of the same shape; without asking the others."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
