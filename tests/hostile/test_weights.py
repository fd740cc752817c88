"""Weights that somebody else made: pickles, headers that lie, indexes that point elsewhere, and mutated files."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from canary import changed_bytes, changed_values, fuzz, little_memory, nothing_run, refused_or_fine
from hypothesis import strategies as st
from safetensors import safe_open

from warmstart.errors import ModelError
from warmstart.models.load import load_model
from warmstart.models.weight_files import INDEX, header
from warmstart.surgery.grow import grow
from warmstart.surgery.tensor_files import Checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    tiny_models.build("gpt2", n_layer=2).save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def written(raw: Any, data: bytes, length: int | None = None) -> bytes:
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


TWICE = b'{"a": %b, "a": %b}' % (json.dumps(entry(0, 8)).encode(), json.dumps(entry(8, 16)).encode())

LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes are too few"),
    "no header": (b"\x00" * 5, "5 bytes are too few"),
    "a header of no bytes": (struct.pack("<Q", 0), "Expecting value"),
    "longer than the file": (written({"a": entry(0, 8)}, b"\0" * 8, length=10**6), "a header of 1,000,000 bytes in a"),
    "longer than any": (written({"a": entry(0, 8)}, b"\0" * 8, length=2**63), "at most 100,000,000"),
    "no JSON": (written(b"{not json}", b""), "is broken: "),
    "no UTF-8": (written(b'{"\xff": 1}', b""), "is broken: "),
    "a list": (written([1, 2], b""), "the header is list, not a mapping"),
    "nested without end": (written(b"[" * 100_000, b""), "is broken: "),
    "a tensor that is none": (written({"a": 3}, b""), "'a' is int, not a mapping"),
    "a name twice": (written(TWICE, b"\0" * 16), "'a' stands there twice"),
    "a name that clears the screen": (written({"a\x1b[2J": entry(0, 8)}, b"\0" * 8), "'a␛[2J' has control characters"),
    "an unknown type": (written({"a": entry(0, 8, dtype="PICKLE")}, b"\0" * 8), "'a' has the type 'PICKLE'"),
    "no type": (written({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8), "'a' has the type None"),
    "a negative side": (written({"a": entry(0, 8, [-2])}, b"\0" * 8), "'a' has the shape [-2]"),
    "half a side": (written({"a": entry(0, 8, [2.0])}, b"\0" * 8), "'a' has the shape [2.0]"),
    "true for a side": (written({"a": entry(0, 4, [True])}, b"\0" * 4), "'a' has the shape [True]"),
    "a shape too large for its bytes": (written({"a": entry(0, 8, [10**9, 10**9])}, b"\0" * 8), "does not fill bytes"),
    "a shape that overflows": (written({"a": entry(0, 0, [2**62, 2**62, 0, 4])}, b""), "does not fill bytes 0 to 0"),
    "another type than its bytes": (written({"a": entry(0, 8, [2], "F64")}, b"\0" * 8), "F64 of shape [2], does not"),
    "backwards": (written({"a": entry(8, 0, [0])}, b"\0" * 8), "'a' has the place [8, 0]"),
    "before the file": (written({"a": entry(-8, 0, [2])}, b"\0" * 8), "'a' has the place [-8, 0]"),
    "behind the file": (written({"a": entry(0, 800)}, b"\0" * 8), "its tensors fill 800 bytes, but 8 follow"),
    "far behind the file": (written({"a": entry(2**62, 2**62 + 8)}, b"\0" * 8), "leaves bytes before it to nobody"),
    "two in one place": (written({"a": entry(0, 8), "b": entry(0, 8)}, b"\0" * 8), "'b' at byte 0 shares bytes"),
    "overlapping": (written({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12), "'b' at byte 4 shares bytes"),
    "a hole": (written({"a": entry(0, 8), "b": entry(12, 20)}, b"\0" * 20), "'b' at byte 12 leaves bytes"),
    "bytes of nobody": (written({"a": entry(0, 8)}, b"\0" * 16), "its tensors fill 8 bytes, but 16 follow"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_one_line_for_every_reader(case: str, model: Path, tmp_path: Path) -> None:
    content, fragment = LIES[case]
    (model / "model.safetensors").write_bytes(content)
    calls: list[Callable[[], Any]] = [
        lambda: header(model / "model.safetensors"),
        lambda: load_model(model, "causal"),
        lambda: Checkpoint(model),
        lambda: grow(model, tmp_path / "grown", to={"width": 32}),
    ]
    for call in calls:
        with nothing_run(), little_memory(), pytest.raises(ModelError) as caught:
            call()
        assert fragment in str(caught.value)
        assert str(model) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "grown").exists()


def test_what_the_library_writes_is_believed(model: Path) -> None:
    for folder in (model,):
        found = header(folder / "model.safetensors")
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            assert {name: entry.shape for name, entry in found.items()} == {
                name: tuple(file.get_tensor(name).shape)
                for name in file.keys()  # noqa: SIM118
            }


def test_a_wrong_shape_in_a_true_file(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(model / "model.safetensors")
    for change in (
        {"transformer.wte.weight": torch.zeros(3, 3)},
        {"transformer.h.0.attn.c_attn.weight": torch.zeros(16)},
        {"transformer.wte.weight": torch.zeros(30, 16, dtype=torch.complex64)},
    ):
        save_file(held | change, model / "model.safetensors", {"format": "pt"})
        message = refused_or_fine(lambda: load_model(model, "causal"))
        assert message is None or "cannot be loaded" in message
        if torch.zeros(0).dtype == next(iter(change.values())).dtype:
            assert message is not None


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo opened > opened",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt", "tf_model.h5"])
def test_pickled_weights_are_never_opened(name: str, model: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(model)
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Evil()))
    calls: list[Callable[[], Any]] = [
        lambda: load_model(model, "causal"),
        lambda: Checkpoint(model),
        lambda: grow(model, model.parent / "grown", to={"width": 32}),
    ]
    for call in calls:
        with nothing_run(), pytest.raises(ModelError, match=r"no \*\.safetensors weights .*never opened.*safetensors"):
            call()
    with (
        nothing_run(),
        pytest.raises(ModelError, match=r"is a file; give the model's folder, with config.json and \*.saf"),
    ):
        load_model(model / name, "causal")
    assert not (model / "opened").exists()


def test_a_pickle_called_safetensors_is_no_safetensors(model: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(model)
    torch.save({"a": Evil()}, model / "model.safetensors")
    with nothing_run(), pytest.raises(ModelError, match="is broken: a header of"):
        load_model(model, "causal")
    assert not (model / "opened").exists()


def test_a_pickle_beside_the_weights_is_passed_over(model: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(model)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (model / name).write_bytes(pickle.dumps(Evil()))
    with nothing_run():
        load_model(model, "causal")
    assert not (model / "opened").exists()


def test_an_adapter_that_brings_weights_along_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "evil/model"}')
    with nothing_run(), pytest.raises(ModelError, match=r"adapter_config\.json beside its config\.json"):
        load_model(model, "causal")
    (model / "config.json").unlink()
    with nothing_run(), pytest.raises(ModelError, match="is an adapter, not a model"):
        load_model(model, "causal")


@pytest.mark.parametrize(
    "name",
    [
        "../whole.safetensors",
        "/etc/passwd",
        "sub/a.safetensors",
        "a.bin",
        "..",
        "",
        "a\0.safetensors",
        3,
        "none.safetensors",
    ],
)
def test_an_index_names_files_of_its_own_folder_alone(name: Any, model: Path) -> None:
    (model / "sub").mkdir()
    shutil.copyfile(model / "model.safetensors", model.parent / "whole.safetensors")
    shutil.copyfile(model / "model.safetensors", model / "sub" / "a.safetensors")
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    names = header(model / "model-00001-of-00001.safetensors")
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, name)}))
    for call in (lambda: load_model(model, "causal"), lambda: Checkpoint(model)):
        with nothing_run(), pytest.raises(ModelError, match=r"weight_map names|is no index of weights"):
            call()
    (model / INDEX).write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")})
    )
    load_model(model, "causal")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": []}', "[" * 100_000, "\xff"])
def test_an_index_that_is_none(text: str, model: Path) -> None:
    (model / INDEX).write_text(text, encoding="latin-1")
    for call in (lambda: load_model(model, "causal"), lambda: Checkpoint(model)):
        with nothing_run(), pytest.raises(ModelError, match="is no index of weights"):
            call()


# ---- fuzzers -------------------------------------------------------------------------------------------------------


def read_all(model: Path) -> None:
    def by_tensors() -> None:
        checkpoint = Checkpoint(model)
        for name in checkpoint.specs:
            assert checkpoint.tensor(name).shape == checkpoint.specs[name].shape

    refused_or_fine(by_tensors)
    refused_or_fine(lambda: load_model(model, "causal"))


def test_fuzz_bytes_of_weights(model: Path) -> None:
    file = model / "model.safetensors"
    original = file.read_bytes()
    (length,) = struct.unpack("<Q", original[:8])

    def check(content: bytes) -> None:
        file.write_bytes(content + original[8 + length :])
        read_all(model)

    fuzz(check, changed_bytes(original[: 8 + length]) | st.binary(max_size=100))


def test_fuzz_headers(model: Path) -> None:
    file = model / "model.safetensors"
    original = file.read_bytes()
    (length,) = struct.unpack("<Q", original[:8])

    def check(raw: Any) -> None:
        file.write_bytes(written(json.dumps(raw).encode(), original[8 + length :]))
        read_all(model)

    fuzz(check, changed_values(json.loads(original[8 : 8 + length])))


def test_fuzz_indexes(model: Path) -> None:
    names = header(model / "model.safetensors")
    (model / "model.safetensors").rename(model / "a.safetensors")

    def check(raw: Any) -> None:
        (model / INDEX).write_text(json.dumps(raw))
        read_all(model)

    fuzz(check, changed_values({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "a.safetensors")}))
