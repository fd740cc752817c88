"""Packaged studies on the user's own model and data: every one that says it takes them really trains them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import save_tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM
from typer.testing import CliRunner

from warmstart.catalog import systems
from warmstart.cli import app
from warmstart.errors import ModelError, RecipeError
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.plan import describe
from warmstart.recipe_file import read_study, resolved
from warmstart.recipe_stage import Stage
from warmstart.recipe_study import Study
from warmstart.recipe_text import read_file
from warmstart.report.results import Results
from warmstart.run_recipe import run
from warmstart.run_study import collect, plan
from warmstart.train.progress import Reporter
from warmstart.yours import Given, Yours, command, grown_fields, settings, source, written

SLUGS = [system.slug for system in systems()]
TUNED = ("spdf",)  # their second stage fine-tunes on text of the study's own
HELPERS = {"eft": "small"}  # models that a study makes itself beside the given one
ENCODERS = ("unpadded-bert", "structural-ssl", "starbucks")
SCALES = [(system.slug, scale) for system in systems() for scale in read_file(system.file).values["scales"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A causal model of 2 layers and width 16 with a tokenizer of its own, and a vocabulary padded to 304."""
    folder = save_tiny_model(tmp_path_factory.mktemp("own") / "model", positions=512)
    padded = AutoModelForCausalLM.from_pretrained(folder)
    padded.resize_token_embeddings(304)
    padded.config.bos_token_id = padded.config.eos_token_id = 0
    padded.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("own") / "encoder"
    tokenizer = train_tokenizer(["one two three four"] * 9, 270, "masked")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A jsonl of the user's, with a column `url`."""
    path = tmp_path_factory.mktemp("own") / "mine.jsonl"
    draw = random.Random(3)
    words = ["apples", "boats", "cats", "doors", "finds", "sells", "sees", "likes", "Ann", "Bob"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(60):
            text = " ".join(draw.choice(words) for _ in range(90))
            row = {
                "prompt": "Q: ",
                "text": f"Page {number}. {text}",
                "url": f"https://{draw.choice('abc')}.example.org/{number}",
            }
            file.write(json.dumps(row) + "\n")
    return str(path)


def everything(slug: str, model: str, texts: str, scale: str | None = "smoke") -> tuple[Study, Yours]:
    """A study with all that it says it takes of a user's own."""
    yours = read_study(slug, scale).yours
    assert yours is not None
    given = Given(
        model if yours.model else None,
        [texts] * yours.data.least if yours.data else (),
        {"width": 32} if yours.to else {},
    )
    return read_study(slug, scale, given=given), yours


def chosen(study: Study) -> dict[str, list[Stage]]:
    return {name: study.arms[name] for name in study.compare.arms or study.arms}


# ---- what every packaged study says about itself is true ---------------------------------------------------------


@pytest.mark.parametrize(("slug", "scale"), SCALES)
def test_no_arm_trains_another_model_or_other_text(slug: str, scale: str, model: str, texts: str) -> None:
    study, yours = everything(slug, model, texts, scale)
    for stages in chosen(study).values():
        for stage in stages[:1] if slug in TUNED else stages:
            if yours.data is not None and stage.data is not None:
                judged = study.compare.metric.split("/")[0]  # the held-out set that decides
                for data in (stage.data, stage.evaluate.also.get(judged, stage.data)):
                    assert [getattr(one, "path", None) for one in data.sources] == [texts] * yours.data.least
            if yours.model is None:
                continue
            if stage.from_ == HELPERS.get(slug):
                continue
            start = stage.init.like if stage.init else stage.from_ or model
            teachers = [part.teacher for part in stage.train.penalties if hasattr(part, "teacher")]
            assert {study.sources.get(teacher, teacher) for teacher in teachers} <= {model}
            if start in study.sources:
                made = study.sources[start]
                start = made if isinstance(made, str) else made[0].init.like if made[0].init else None
            assert start == model
    if yours.model and "shared.tokenizer" in yours.model.tokenizer:
        assert {s.tokenizer.load for stages in chosen(study).values() for s in stages if s.tokenizer} == {model}
    assert study.compare.baseline in chosen(study)
    assert study.claim is not None
    assert scale != "laptop" or study.claim.arm in chosen(study)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_command_that_is_shown_is_understood(slug: str, model: str, encoder: str, texts: str) -> None:
    line = command(slug, read_study(slug).yours)
    own = encoder if slug in ENCODERS else model
    words = line.replace("MODEL", own).replace("DATA", texts).replace("WIDTH", "32").split()
    assert words[:2] == ["warmstart", "study"]
    result = CliRunner().invoke(app, ["check", *words[2:], "--scale", "smoke"])
    assert result.exit_code == 0, result.output
    assert texts in result.stdout or "--data" not in line


def test_a_study_with_given_things_reads_back_as_it_is(model: str, texts: str, tmp_path: Path) -> None:
    study, _ = everything("rewarm", model, texts)
    (tmp_path / "study.yaml").write_text(resolved(study))
    assert read_study(tmp_path / "study.yaml", None) == study


# ---- three systems, from the command to the verdict ------------------------------------------------------------------


def carry_out(study: Study, arms: list[str], out: Path) -> Results:
    """A study in this process, one run after the other."""
    tasks = plan(study, arms, 1, out)
    for task in tasks:
        run(task.recipe, task.folder, reporter=Reporter())
    return Results.model_validate(collect(study, tasks, slug="own", scale="smoke", seeds=1))


QUICK = ("shared.evaluate={every: 0.9, evaluators: [{type: held-out, tokens: 128}]}", "compare.flops=1.0e+8")


def losses(results: Results, arm: str) -> list[Any]:
    return results.arms[arm].curve.values[0]


def test_going_on_with_ones_own_model_on_ones_own_text(model: str, texts: str, tmp_path: Path) -> None:
    study = read_study("rewarm", "smoke", QUICK, Given(model, [texts]))
    results = carry_out(study, ["constant", "rewarm", "scratch"], tmp_path)
    weights = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(model).parameters())
    assert {arm.parameters for arm in results.arms.values()} == {weights}  # scratch has the padded vocabulary too
    first = {name: losses(results, name)[0] for name in results.arms}
    assert first["constant"] == first["rewarm"] != first["scratch"]
    assert losses(results, "rewarm")[-1] < first["rewarm"]
    assert any(edge.operation == f"load {model}" for edge in results.arms["rewarm"].lineage[0].edges)
    assert results.given == {"upstream": model}
    assert results.remarks[-1].startswith(f"'{model}' was given, not made")
    assert results.sources == {}
    assert not (tmp_path / "sources").exists()


