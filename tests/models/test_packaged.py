"""Models that come in a package: fetched once, checked, and opened wherever a model may be named."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import GivenRows
from pairs import pair_rows
from tiny_encoders import encoder, tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "corpora"))
from archives import Clients, wheel

from warmstart.data.corpora.corpus import Package
from warmstart.errors import DataError, ModelError
from warmstart.models import packaged
from warmstart.models.build import configuration
from warmstart.models.load import load_model
from warmstart.models.packaged import PACKAGED, PackagedModel, local
from warmstart.models.tokenizer import load_tokenizer
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """A registry with a package that holds a tiny encoder."""
    encoder(head="masked").save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    content = wheel({f"pkg/model/{name}": (tmp_path / "model" / name).read_bytes() for name in names}
                    | {"pkg/__init__.py": "raise SystemExit('run')"})  # fmt: skip
    files = tuple(f"pkg/model/{name}" for name in names)
    package = Package("pypi", "tiny-encoder", "1.0", files, sha256=hashlib.sha256(content).hexdigest())
    made = Clients()
    made.archives["tiny-encoder==1.0"] = made.archives["tiny-encoder"] = ("tiny_encoder-1.0-py3-none-any.whl", content)
    real = subprocess.run  # which git is asked by

    def answer(command: list[str], **settings: Any) -> Any:
        return (real if command[0] == "git" else made.run)(command, **settings)

    monkeypatch.setattr("warmstart.data.corpora.fetch.subprocess.run", answer)
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(packaged.PACKAGED, "tiny", PackagedModel(package, "MIT", "a tiny encoder"))
    return made


def test_it_is_fetched_once_and_opened_by_name(clients: Clients) -> None:
    first = load_model("packaged:tiny", "masked")
    again, bare = load_model("packaged:tiny", "masked"), load_model("packaged:tiny", "embedding")
    assert len(clients.calls) == 1
    state = encoder(head="masked").state_dict()
    assert all(torch.equal(t, state[name]) for name, t in first.state_dict().items())
    assert all(torch.equal(t, state[name]) for name, t in again.state_dict().items())
    assert all(torch.equal(t, state[f"bert.{name}"]) for name, t in bare.state_dict().items())
    assert load_tokenizer("packaged:tiny").get_vocab() == tokenizer().get_vocab()
    config = configuration("packaged:tiny", {"num_hidden_layers": 1}, load_tokenizer("packaged:tiny"))
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (1, 32, 300)
    folder = Path(local("packaged:tiny"))
    assert not any(folder.rglob("*.py"))
    assert local("gpt2") == "gpt2"


def test_a_recipe_starts_from_it(clients: Clients, tmp_path: Path) -> None:
    """A run on rows of two texts, from the package to a folder that opens elsewhere."""
    raw: dict[str, Any] = {
        "stages": [
            {
                "from": "packaged:tiny",
                "surgery": [{"type": "truncate-encoder", "layers": 1}],
                "data": {"source": "python-stdlib", "packing": "rows", "split": {"validation": 0.3}, "length": 16},
                "objective": {"type": "contrastive", "length": 16},
                "train": {"batch_size": 4, "trackers": [], "device": "cpu"},
                "evaluate": {"every": 0.5, "evaluators": ["retrieval", "held-out"]},
                "budget": {"steps": 3},
            }
        ]
    }
    recipe = Recipe.model_validate(raw)
    stage = recipe.stages[0]
    assert stage.data is not None
    data = stage.data.model_copy(update={"source": GivenRows(given=pair_rows(30))})
    recipe = recipe.model_copy(update={"stages": [stage.model_copy(update={"data": data})]})
    result = run(recipe, tmp_path / "run", reporter=Reporter())
    facts = result.stages[0]
    assert facts["surgery"][0]["promise"] == "nothing"
    assert facts["tokens"] > 3 * 8 * 8  # both texts of each row, padded
    assert 0 <= facts["final"]["retrieval/recall@10"] <= 1
    lineage = (tmp_path / "run" / "lineage.json").read_text()
    assert "load packaged:tiny" in lineage
    assert str(tmp_path / "cache") not in lineage
    opened = pytest.importorskip("sentence_transformers").SentenceTransformer(str(result.model), device="cpu")
    assert opened.encode(["some text"]).shape == (1, 32)


def test_what_cannot_be(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ModelError, match=r"no packaged model 'minilm-l8' \(did you mean 'minilm-l6'\?\); there are: pack"
    ):
        load_model("packaged:minilm-l8", "none")
    found = PACKAGED["tiny"]
    monkeypatch.setitem(PACKAGED, "tiny", replace(found, package=replace(found.package, sha256="0" * 64)))
    with pytest.raises(DataError, match="sha256"):
        load_tokenizer("packaged:tiny")
    monkeypatch.setitem(PACKAGED, "tiny", replace(found, package=replace(found.package, files=("pkg/weights.bin",))))
    with pytest.raises(DataError, match=r"there is no file 'pkg/weights\.bin'"):
        load_tokenizer("packaged:tiny")


def test_every_packaged_model_is_pinned_and_safe() -> None:
    for name, model in PACKAGED.items():
        assert name == name.lower()
        assert model.package.sha256 is not None
        assert model.licence
        assert all(file.endswith((".json", ".safetensors", ".txt")) for file in model.package.files)


def test_heads_for_embeddings_have_no_pooler() -> None:
    assert not any("pooler" in name for name in encoder(head="embedding").state_dict())
    assert any("pooler" in name for name in encoder(head="none").state_dict())
    assert type(encoder("electra", "embedding")).__name__ == "ElectraModel"  # which never has one
