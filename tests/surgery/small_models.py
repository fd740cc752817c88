"""Small models of every family, with weights far from their start, so that no mistake hides behind a zero or a one."""

from __future__ import annotations

import types
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from warmstart.surgery.check import compare

GPT2 = {"n_embd": 16, "n_head": 2, "n_layer": 3, "vocab_size": 37, "n_positions": 24, "bos_token_id": 0}
GPT2 |= {"eos_token_id": 0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
LLAMA = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 37}
LLAMA |= {"intermediate_size": 12, "num_hidden_layers": 3, "bos_token_id": 0, "eos_token_id": 0}
LLAMA |= {"attention_bias": True, "mlp_bias": True}
BERT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 3}
BERT |= {"vocab_size": 37, "max_position_embeddings": 24, "hidden_dropout_prob": 0.0}
BERT |= {"attention_probs_dropout_prob": 0.0}
VIT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 3}
VIT |= {"image_size": 8, "patch_size": 4}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2-tied": ("gpt2", "GPT2LMHeadModel", GPT2),
    "gpt2-untied": ("gpt2", "GPT2LMHeadModel", GPT2 | UNTIED),
    "gpt2-bare": ("gpt2", "GPT2Model", GPT2),
    "gpt2-classifier": ("gpt2", "GPT2ForSequenceClassification", GPT2 | {"pad_token_id": 0}),
    "llama-tied": ("llama", "LlamaForCausalLM", LLAMA | TIED),
    "llama-untied": ("llama", "LlamaForCausalLM", LLAMA),
    "llama-mha": ("llama", "LlamaForCausalLM", LLAMA | {"num_key_value_heads": 4}),
    "mistral": ("mistral", "MistralForCausalLM", {k: v for k, v in LLAMA.items() if not k.endswith("_bias")}),
    "qwen2-tied": ("qwen2", "Qwen2ForCausalLM", {k: v for k, v in LLAMA.items() if not k.endswith("_bias")} | TIED),
    "qwen3-tied": ("qwen3", "Qwen3ForCausalLM", {k: v for k, v in LLAMA.items() if k != "mlp_bias"} | TIED),
    "qwen3-untied": ("qwen3", "Qwen3ForCausalLM", {k: v for k, v in LLAMA.items() if not k.endswith("_bias")}),
    "bert-tied": ("bert", "BertForMaskedLM", BERT),
    "bert-untied": ("bert", "BertForMaskedLM", BERT | UNTIED),
    "bert-pretraining": ("bert", "BertForPreTraining", BERT),
    "bert-classifier": ("bert", "BertForSequenceClassification", BERT),
    "roberta-tied": ("roberta", "RobertaForMaskedLM", BERT | {"pad_token_id": 1}),
    "roberta-untied": ("roberta", "RobertaForMaskedLM", BERT | UNTIED | {"pad_token_id": 1}),
    "roberta-classifier": ("roberta", "RobertaForSequenceClassification", BERT | {"pad_token_id": 1}),
    "vit": ("vit", "ViTForImageClassification", VIT),
    "vit-bare": ("vit", "ViTModel", VIT),
}
FOUR_FAMILIES = ["gpt2-tied", "gpt2-untied", "llama-tied", "llama-untied", "bert-tied", "bert-untied", "vit"]
PRE_NORM = [name for name in MODELS if not name.startswith(("bert", "roberta"))]
POST_NORM = [name for name in MODELS if name.startswith(("bert", "roberta"))]


def make_model(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """A model with random weights, norms and biases included."""
    kind, cls, settings = MODELS[name]
    config = AutoConfig.for_model(kind, **(settings | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, cls)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return in_full_precision(model.to(dtype).eval())


def in_full_precision(model: PreTrainedModel) -> PreTrainedModel:
    """transformers' RMSNorms compute in fp32 whatever the model's dtype; here they keep to it, for tests in fp64."""

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(forward, module)
    return model


def gap(old: PreTrainedModel, new: PreTrainedModel) -> float:
    """Largest difference of the logits (or old hidden entries) on a fixed input."""
    return compare(in_full_precision(old), in_full_precision(new)).largest