def test_growing_ones_own_model(model: str, texts: str, tmp_path: Path) -> None:
    study = read_study("bert2bert", "smoke", QUICK[1:], Given(model, [texts], {"width": 32}))
    assert "aki-short-source" not in (study.compare.arms or [])
    results = carry_out(study, ["scratch", "fpi"], tmp_path)
    assert results.arms["scratch"].parameters == results.arms["fpi"].parameters
    own = carry_out(read_study("rewarm", "smoke", QUICK, Given(model, [texts])), ["constant"], tmp_path / "own")
    # grown exactly: it begins where the given model is (the same held-out blocks of 32 tokens)
    assert losses(results, "fpi")[0] == pytest.approx(losses(own, "constant")[0], abs=0.05)
    assert losses(results, "fpi")[0] != losses(results, "scratch")[0]


def test_pre_training_a_model_of_ones_own_shape_with_headers(model: str, texts: str, tmp_path: Path) -> None:
    cloze = "shared.evaluate.evaluators=[held-out, {type: cloze, sets: [bare], items: 4, context: 16, continuation: 8}]"
    study = read_study("meco", "smoke", [cloze, QUICK[1]], Given(model, [texts]))
    results = carry_out(study, ["bare", "meco"], tmp_path)
    config = AutoConfig.from_pretrained(tmp_path / "arms/meco/seed-0/stages/01-cooldown/model")
    assert (config.model_type, config.n_embd, config.vocab_size) == ("gpt2", 16, 304)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "arms/meco/seed-0/stages/01-cooldown/model").get_vocab()
    assert vocabulary == AutoTokenizer.from_pretrained(model).get_vocab()
    headers = study.arms["meco"][0].data
    assert headers is not None
    assert headers.rewrite[0].model_dump()["column"] == "url"
    assert results.arms["meco"].reused_flops == [0]
    assert results.given == {}


