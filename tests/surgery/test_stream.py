"""From folder to folder: the same bits as in memory, whole or not at all, in the memory of a few tensors."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import MODELS, make_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from warmstart.errors import ModelError, UserError
from warmstart.surgery import stream, tensor_files
from warmstart.surgery.grow import Grow, grow

pytestmark = pytest.mark.filterwarnings("ignore:growing keeps")


def saved(name: str, folder: Path, **settings: Any) -> Any:
    model = make_model(name)
    model.save_pretrained(folder, **settings)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("width", ["fpi", "aki", "exact", "direct", "random"])
def test_streaming_gives_the_bits_of_growing_in_memory(name: str, width: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / "old", max_shard_size="6KB" if width in ("aki", "exact") else "5GB")
    to = {"width": 32, "depth": 5}
    settings = {"to": to, "width": width, "depth": "identity" if width == "exact" else "stack", "noise": 0.01}
    if width in ("exact", "random"):
        del settings["noise"]
    report = grow(tmp_path / "old", tmp_path / "new", seed=3, **settings)  # type: ignore[arg-type]
    in_memory = Grow(**settings).apply(model, seed=3)  # type: ignore[arg-type]
    plain = type(model).from_pretrained(tmp_path / "new")
    expected = in_memory.state_dict()
    assert plain.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[n]) for n, weight in plain.state_dict().items())
    assert (report.old_parameters, report.new_parameters) == (model.num_parameters(), plain.num_parameters())
    assert report.depth_map == ((0, 0, 1, 1, 2) if width == "exact" else (0, 1, 2, 1, 2))
    assert report.largest is not None
    assert report.skipped == ()
    if report.promise == "exactly":
        assert report.largest < 1e-5


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-untied", "bert-tied", "vit"])
def test_plain_transformers_opens_the_folder_without_a_complaint(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path / "old")
    grow(tmp_path / "old", tmp_path / "new", to={"width": 32}, width="exact")
    kind = type(make_model(name))
    model, info = kind.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    with torch.random.fork_rng(devices=[]):  # the bare model may have a pooler, which starts at random
        assert AutoModel.from_pretrained(tmp_path / "new").config.hidden_size == 32
    again = tmp_path / "again"
    model.save_pretrained(again)  # the names in the file are those that transformers would write
    assert load_file(again / "model.safetensors").keys() == load_file(tmp_path / "new" / "model.safetensors").keys()


def test_the_tokenizer_goes_along_and_gives_the_tokens_of_the_check(tmp_path: Path) -> None:
    saved("gpt2-tied", tmp_path / "old")
    words = Tokenizer(WordLevel({"[UNK]": 0, "text": 1, "the": 2, "width": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path / "old")
    report = grow(tmp_path / "old", tmp_path / "new", to={"width": 32})
    assert report.promise == "exactly"
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (tmp_path / "old" / "tokenizer.json").read_bytes()
    assert (tmp_path / "new" / "generation_config.json").is_file()
    tokens = stream.real_tokens(tmp_path / "new")
    assert tokens is not None
    assert set(tokens.tolist()) > {0, 1}
    assert report.target == tmp_path / "new"


def test_shards_keep_the_sources_size_and_their_index_is_complete(tmp_path: Path) -> None:
    saved("llama-untied", tmp_path / "old", max_shard_size="6KB")
    grow(tmp_path / "old", tmp_path / "new", to={"width": 32, "depth": 6})
    files = sorted((tmp_path / "new").glob("*.safetensors"))
    limit = max(f.stat().st_size for f in (tmp_path / "old").glob("*.safetensors"))
    assert len(files) > 5
    tensors = [load_file(f) for f in files]
    for file, held in zip(files, tensors, strict=True):
        assert sum(t.nbytes for t in held.values()) <= limit or len(held) == 1, file
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {n: f.name for f, held in zip(files, tensors, strict=True) for n in sorted(held)}
    assert index["metadata"]["total_size"] == sum(t.nbytes for held in tensors for t in held.values())


def test_names_and_extras_of_older_files(tmp_path: Path) -> None:
    """Files without the base model's prefix, with `gamma`, with buffers, with a head that the class does not have."""
    model = saved("gpt2-tied", tmp_path / "old")
    held = load_file(tmp_path / "old" / "model.safetensors")
    held = {name.removeprefix("transformer."): tensor for name, tensor in held.items()}
    held["h.0.attn.bias"] = torch.ones(1, 1, 24, 24)
    held["lm_head.weight"] = held["wte.weight"].clone()
    save_file(held, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    report = grow(tmp_path / "old", tmp_path / "new", to={"width": 32})
    assert report.skipped == ("h.0.attn.bias",)
    assert report.largest is not None
    assert report.largest < 1e-5
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "new").state_dict()
    assert all(torch.equal(plain[n], w) for n, w in Grow(to={"width": 32}).apply(model).state_dict().items())
    saved("bert-tied", tmp_path / "bert")
    held = load_file(tmp_path / "bert" / "model.safetensors")
    held = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in held.items()}
    held |= {"bert.pooler.dense.weight": torch.eye(16), "bert.pooler.dense.bias": torch.zeros(16)}
    save_file(held, tmp_path / "bert" / "model.safetensors", {"format": "pt"})
    grow(tmp_path / "bert", tmp_path / "bert2", to={"width": 32})
    assert load_file(tmp_path / "bert2" / "model.safetensors")["bert.pooler.dense.weight"].shape == (32, 32)


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    model = make_model("llama-untied")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "old")
    grow(tmp_path / "old", tmp_path / "new", to={"width": 24, "heads": 8}, width="exact")
    assert {t.dtype for t in load_file(tmp_path / "new" / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoModel.from_pretrained(tmp_path / "new").dtype == torch.bfloat16


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_nothing(error: BaseException, tmp_path: Path, monkeypatch: Any) -> None:
    saved("gpt2-tied", tmp_path / "old", max_shard_size="6KB")
    real, written = tensor_files.write_file, []

    def fails_later(path: Path, *rest: Any) -> None:
        real(path, *rest)
        written.append(path)
        if len(written) == 3:
            raise error

    monkeypatch.setattr(tensor_files, "write_file", fails_later)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        grow(tmp_path / "old", tmp_path / "new", to={"width": 32})
    assert written
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    if expected is UserError:
        assert str(caught.value).startswith(f"cannot write {tmp_path / 'new'}: No space left on device")
        assert "\n" not in str(caught.value)


def test_a_broken_promise_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    saved("gpt2-tied", tmp_path / "old")
    monkeypatch.setattr("warmstart.surgery.exact.math.sqrt", lambda ratio: ratio)
    with pytest.raises(ModelError, match="promised to keep the function exactly"):
        grow(tmp_path / "old", tmp_path / "new", to={"width": 24}, width="exact")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    monkeypatch.undo()
    grow(tmp_path / "old", tmp_path / "new", to={"width": 24}, width="exact")


def test_bad_folders_get_one_clear_line(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    to = {"width": 32}
    with pytest.raises(ModelError, match="there is no model folder"):
        grow(old, new, to=to)
    old.mkdir()
    with pytest.raises(ModelError, match=r"is not a model folder: it has no config\.json"):
        grow(old, new, to=to)
    saved("gpt2-tied", old)
    with pytest.raises(ModelError, match="already exists; choose a new folder"):
        grow(old, old, to=to)
    weights = old / "model.safetensors"
    held = load_file(weights)
    save_file({n: t for n, t in held.items() if "ln_f" not in n}, weights)
    with pytest.raises(ModelError, match=r"lacks 2 weights of a GPT2LMHeadModel, e.g. transformer.ln_f.weight"):
        grow(old, new, to=to)
    save_file(held, weights)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model.safetensors is broken"):
        grow(old, new, to=to)
    weights.write_bytes(b"\x10\x00")
    with pytest.raises(ModelError, match="is broken: 2 bytes are too few"):
        grow(old, new, to=to)
    weights.unlink()
    with pytest.raises(ModelError, match=r"no \*.safetensors weights"):
        grow(old, new, to=to)
    (old / "config.json").write_text('{"model_type": "gpt2", "architectures": ["Nope"]}')
    with pytest.raises(ModelError, match="no model class 'Nope'"):
        grow(old, new, to=to)
    (old / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be used"):
        grow(old, new, to=to)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


MEASURE = """
import json, os, struct, sys, time
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from warmstart.surgery.grow import Grow
from warmstart.surgery.stream import grow_checkpoint, on_meta

folder, width = Path(sys.argv[1]), sys.argv[2]
old = folder / "old"
old.mkdir()
config = LlamaConfig(hidden_size=2048, num_attention_heads=16, num_key_value_heads=8, intermediate_size=7168,
                     num_hidden_layers=8, vocab_size=8192, architectures=["LlamaForCausalLM"])
config.save_pretrained(old)
layers = {}
for name, p in on_meta(LlamaForCausalLM, config).named_parameters():
    part = name.split(".")[2] if ".layers." in name else "-1"
    layers.setdefault(int(part) // 2, {})[name] = list(p.shape)
place = {}
for number, shapes in layers.items():  # files of zeros that take no time to write
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape + [1])[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file = f"model-{number + 1:05d}.safetensors"
    (old / file).write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(old / file, 8 + len(text) + end)
    place |= dict.fromkeys(shapes, file)
(old / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))

def status(key):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key + ":"))

to = {"hidden_size": 3072, "num_attention_heads": 24}
os.fsync = lambda handle: None  # memory is measured here, not the disk
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before, start = status("VmRSS"), time.time()
grow_checkpoint(old, folder / "new", Grow(to=to, width=width), check=False)
sizes = [f.stat().st_size for f in old.glob("*.safetensors")]
written = sum(f.stat().st_size for f in (folder / "new").glob("*.safetensors"))
print(json.dumps({"total": sum(sizes), "largest": max(sizes), "peak": status("VmHWM") - before, "written": written,
                  "seconds": time.time() - start}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_two_gigabytes_grow_in_the_memory_of_a_shard(tmp_path: Path) -> None:
    """A 2 GB checkpoint in several shards: the peak is at most 1.3 times its largest shard above where it began."""
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(tmp_path), "exact"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["total"] > 1.9e9
    assert found["written"] > 2 * found["total"]
    assert found["peak"] <= 1.3 * found["largest"], found
