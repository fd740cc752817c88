"""Composed models: generation with caches is teacher forcing, with any prompts, batches and ways of decoding."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import gpt2, llama

from warmstart.decode.composed import Composed, check_same_tokens
from warmstart.decode.continuation import Continuation
from warmstart.decode.emulated import Emulated, emulate, emulated_processor, emulation
from warmstart.decode.product import product
from warmstart.errors import ModelError
from warmstart.models.save import save_model
from warmstart.models.tokenizer import train_tokenizer


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def three(request: Any) -> tuple[Any, Any, Any]:
    """A large model, a small fine-tuned one and its reference."""
    make = gpt2 if request.param == "gpt2" else llama
    return make(0, width=32), make(1), make(2)


def composed(three: tuple[Any, Any, Any], **settings: Any) -> Composed:
    return Composed(three, emulation(1, **settings), drafter=1)


def prompt(rows: int = 1, tokens: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 40, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def test_forward_is_the_formula_on_the_models_logits(three: Any) -> None:
    ids = prompt(2, 9)
    logits = [model(input_ids=ids).logits for model in three]
    found = composed(three, strength=0.7)(ids).logits
    assert torch.allclose(found, emulate(logits[0], [logits[1]], logits[2], strength=0.7))
    assert not found.requires_grad


def test_steps_with_caches_are_teacher_forcing(three: Any) -> None:
    """Also under plain `generate` of the base with the processor."""
    model, ids = composed(three, strength=0.8), prompt(2)
    processor = emulated_processor([three[1]], three[2], strength=0.8)
    settings = {"max_new_tokens": 12, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    plain = three[0].generate(ids, logits_processor=LogitsProcessorList([processor]), eos_token_id=None, **settings)
    own = model.generate(ids, eos_token_id=None, **settings)
    assert torch.equal(plain.sequences, own.sequences)
    forced = model(plain.sequences).logits[:, 4:-1]
    stepwise = torch.stack(plain.scores, dim=1)
    assert stepwise.shape[1] == 12
    assert torch.allclose(stepwise, forced, atol=1e-4)
    assert torch.equal(forced.argmax(-1), plain.sequences[:, 5:])
    answers = plain.sequences[:, 5:]
    scores = model.scores([(ids, None)] * 3, answers)
    assert torch.allclose(scores, forced.gather(2, answers[:, :, None])[:, :, 0], atol=1e-4)


def test_a_batch_filled_up_at_the_left_is_each_prompt_alone(three: Any) -> None:
    model = composed(three)
    alone = [prompt(1, length, seed=length) for length in (3, 7, 5)]
    ids = torch.cat([torch.nn.functional.pad(each, (7 - each.shape[1], 0)) for each in alone])
    mask = torch.tensor([[0] * (7 - each.shape[1]) + [1] * each.shape[1] for each in alone])
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    together = model.generate(ids, attention_mask=mask, **settings)[:, 7:]
    for row, each in zip(together, alone, strict=True):
        assert torch.equal(row, model.generate(each, **settings)[0, each.shape[1] :])


def test_each_model_reads_its_own_prompt(three: Any) -> None:
    model = composed(three)
    prompts = [(prompt(2, length, seed=length), None) for length in (4, 6, 3)]
    found = model.generate(
        prompts[0][0], prompts=prompts[1:], max_new_tokens=6, do_sample=False, eos_token_id=None,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    answers = found.sequences[:, 4:]
    logits = []
    for one, (ids, _) in zip(three, prompts, strict=True):
        logits.append(one(torch.cat([ids, answers], 1)).logits[:, ids.shape[1] - 1 : -1])
    wanted = emulate(logits[0], [logits[1]], logits[2])
    assert torch.allclose(torch.stack(found.scores, dim=1), wanted, atol=1e-4)
    scores = model.scores(prompts, answers)
    assert torch.allclose(scores, wanted.gather(2, answers[:, :, None])[:, :, 0], atol=1e-4)
    with pytest.raises(ValueError, match="1 prompts for 3 models"):
        model.read(prompts[:1])
    with pytest.raises(ValueError, match="1 prompts for 2 models"):
        emulated_processor([three[1]], three[2], prompts=prompts[:1])


def test_sampling_is_of_the_combined_distribution_after_its_temperature(three: Any) -> None:
    model = composed(three)
    ids = prompt()
    torch.manual_seed(0)
    drawn = model.generate(
        ids.expand(4000, -1), do_sample=True, temperature=0.7, top_k=0, max_new_tokens=1, eos_token_id=None
    )[:, -1]
    wanted = (model(ids).logits[0, -1] / 0.7).softmax(-1)
    found = torch.bincount(drawn, minlength=40) / 4000
    assert 0.5 * float((found - wanted).abs().sum()) < 0.05  # total variation
    torch.manual_seed(0)
    best = model.generate(ids.expand(50, -1), do_sample=True, top_k=1, max_new_tokens=1, eos_token_id=None)[:, -1]
    assert (best == model(ids).logits[0, -1].argmax()).all()


def test_beam_search_finds_what_it_finds_without_caches(three: Any) -> None:
    model, ids = composed(three), prompt(2)
    settings = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    found = model.generate(ids, num_return_sequences=3, output_scores=True, return_dict_in_generate=True, **settings)
    assert len(found.sequences) == 6
    for sequence, score in zip(found.sequences, found.sequences_scores, strict=True):
        logits = model(sequence[None]).logits[0, 4:-1]
        total = logits.gather(1, sequence[5:, None]).sum()
        assert float(total) / 6 == pytest.approx(float(score), abs=1e-3)
    # prompts of the models' own, one for each text and not for each beam
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    own = model.generate(ids, attention_mask=mask, prompts=[(ids, mask), (ids, mask)], **settings)
    assert torch.equal(own, model.generate(ids, attention_mask=mask, **settings))
    assert torch.equal(own[1], model.generate(ids[1:], **settings)[0])


def test_it_ends_at_the_end_mark_of_any_model(three: Any) -> None:
    models = [copy.deepcopy(model) for model in three]
    models[1].generation_config.eos_token_id = [7, 9]
    model = Composed(models, lambda logits: torch.where(torch.arange(40) == 9, 0.0, -20.0).expand_as(logits[0]))
    assert model.generate(prompt(), max_new_tokens=9)[0, 5:].tolist() == [9]


def test_models_stay_as_they_are() -> None:
    """Evaluation mode while it is used, no gradient, no weight changes, and the modes are put back."""
    models = [gpt2(0, width=32, dropout=0.5), gpt2(1, dropout=0.5), gpt2(2, dropout=0.5)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    quiet = [copy.deepcopy(model) for model in models]
    models[1].train()
    model, ids = composed((models[0], models[1], models[2])), prompt()
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    processor = emulated_processor([models[1]], models[2])
    first = models[0].generate(ids, logits_processor=LogitsProcessorList([processor]), **settings)
    assert torch.equal(first, composed((quiet[0], quiet[1], quiet[2])).generate(ids, **settings))
    assert models[1].training
    assert not models[0].training
    assert not model.scores([(ids, None)] * 3, ids).requires_grad
    for one, state in zip(models, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())
        assert all(parameter.grad is None for parameter in one.parameters())


def test_a_larger_embedding_is_cut_to_the_common_tokens_with_a_warning(three: Any) -> None:
    small = gpt2(2, vocabulary=33)
    with pytest.warns(UserWarning, match=r"40, 40, 33 tokens; those from 33 on are left out"):
        model = Composed([three[0], three[1], small], emulation(1))
    ids = prompt() % 33
    found = model(ids).logits
    assert found.shape[-1] == 33
    assert torch.allclose(found.exp().sum(-1), torch.ones(1, 5), atol=1e-5)
    logits = [one(ids).logits[..., :33] for one in (three[0], three[1], small)]
    assert torch.allclose(found, emulate(logits[0], [logits[1]], logits[2]), atol=1e-5)
    torch.manual_seed(0)
    drawn = model.generate(ids.expand(64, -1), do_sample=True, top_k=0, max_new_tokens=3, eos_token_id=None)
    assert drawn.max() < 33


def test_a_processor_serves_one_call(three: Any) -> None:
    processor = LogitsProcessorList([emulated_processor([three[1]], three[2])])
    three[0].generate(prompt(), logits_processor=processor, max_new_tokens=2, do_sample=False)
    with pytest.raises(ValueError, match="one call of generate"):
        three[0].generate(prompt(), logits_processor=processor, max_new_tokens=2, do_sample=False)


def test_a_continuation_takes_back_what_it_read(three: Any) -> None:
    ids = prompt(2, 10)
    for model in three:
        text = Continuation(model, ids[:, :4])
        text.append(ids[:, 4:8])
        text.logits(5)
        text.append(ids[:, :2])
        text.cut(3)  # two that were never read, and one that was
        text.append(ids[:, 7:])
        assert torch.allclose(text.logits(3), model(input_ids=ids).logits[:, -3:], atol=1e-4)
        with pytest.raises(ValueError, match="0 are not read yet"):
            text.logits(1)
    with pytest.raises(ValueError, match="at least one token"):
        Continuation(three[0], ids[:, :0])


def test_a_model_that_is_given_twice_is_computed_once(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    hook = three[1].register_forward_hook(lambda *_: calls.append(1))
    model = Composed([three[1], three[1], three[1]], product)
    model(prompt())
    hook.remove()
    assert len(calls) == 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(["an answer is what a question asks for"] * 3, 280, "causal")
    other = train_tokenizer(["quite other words make other tokens"] * 3, 280, "causal")
    for seed, (name, its) in enumerate({"large": tokenizer, "small": tokenizer, "foreign": other}.items()):
        save_model(gpt2(seed, width=32 if name == "large" else 16, vocabulary=290), its, folder / name, "")
    return {name: folder / name for name in ("large", "small", "foreign")}


def test_a_part_loads_the_models_it_names(folders: dict[str, Path]) -> None:
    from warmstart.models.load import load_model
    from warmstart.models.tokenizer import load_tokenizer

    tokenizer, tuned = load_tokenizer(folders["small"]), gpt2(5, vocabulary=290)
    part = Emulated(base=str(folders["large"]), reference=str(folders["small"]), strength=0.5)
    model = part.compose(tuned, tokenizer)
    ids = prompt()
    logits = [load_model(folders["large"], "causal")(ids).logits, tuned(ids).logits]
    logits.append(load_model(folders["small"], "causal")(ids).logits)
    assert torch.allclose(model(ids).logits, emulate(logits[0], [logits[1]], logits[2], strength=0.5), atol=1e-6)
    assert list(model.models)[1] is tuned
    assert all(parameter.requires_grad for parameter in tuned.parameters())
    assert not any(parameter.requires_grad for parameter in model.models[0].parameters())


def test_another_vocabulary_is_an_error(folders: dict[str, Path]) -> None:
    from warmstart.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folders["small"])
    part = Emulated(base=str(folders["foreign"]), reference=str(folders["small"]))
    with pytest.raises(ModelError, match=r"foreign' has another vocabulary: its token .* share their tokenizer"):
        part.compose(gpt2(5, vocabulary=290), tokenizer)
    check_same_tokens(tokenizer, load_tokenizer(folders["large"]), "large")
    more = load_tokenizer(folders["large"])
    more.add_tokens(["<chat>"])
    with pytest.raises(ModelError, match=r"its token '<chat>' is \d+, in the stage's tokenizer it does not exist"):
        check_same_tokens(tokenizer, more, "large")
    with pytest.raises(ModelError, match="there is no tokenizer folder"):
        Emulated(base=str(folders["large"] / "none"), reference="stage").compose(gpt2(5, vocabulary=290), tokenizer)
