"""Tokenizers: training, special tokens, saving, loading, fitting a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import AutoConfig, AutoTokenizer

from warmstart.errors import DataError, ModelError
from warmstart.models.tokenizer import (
    check_fits,
    load_tokenizer,
    tokenizer_for,
    train_characters,
    train_tokenizer,
)
from warmstart.recipe_data import Data, Tokenizer
from warmstart.recipe_merge import merge

TEXTS = [f"def f{number}(self):\n    return self.value + {number}  # Ärger 你好\n" for number in range(50)]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_any_text_comes_back(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, 400, kind)
    for text in ("def new_name(x):\n\treturn x ** 2\n", "naïve 🙂 \u200b\x00", "  two  spaces . . ,"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert "token_type_ids" not in tokenizer("a")


def test_training_is_deterministic() -> None:
    first, second = (train_tokenizer(iter(TEXTS), 330, "causal") for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert len(first) == 330
    assert len(train_tokenizer(["ab ab"], 4000, "causal")) < 4000


def test_special_tokens() -> None:
    causal = train_tokenizer(TEXTS, 300, "causal")
    assert causal.bos_token == causal.eos_token == causal.pad_token == "<|endoftext|>"
    assert causal.eos_token_id == 0
    masked = train_tokenizer(TEXTS, 300, "masked")
    assert masked.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    one, two = masked("a")["input_ids"], masked("a", "b")["input_ids"]
    assert [one[0], one[-1]] == [2, 3]
    assert two.count(3) == 2
    assert masked.unk_token_id not in masked("\U0001f642")["input_ids"]


@pytest.mark.parametrize("like", [None, "gpt2", "llama", "qwen3", "bert", "roberta"])
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_saved_one_opens_with_auto_tokenizer(tmp_path: Path, kind: str, like: str | None) -> None:
    """Also beside a model's config.json, which must not turn it into the model type's own tokenizer."""
    tokenizer = train_tokenizer(TEXTS, 400, kind)
    tokenizer.save_pretrained(tmp_path)
    if like:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": like}))
    for opened in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert opened(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
        assert opened.all_special_ids == tokenizer.all_special_ids
        assert opened.decode(opened(TEXTS[0])["input_ids"], skip_special_tokens=True) == TEXTS[0]
        assert "token_type_ids" not in opened("a")


def test_too_small() -> None:
    with pytest.raises(ModelError, match="260 is too small: 256 bytes and 5 special tokens need 261"):
        train_tokenizer(TEXTS, 260, "masked")


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no tokenizer folder"):
        load_tokenizer(tmp_path / "missing")
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="'nobody/nothing' cannot be loaded"):
        load_tokenizer("nobody/nothing")


def data_of(path: Path, **settings: Any) -> Data:
    return Data.model_validate({"source": {"type": "files", "path": str(path)}, "length": 8} | settings)


def test_trained_on_training_documents_alone_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from warmstart.data.documents import is_held_out

    path = tmp_path / "a.jsonl"
    texts = [f"{word} {word} {word}" for word in ("alphabet", "betatest", "gammaray", "deltafour", "epsilonic")] * 1
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = data_of(path, split={"validation": 0.5})
    held_out = [text for text in texts if is_held_out(text, 0.5)]
    assert 0 < len(held_out) < len(texts)
    tokenizer = tokenizer_for(Tokenizer(train=300), data, "causal")
    for text in texts:
        known = text.split()[0] in tokenizer.get_vocab()
        assert known == (text not in held_out)
    monkeypatch.setattr("warmstart.models.tokenizer.train_tokenizer", lambda *_: pytest.fail("trained again"))
    again = tokenizer_for(Tokenizer(train=300), data, "causal")
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again.eos_token_id == tokenizer.eos_token_id


def test_the_head_decides_the_special_tokens(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert tokenizer_for(Tokenizer(train=300), data_of(path), "masked").mask_token == "[MASK]"
    assert tokenizer_for(Tokenizer(train=300), data_of(path), "causal").mask_token is None
    train_tokenizer(TEXTS, 300, "causal").save_pretrained(tmp_path / "saved")
    assert len(tokenizer_for(Tokenizer(load=str(tmp_path / "saved")), data_of(path), "causal")) == 300


def test_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(DataError, match="the corpus is empty"):
        tokenizer_for(Tokenizer(train=300), data_of(tmp_path / "a.jsonl"), "causal")


def test_fits_the_model() -> None:
    tokenizer = train_tokenizer(TEXTS, 300, "causal")
    check_fits(tokenizer, AutoConfig.for_model("gpt2", vocab_size=300))
    with pytest.raises(ModelError, match=r"has 300 tokens, but the gpt2 model's embedding has 299 rows"):
        check_fits(tokenizer, AutoConfig.for_model("gpt2", vocab_size=299))


# ---- characters ----------------------------------------------------------------------------------------------------


def test_characters_of_transcripts() -> None:
    tokenizer = train_characters(["Hello, World!", "it’s  “well-known”", "él 42"], 64)
    assert tokenizer.pad_token_id == 0
    assert set(tokenizer.get_vocab()) == {"<pad>", "<unk>", *"helo wrdit'snké42"}
    said = tokenizer("  It's -- WELL,\nknown! ")["input_ids"]
    assert "".join(tokenizer.convert_ids_to_tokens(said)) == "it's well known"
    assert tokenizer("Zebra")["input_ids"][0] == tokenizer.unk_token_id
    vocabulary = tokenizer.get_vocab()
    steps = [vocabulary[sign] if sign != "_" else 0 for sign in "hhe_ll_l_oo  __w"]
    assert tokenizer.decode(steps) == "hello w"


def test_the_most_frequent_characters_are_kept_and_it_is_saved(tmp_path: Path) -> None:
    tokenizer = train_characters(["aaa bb c", "aab"], 5)
    assert set(tokenizer.get_vocab()) == {"<pad>", "<unk>", "a", "b", " "}
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("Abba, c")["input_ids"] == tokenizer("Abba, c")["input_ids"]
    assert again.decode([2, 2, 0, 2]) == tokenizer.decode([2, 2, 0, 2])
    with pytest.raises(ModelError, match=r"tokenizer.characters: 2 is too small: 2 tokens are special ones"):
        train_characters(["a"], 2)


def test_one_way_to_a_tokenizer() -> None:
    assert Tokenizer(characters=30).size == 30
    assert Tokenizer(train=300).size == 300
    assert Tokenizer(load="x").size is None
    for given in ({}, {"train": 300, "characters": 30}, {"characters": 30, "load": "x"}):
        with pytest.raises(ValidationError, match="exactly one of 'train'"):
            Tokenizer(**given)
    assert merge({"train": 300}, {"characters": 30}) == {"characters": 30}
