"""Finding systems: natural questions find what they mean, typing errors and endings aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.catalog import System, systems
from warmstart.field_words import GROUPS
from warmstart.search import STOP_WORDS, search, similarity, stem, stems

QUESTIONS = {
    "grow a model": "bert2bert",
    "make my model bigger": "bert2bert",
    "upscale a small LM without training from scratch": "bert2bert",
    "initialise a large model from a smaller one": "bert2bert",
    "widen layers": "bert2bert",
    "condition on metadata": "meco",
    "add URLs to documents": "meco",
    "tell the model where text comes from": "meco",
    "continue pretraining with a new learning rate": "rewarm",
    "learning rate warmup restart": "rewarm",
    "catastrophic forgetting when adapting to a domain": "stability-gap",
    "how do I train longer on new text without losing the old abilities": "stability-gap",
    "adapt to the medical domain": "stability-gap",
    "data mixture weights online": "skillit",
    "which domains to sample": "skillit-domains",
    "curate captions for CLIP": "metaclip",
    "balance concepts in image text data": "metaclip",
    "long tail concepts": "metaclip",
    "remove padding": "unpadded-bert",
    "faster BERT training variable length": "unpadded-bert",
    "throughput of encoder": "unpadded-bert",
    "distil from a small teacher": "salt",
    "sparse pre-training": "spdf",
    "combine two models at inference": "eft",
    "predict the end of training early": "learning-curves",
    "elastic weight consolidation": "cl-code",
    "continual learning of code": "cl-code",
    "ELECTRA": "structural-ssl",
    "matryoshka embeddings": "starbucks",
    "train a sentence embedding model": "starbucks",
    "embeddings that can be truncated": "starbucks",
    "train CLIP with prototypes": "protoclip",
    "contrastive image text pre-training": "protoclip",
    "cluster embeddings of images and captions": "protoclip",
    "pre-train a speech encoder": "w2v-bert",
    "wav2vec 2.0": "w2v-bert",
    "speech recognition without labels": "w2v-bert",
    # by name, with typing errors, by number
    "skilit": "skillit",
    "skillit-domain": "skillit-domains",
    "unpading": "unpadded-bert",
    "Re-Warming?": "rewarm",
    "2501.01956": "meco",
}
NOTHING = ["quantum", "weather on mars", "protein folding", "???", "the of and with"]


@pytest.mark.parametrize(("question", "slug"), QUESTIONS.items())
def test_a_question_finds_what_it_means(question: str, slug: str) -> None:
    assert next((system.slug for system in search(question)), None) == slug


@pytest.mark.parametrize("question", NOTHING)
def test_what_is_not_there_is_not_found(question: str) -> None:
    assert search(question) == []


def test_every_system_is_found_first_by_its_slug_and_by_its_title() -> None:
    found = systems()
    assert search("") == search("  ") == found
    for system in found:
        assert search(system.slug)[0] == system
        assert search(system.title)[0] == system


def system(slug: str, title: str, **fields: str) -> System:
    return System(slug=slug, family="f", title=title, file=Path("x"), **fields)


def test_names_count_more_than_ideas_and_rare_words_more_than_common_ones() -> None:
    named, told, other = system("mixer", "A"), system("b", "B", idea="a mixer"), system("c", "C")
    assert search("mixer", [told, other, named]) == [named, told]
    common = [system(f"s{k}", "train a model") for k in range(5)]
    rare = system("r", "train a quokka")
    assert search("model quokka", [*common, rare])[0] == rare


def test_words_that_mean_the_same_count_less_than_the_word_itself() -> None:
    same, meant = system("a", "expand it"), system("b", "enlarge it")
    assert search("expand", [meant, same]) == [same, meant]


@pytest.mark.parametrize(
    "words",
    [
        "grow grows growing grown grew",
        "pad padded padding pads",
        "curate curating curation curated",
        "forget forgets forgetting",
        "size sizes sized",
        "larger bigger",
    ],
)
def test_endings_do_not_matter(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == 1


def test_words_that_only_look_alike_stay_apart() -> None:
    assert stem("larger") != stem("large")
    assert stem("loss") == "loss"
    assert stems("Pre-training, un-padded: x-1") == ["pretrain", "unpad", "x", "1"]
    assert similarity("unpad", "unpad") == 1
    assert similarity("skill", "distill") == similarity("abc", "abcd") == 0


def test_the_table_of_meanings_is_well_formed() -> None:
    for line in filter(None, GROUPS.split("\n")):
        words = line.split()
        assert len(words) > 1
        assert len(words) == len(set(words)), line
        assert not STOP_WORDS & set(words), line


@given(st.text(max_size=60))
def test_any_text_is_a_query(query: str) -> None:
    found = search(query, [system("grow", "Grow"), system("mix", "Mix")])
    assert len(found) == len({one.slug for one in found})