def test_training_an_encoder_of_ones_own_shape(encoder: str, texts: str, tmp_path: Path) -> None:
    study = read_study("unpadded-bert", "smoke", QUICK[1:], Given(encoder, [texts]))
    results = carry_out(study, ["padded", "unpadded"], tmp_path)
    given = AutoConfig.from_pretrained(encoder)
    made = AutoConfig.from_pretrained(tmp_path / "arms/unpadded/seed-0/stages/00-stage/model")
    assert (made.hidden_size, made.intermediate_size) == (given.hidden_size, given.intermediate_size) == (16, 24)
    assert losses(results, "padded")[0] == pytest.approx(losses(results, "unpadded")[0], abs=1e-3)


@pytest.mark.slow
def test_the_whole_command(model: str, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", "rewarm", "--scale", "smoke", "--model", model, "--data", texts, "--arms", "rewarm"]
    result = CliRunner().invoke(app, [*words, "--set", QUICK[0], "--set", QUICK[1]])
    assert result.exit_code == 0, result.output
    assert "rewarm" in result.stdout
    assert Results.load("runs/rewarm-smoke-own/results.json").given == {"upstream": model}


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "given", "message"),
    [
        ("metaclip", Given("MODEL"), "takes no model of yours; it takes --data"),
        ("skillit", Given(None, ["a.jsonl"]), "has data of its own; it takes --model"),
        ("skillit-domains", Given(None, ["a.jsonl"]), "needs at least 2 sources, found 1"),
        ("rewarm", Given("MODEL", (), {"width": 32}), "takes no sizes"),
        ("bert2bert", Given("MODEL"), "needs a larger size too, e.g. --to width=512"),
        ("bert2bert", Given(None, (), {"width": 32}), "give both"),
        ("bert2bert", Given("MODEL", (), {"width": 8}), "cannot shrink 16 to 8"),
        ("bert2bert", Given("MODEL", (), {"widht": 32}), "did you mean 'width'"),
        ("rewarm", Given("./none"), "there is no such folder"),
        ("rewarm", Given("PARENT"), "has no config.json; there is one in"),
    ],
)
def test_what_a_study_cannot_take_is_one_line(slug: str, given: Given, message: str, model: str) -> None:
    names = {"MODEL": model, "PARENT": str(Path(model).parent)}
    given = Given(names.get(given.model or "", given.model), given.data, given.to)
    with pytest.raises((RecipeError, ModelError), match=message) as error:
        read_study(slug, "smoke", given=given)
    assert len(str(error.value).splitlines()) == 1


def test_a_study_without_yours_takes_nothing() -> None:
    for given in (Given("gpt2"), Given(None, ["a.txt"])):
        with pytest.raises(RecipeError, match="the study 's'"):
            settings({"arms": {}}, given, "s")
    with pytest.raises(RecipeError, match=r"s: yours\.model\.says: Field required"):
        settings({"yours": {"model": {}}}, Given("gpt2"), "s")
    assert command("s", None) == command("s", Yours()) == ""


def test_a_model_that_does_not_fit_the_objective(model: str, texts: str) -> None:
    with pytest.raises(ModelError, match="transformers has no gpt2 model with a masked head"):
        describe(read_study("unpadded-bert", "smoke", given=Given(model, [texts])))


