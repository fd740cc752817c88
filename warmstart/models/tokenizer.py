"""Tokenizers: train one on a stage's training documents, load one, and check that it fits a model.

A trained tokenizer is byte-level BPE: every text has tokens, none is unknown, and decoding gives the text
back. Its special tokens are those that the objective's model family expects.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Machine
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.curated import FORMAT
from warmstart.data.documents import documents, training_key
from warmstart.data.engine import Engine
from warmstart.errors import ModelError, of_a_library
from warmstart.finished import check_exported
from warmstart.models.packaged import local
from warmstart.places import expanded, is_file, is_folder

if TYPE_CHECKING:
    from warmstart.recipe_data import Data, Tokenizer

END = "<|endoftext|>"
CAUSAL = {"bos_token": END, "eos_token": END, "pad_token": END}
MASKED = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
SPELLED = {"pad_token": "<pad>", "unk_token": "<unk>"}
UNSPOKEN = r"[^\p{L}\p{M}\p{Nd}']+"
"""What a transcript has between words and signs that are spoken: it becomes a space."""
ENCODERS = ("masked", "detection", "embedding")
"""The heads of models that read both sides: their tokenizers are alike, so that their models can be compared."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, kind: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer.

    Args:
        texts: the training texts, read once.
        vocab_size: at most so many tokens, special ones included; fewer where the texts have no more pairs
            to merge.
        kind: `masked` (encoders) for [PAD] [UNK] [CLS] [SEP] [MASK] around each text; otherwise <|endoftext|> alone,
            which the tokenizer does not add by itself.

    Raises:
        ModelError: `vocab_size` is below the 256 bytes and the special tokens.
    """
    roles = MASKED if kind == "masked" else CAUSAL
    special = list(dict.fromkeys(roles.values()))
    smallest = 256 + len(special)
    if vocab_size < smallest:
        raise ModelError(
            f"tokenizer.train: {vocab_size} is too small: 256 bytes and {len(special)} special tokens need {smallest}"
        )
    machine = Machine(models.BPE())
    machine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    machine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    machine.train_from_iterator(texts, trainer)
    if kind == "masked":
        machine.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, machine.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=machine,
        model_input_names=["input_ids", "attention_mask"],  # token types would be refused by causal models
        clean_up_tokenization_spaces=False,
        **roles,
    )


def train_characters(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters for what is said, whatever the case and the punctuation of the texts.

    Its padding token is the blank of connectionist temporal classification: decoding takes repeated tokens for one and
    leaves out blanks, so that a model's best token of every step is decoded as it is.

    Args:
        texts: transcripts, read once.
        size: at most so many tokens, of which two are the blank and the unknown token; the most frequent characters are
            kept.

    Raises:
        ModelError: `size` leaves room for no character.
    """
    if size <= len(SPELLED):
        raise ModelError(f"tokenizer.characters: {size} is too small: {len(SPELLED)} tokens are special ones")
    normal = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace("’", "'"),
            normalizers.Replace(Regex(UNSPOKEN), " "),
            normalizers.Strip(),
        ]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normal.normalize_str(text))
    kept = sorted(sorted(counts), key=lambda sign: -counts[sign])[: size - len(SPELLED)]
    vocabulary = [*SPELLED.values(), *sorted(kept)]
    machine = Machine(
        models.WordLevel({sign: number for number, sign in enumerate(vocabulary)}, unk_token=SPELLED["unk_token"])
    )
    machine.normalizer = normal
    machine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    machine.decoder = decoders.CTC(pad_token=SPELLED["pad_token"], word_delimiter_token=" ", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=machine,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPELLED,
    )


def load_tokenizer(name: str | Path) -> Any:
    """The fast tokenizer of a folder, a hub id or a packaged model.

    Raises:
        ModelError: there is none, or it has only a slow form.
        StateError: a run left it, and its files are not what the run wrote.
    """
    name = local(name)
    if str(name).startswith((".", "/", "~")) or is_folder(name) or is_file(name):
        folder = expanded(name)
        if not is_folder(folder):
            raise ModelError(f"there is no tokenizer folder '{name}'")
        if not any(is_file(folder / file) for file in TOKENIZER_FILES):
            raise ModelError(
                f"'{name}' has no tokenizer (no {TOKENIZER_FILES[0]}); set the stage's tokenizer to load or train one"
            )
        check_exported(folder, lambda file: not file.endswith(".safetensors"))
        name = folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), use_fast=True, trust_remote_code=False)
    except BaseException as error:  # every library below raises its own kind
        if not of_a_library(error):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "trust_remote_code" in str(error):
            first = "it asks for code of its own (auto_map), which is never run"
        raise ModelError(f"the tokenizer '{name}' cannot be loaded: {first[:300]}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer '{name}' has no fast form (tokenizer.json), which warmstart needs")
    return tokenizer


TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def tokenizer_for(
    settings: Tokenizer, data: Data, head: str, cache_dir: Path | None = None, engine: Engine | None = None
) -> Any:
    """A stage's tokenizer: loaded, or trained on the stage's training documents alone and kept in the cache.

    Args:
        settings: the recipe's `tokenizer`.
        head: the objective's head; decides the special tokens of a trained tokenizer.

    Raises:
        ModelError: it cannot be loaded, or its size is too small.
        DataError: there are no training documents.
        UserError: the cache cannot be written.
    """
    if settings.load is not None:
        return load_tokenizer(settings.load)
    size = settings.size
    assert size is not None
    kind = "characters" if settings.characters is not None else "masked" if head in ENCODERS else "causal"
    folder = (cache_dir or cache_folder()) / "tokenizers" / digest(FORMAT, training_key(data), size, kind)

    def make(draft: Path) -> dict[str, Any]:
        texts = documents(data, engine=engine, cache_dir=cache_dir)
        trained = train_characters(texts, size) if kind == "characters" else train_tokenizer(texts, size, kind)
        trained.save_pretrained(draft)
        return {"size": len(trained)}

    entry(folder, make)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def check_fits(tokenizer: Any, config: PretrainedConfig) -> None:
    """Makes sure that the model has an embedding for every token.

    Raises:
        ModelError: the tokenizer has more tokens than the model's embedding has rows.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    size = max(tokenizer.get_vocab().values()) + 1  # ids may have gaps
    if isinstance(rows, int) and size > rows:
        name = re.sub(r".*/tokenizers/[0-9a-f]{32}$", "", str(tokenizer.name_or_path or ""))
        raise ModelError(
            f"the tokenizer{f' {name!r}' if name else ''} has {size:,} tokens, but the "
            f"{config.model_type} model's embedding has {rows:,} rows; use the model's own tokenizer or set vocab_size"
        )
