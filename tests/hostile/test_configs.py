"""Model folders whose configuration or tokenizer asks for code, for kernels of the hub, or for a billion layers."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from canary import changed_bytes, changed_values, fuzz, little_memory, nothing_run, refused_or_fine
from hypothesis import strategies as st

from warmstart.errors import ModelError, UserError
from warmstart.models import bounded
from warmstart.models.build import configuration, new_model
from warmstart.models.load import load_model
from warmstart.models.tokenizer import load_tokenizer, train_tokenizer
from warmstart.plan import describe
from warmstart.recipe import Recipe
from warmstart.surgery.grow import grow

EVIL_CODE = """\
import os
os.system("echo run > run")
open("run", "w").write("run")
class Evil: pass
EvilConfig = EvilModel = Evil
"""
AUTO_MAP = {
    "AutoConfig": "evil.EvilConfig",
    "AutoModel": "evil.EvilModel",
    "AutoModelForCausalLM": "evil.EvilModel",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    tiny_models.build("gpt2", n_layer=2, vocab_size=280).save_pretrained(folder)
    train_tokenizer(["some text to train on"], 280, "causal").save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path, monkeypatch: Any) -> Path:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    (folder / "evil.py").write_text(EVIL_CODE)
    (folder / "configuration_evil.py").write_text(EVIL_CODE)
    monkeypatch.chdir(tmp_path)
    return folder


def change(file: Path, **fields: Any) -> None:
    raw = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in (raw | fields).items() if value is not ...}))


def readers(model: Path) -> dict[str, Callable[[], Any]]:
    """Everything that reads the configuration of a model folder."""
    stage = {"data": {"source": "python-stdlib", "length": 8}, "budget": {"steps": 1}, "tokenizer": {"train": 300}}
    start = {"init": {"like": str(model)}}
    grown = {"from": str(model), "surgery": [{"type": "grow", "to": {"width": 32}}]}
    return {
        "loaded": lambda: load_model(model, "causal"),
        "with another head": lambda: load_model(model, "embedding"),
        "as a shape": lambda: configuration(str(model), {}),
        "checked": lambda: describe(Recipe.model_validate({"stages": [stage | start]})),
        "checked as a start": lambda: describe(Recipe.model_validate({"stages": [stage | grown]})),
        "grown": lambda: grow(model, model.parent / "grown", to={"width": 32}),
    }  # fmt: skip


@pytest.mark.parametrize("model_type", ["evil", "", None, ["gpt2"]])
def test_code_of_a_model_is_never_run(model_type: Any, model: Path) -> None:
    change(model / "config.json", auto_map=AUTO_MAP, model_type=model_type, trust_remote_code=True)
    for name, call in readers(model).items():
        with nothing_run(), pytest.raises(UserError) as caught:
            call()
        assert "code of its own (auto_map), which is never run" in str(caught.value), name
        assert str(model) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not list(model.parent.rglob("run"))


def test_code_beside_a_known_type_is_passed_over(model: Path) -> None:
    change(model / "config.json", auto_map=AUTO_MAP, trust_remote_code=True)
    for call in readers(model).values():
        with nothing_run():
            call()
    assert type(load_model(model, "causal")).__name__ == "GPT2LMHeadModel"
    assert not list(model.parent.rglob("run"))


def test_code_of_a_tokenizer_is_never_run(model: Path) -> None:
    change(model / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class="EvilTokenizer", trust_remote_code=True)
    with nothing_run():
        message = refused_or_fine(lambda: load_tokenizer(model))
    assert message is None or "never run" in message
    change(model / "config.json", model_type="evil", auto_map=AUTO_MAP)
    with nothing_run():
        message = refused_or_fine(lambda: load_tokenizer(model))
    assert message is None or "never run" in message
    assert not list(model.parent.rglob("run"))


@pytest.mark.parametrize("where", ["init", "data", "from"])
def test_a_recipe_cannot_switch_code_on(where: str) -> None:
    stage: dict[str, Any] = {
        "init": {"like": "gpt2"}, "tokenizer": {"train": 300}, "budget": {"steps": 1},
        "data": {"source": {"type": "hugging-face", "path": "x/y"}, "length": 8},
    }  # fmt: skip
    if where == "init":
        stage["init"]["trust_remote_code"] = True
        with pytest.raises(ModelError, match="no such field"):
            describe(Recipe.model_validate({"stages": [stage]}))
        return
    (stage["data"]["source"] if where == "data" else stage)["trust_remote_code"] = True
    with pytest.raises(ValueError, match="trust_remote_code"):
        Recipe.model_validate({"stages": [stage]})


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn2", {"": "evil/kernel"}, ["evil/kernel"]])
def test_kernels_of_the_hub_are_never_fetched(field: str, value: Any, model: Path) -> None:
    for fields in ({field: value}, {"text_config": {field: value}}):
        change(model / "config.json", **fields)
        for call in readers(model).values():
            with nothing_run(), pytest.raises(UserError, match="code of the hub is never run"):
                call()


@pytest.mark.parametrize("field", ["n_layer", "num_hidden_layers", "n_head"])
def test_a_billion_layers_are_refused_at_once(field: str, model: Path) -> None:
    change(model / "config.json", **{field: 10**9})
    start = time.process_time()
    for call in readers(model).values():
        with nothing_run(), little_memory(), pytest.raises(UserError, match=rf"{field}: found 1e\+09; at most 4,096"):
            call()
    with little_memory(), pytest.raises(ModelError, match="init: n_layer: found 1e"):
        configuration("gpt2", {"n_layer": 10**9})
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    ("like", "fields"),
    [
        ("gpt2", {"vocab_size": 10**12}),
        ("gpt2", {"n_embd": 2**30, "n_head": 1}),
        ("gpt2", {"n_positions": 10**13}),
        ("llama", {"intermediate_size": 10**13}),
        ("llama", {"hidden_size": 2**40}),
        ("gpt2", {"vocab_size": 10**30}),
        ("gpt2", {"n_inner": 10**18}),
        ("bert", {"type_vocab_size": 10**13}),
        ("vit", {"image_size": 10**7, "patch_size": 1}),
        ("wav2vec2", {"conv_dim": [10**9] * 7}),
    ],
)
def test_a_matrix_of_a_petabyte_is_refused_before_there_is_memory_for_it(like: str, fields: dict[str, Any]) -> None:
    head = "causal" if like in ("gpt2", "llama") else "none"
    with nothing_run(), little_memory(), pytest.raises(ModelError) as caught:
        new_model(configuration(like, fields), head, seed=0)
    assert "\n" not in str(caught.value)


def test_the_memory_that_is_asked_for_is_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(bounded, "memory", lambda: 2**20)
    with pytest.raises(
        ModelError, match=r"init: the gpt2 model needs more than .* \(at 'weight' \(50257, 768\)\); this machine"
    ):
        new_model(configuration("gpt2", {}), "causal", seed=0)
    assert new_model(
        configuration("gpt2", {"n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": 30}), "causal", seed=0
    )


def test_more_modules_than_any_model_has(monkeypatch: Any) -> None:
    monkeypatch.setattr(bounded, "MOST_MODULES", 50)
    with pytest.raises(ModelError, match="would have more than 50 modules"):
        new_model(configuration("gpt2", {"n_embd": 16, "n_head": 2, "vocab_size": 30}), "causal", seed=0)


def test_the_watch_ends_with_the_building() -> None:
    from torch.nn.modules import module

    before = len(module._global_parameter_registration_hooks)
    with pytest.raises(ModelError), torch.device("meta"), bounded.bounded("x"):
        torch.nn.Linear(10**9, 10**9)
    assert len(module._global_parameter_registration_hooks) == before
    torch.nn.Linear(10**6, 2, device="meta")


def test_weights_that_a_configuration_promises_and_the_file_lacks(model: Path) -> None:
    change(model / "config.json", n_layer=4_000)
    start = time.process_time()
    with little_memory(), pytest.raises(ModelError, match="would have more than 212 weights, but its files hold 28"):
        load_model(model, "causal")
    assert time.process_time() - start < 30


CONFIGS = {
    "no JSON": "{",
    "empty": "",
    "a list": "[]",
    "a number": "3",
    "nested without end": '{"a": ' * 50_000,
    "very large": json.dumps({"model_type": "gpt2", "x": "y" * 11_000_000}),
    "nested": json.dumps({"model_type": "gpt2", "x": json.loads("[" * 40 + "]" * 40)}),
    "an unknown type": '{"model_type": "nope"}',
    "an activation that runs": '{"model_type": "gpt2", "activation_function": "__import__(\'os\').system(\'id\')"}',
    "a type of numbers that runs": '{"model_type": "gpt2", "dtype": "load"}',
    "quantised by nobody": '{"model_type": "gpt2", "quantization_config": {"quant_method": "evil"}}',
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_is_none(case: str, model: Path) -> None:
    (model / "config.json").write_text(CONFIGS[case])
    for name, call in readers(model).items():
        with little_memory():
            message = refused_or_fine(call)
        assert (
            message is not None or name not in ("loaded", "with another head") or case.startswith(("quant", "a type"))
        ), name


# ---- fuzzers -------------------------------------------------------------------------------------------------------


def test_fuzz_configurations(model: Path) -> None:
    file = model / "config.json"

    def check(raw: Any) -> None:
        file.write_text(json.dumps(raw))
        with little_memory(2**31):
            refused_or_fine(lambda: load_model(model, "causal"))
            refused_or_fine(lambda: configuration(str(model), {}))

    fuzz(check, changed_values(json.loads(file.read_text())), examples=25)


def test_fuzz_new_models() -> None:
    def check(fields: dict[str, Any]) -> None:
        with little_memory(2**31):
            refused_or_fine(lambda: new_model(configuration("gpt2", fields), "causal", seed=0))

    from transformers import GPT2Config

    plain = {
        k: v for k, v in GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=30).to_dict().items() if v is not None
    }
    one = changed_values(plain).filter(lambda found: isinstance(found, dict))
    fuzz(check, one, examples=25)


def test_fuzz_tokenizers(model: Path) -> None:
    files = [model / name for name in ("tokenizer.json", "tokenizer_config.json")]
    originals = [file.read_text() for file in files]

    def check(found: tuple[int, Any]) -> None:
        number, content = found
        for file, text in zip(files, originals, strict=True):
            file.write_text(text)
        files[number].write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        with little_memory(2**31):
            refused_or_fine(lambda: load_tokenizer(model))

    def contents(number: int) -> st.SearchStrategy[Any]:
        small = json.loads(originals[number])
        return changed_values(small) | changed_bytes(originals[number].encode())

    fuzz(
        check, st.sampled_from([0, 1]).flatmap(lambda number: st.tuples(st.just(number), contents(number))), examples=25
    )