def test_an_option_is_named_in_the_error_of_what_it_sets(model: str) -> None:
    with pytest.raises(RecipeError, match=r"--data \{'type': 'fils'\}: .*did you mean 'files'"):
        read_study("rewarm", "smoke", given=Given(model, [{"type": "fils"}]))


def test_given_things_replace_what_was_there_whole_and_set_lies_on_top(tmp_path: Path, model: str) -> None:
    text = """
title: t
compare: {baseline: a, flops: 1e9}
shared: {data: {source: {type: files, path: old.csv, column: body}}, tokenizer: {train: 300}}
arms: {a: [{init: {like: gpt2, n_layer: 9}}], b: [{init: {like: gpt2}, train: {learning_rate: 1e-3}}]}
yours:
  model: {says: x, shape: [arms.*.0.init], tokenizer: [shared.tokenizer], set: {compare.flops: 2e9}}
  data: {says: x, sources: [shared.data.source], set: {shared.data.length: 16}}
"""
    (tmp_path / "s.yaml").write_text(text)
    study = read_study(tmp_path / "s.yaml", None, ["shared.data.length=32"], Given(model, ["new.csv"]))
    for arm in study.arms.values():
        init, data = arm[0].init, arm[0].data
        assert init is not None
        assert data is not None
        assert (init.like, init.settings) == (model, {})
        assert data.sources[0].model_dump(exclude_defaults=True) == {"path": "new.csv"}
        assert data.length == 32
    assert study.compare.flops == 2e9


# ---- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("corpus.jsonl", "files"),
        ("corpus/*.txt", "files"),
        ("corpus/part.jsonl.gz", "files"),
        ("../other/notes", "files"),
        ("owner/name", "hugging-face"),
        ("owner/name-v1.5", "hugging-face"),
    ],
)
def test_what_data_means(text: str, kind: str) -> None:
    assert source(text, ["url"]) == {"type": kind, "path": text, "columns": ["url"]}


def test_data_in_a_folder_and_data_as_in_a_recipe(tmp_path: Path) -> None:
    assert source(str(tmp_path))["type"] == "hugging-face"
    (tmp_path / "plain").write_text("x")
    assert source(str(tmp_path / "plain"))["type"] == "files"
    assert source(written("{type: corpus, name: brown}")) == {"type": "corpus", "name": "brown"}
    with pytest.raises(RecipeError, match="--data"):
        written("{type: corpus")


def test_several_data_get_names_that_differ(model: str) -> None:
    found = settings(
        {"yours": {"data": {"says": "", "sources": ["shared.data.source"]}}},
        Given(None, ["a/x.jsonl", "b/x.jsonl", {"type": "corpus", "name": "brown"}]),
        "s",
    )
    assert [one["label"] for one in found[0].value] == ["x", "x-1", "corpus"]


def test_a_new_model_of_another_models_shape(model: str) -> None:
    given = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    like = new_model(configuration(model, {}, tokenizer), "causal", seed=0)
    assert [(n, p.shape) for n, p in like.named_parameters()] == [(n, p.shape) for n, p in given.named_parameters()]
    assert not torch.equal(like.transformer.wte.weight, given.transformer.wte.weight)
    other = train_tokenizer(["a b c"] * 3, 260, "causal")
    assert configuration(model, {}, other).vocab_size == len(other)  # another tokenizer: its own vocabulary
    assert configuration(model, {"hidden_size": 32, "n_head": 4}).n_embd == 32
    with pytest.raises(ModelError, match="did you mean 'n_embd'"):
        configuration(model, {"n_emd": 3})
    with pytest.raises(ModelError, match=r"there is no model folder '\./none'"):
        configuration("./none", {})
    with pytest.raises(ModelError, match="did you mean 'gpt2'"):
        configuration("gpt22", {})


def test_what_growing_changes_in_a_configuration(model: str, encoder: str) -> None:
    assert grown_fields(model, {"width": 32}) == {"n_embd": 32, "n_head": 4}
    assert grown_fields(model, {"depth": 4}) == {"n_layer": 4}
    assert grown_fields(encoder, {"hidden_size": 32}) == {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
