"""Guards: a step that is passed over leaves no trace but its counts, going back goes back exactly, and kills change
nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpora import tiny_recipe, write_corpus
from faults.poison import Poison  # noqa: F401  (its name is then known to recipes)
from kills import kill_at_step, run_killed
from pydantic import ValidationError
from trainings import training_of

from warmstart.errors import Interrupted, UserError
from warmstart.models.save import digest_of
from warmstart.recipe import Recipe
from warmstart.recipe_stage import Stage
from warmstart.run_recipe import run
from warmstart.train.guards import Guard, Watch, loss_limit, norm_limit
from warmstart.train.loop import Training
from warmstart.train.metrics import read_metrics
from warmstart.train.progress import Reporter

SKIP = {"nan": "skip"}
NUMBERS = st.one_of(st.floats(0.1, 10.0), st.sampled_from([math.nan, math.inf, 1e6, 3.0]))
GUARDS = st.builds(
    Guard,
    nan=st.sampled_from(["stop", "skip", "roll-back"]),
    spike=st.sampled_from([None, {"window": 8, "deviations": 3.0}, {"window": 9, "then": "roll-back"}]),
    gradient=st.sampled_from([None, {"window": 8, "times": 2.0}, {"window": 10, "then": "clip"}]),
    in_a_row=st.integers(1, 4),
)


def recipe(tmp_path: Path, guard: dict[str, Any], bad: list[int], times: float | None = None, **train: Any) -> Recipe:
    corpus = tmp_path / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(corpus)
    raw = tiny_recipe(corpus, guard=guard, penalties=[{"type": "poison", "steps": bad, "times": times}], **train)
    return Recipe.model_validate(raw)


def everything(loop: Training) -> list[torch.Tensor]:
    """Weights and moments."""
    moments = [v for state in loop.optimizer.state.values() for v in state.values()]
    return [t.detach().clone() for t in [*loop.model.parameters(), *moments]]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def facts(out: Path) -> dict[str, Any]:
    return json.loads((out / "stages/00-first/stage.json").read_text())


def log(out: Path) -> list[dict[str, Any]]:
    lines = read_metrics(out / "stages/00-first/metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


# ---- the decision ----------------------------------------------------------------------------------------------------


def test_limits() -> None:
    assert loss_limit([1.0, 3.0], 2.0) == 2.0 + 2.0 * 1.0
    assert norm_limit([1.0, 5.0, 2.0], 10.0) == 20.0


@given(guard=GUARDS, seen=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=60), cut=st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_what_holds_for_every_guard(guard: Guard, seen: list[tuple[float, float]], cut: int) -> None:
    """No number that is not finite is ever taken or remembered; never more than `in_a_row` steps in a row are passed
    over; a watch that is saved and loaded anywhere decides like one that is not."""
    watch, row = Watch(guard), 0
    watch.regular_state(0)
    for number, (loss, norm) in enumerate(seen):
        if number == cut:
            saved = json.loads(json.dumps(watch.state_dict()))
            watch = Watch(guard)
            watch.load_state_dict(saved)
            assert watch.state_dict() == saved
        twin = Watch(guard)
        twin.load_state_dict(json.loads(json.dumps(watch.state_dict())))
        verdict = watch.judge(number + 1, torch.tensor(loss), torch.tensor(norm), 1.0)
        assert verdict == twin.judge(number + 1, torch.tensor(loss), torch.tensor(norm), 1.0)
        finite = math.isfinite(loss) and math.isfinite(norm)
        assert finite or not verdict.taken
        assert finite or verdict.action in (guard.nan, "stop")
        assert all(map(math.isfinite, [*watch.losses, *watch.norms]))
        assert 0 < verdict.scale <= 1
        row = 0 if verdict.taken else row + 1
        if verdict.action == "stop":
            assert row > guard.in_a_row or guard.nan == "stop" or watch._roll_backs_here > guard.in_a_row
            with pytest.raises(UserError, match=r"; do this$"):
                watch.check(number + 1, "do this")
            break
        assert row <= guard.in_a_row
        watch.check(number + 1, "")
    assert sum(watch.counts.values()) <= len(seen)


@given(st.floats(0.1, 10.0), st.integers(1, 100))
@settings(max_examples=30, deadline=None)
def test_what_stays_the_same_is_no_spike(value: float, steps: int) -> None:
    watch = Watch(Guard(spike={"window": 8}, gradient={"window": 8}))
    for step in range(steps):
        assert watch.judge(step, torch.tensor(value), torch.tensor(value)).action == "take"


def test_spikes_are_seen_once_half_of_the_window_is_there() -> None:
    watch = Watch(Guard(spike={"window": 8, "deviations": 3.0}, gradient={"window": 8, "times": 4.0, "then": "clip"}))
    losses = [2.0, 2.2, 50.0, 1.9, 2.1, 60.0]  # the third is too early to tell, and hides the last one
    actions = [watch.judge(n, torch.tensor(loss), torch.tensor(1.0)).action for n, loss in enumerate(losses)]
    assert actions == ["take"] * 6
    for n in range(8):
        watch.judge(n, torch.tensor(2.0 + 0.1 * (n % 2)), torch.tensor(1.0))
    assert watch.judge(0, torch.tensor(3.0), torch.tensor(1.0)).action == "skip"
    steep = watch.judge(0, torch.tensor(2.0), torch.tensor(8.0), largest=None)
    assert (steep.action, steep.scale) == ("clip", 0.5)
    assert watch.judge(0, torch.tensor(2.0), torch.tensor(8.0), largest=1.0).scale == 1.0  # clipped below it already
    assert watch.counts == {"skipped": 1, "clipped": 2, "rolled_back": 0}


def test_on_a_device_that_is_not_waited_for_the_first_bad_step_is_named() -> None:
    watch = Watch(Guard(), lazily=True)
    for step, loss in enumerate([1.0, math.nan, 1.0, math.nan], start=1):
        assert watch.judge(step, torch.tensor(loss), torch.tensor(1.0)).taken
        watch.check(step, "", look=False)
    with pytest.raises(UserError, match="not a finite number at step 2; lower it"):
        watch.check(4, "lower it", look=True)
    good = Watch(Guard(), lazily=True)
    good.judge(1, torch.tensor(1.0), torch.tensor(1.0))
    good.check(1, "", look=True)
    assert not Watch(Guard(nan="skip"), lazily=True)._lazily, "whoever passes a step over must know before the update"


def test_all_processes_do_what_the_most_careful_says() -> None:
    heard: list[float] = []

    def agree(number: float) -> float:
        heard.append(number)
        return max(number, 2.0)  # another one says: skip

    watch = Watch(Guard(nan="skip"), agree=agree)
    verdict = watch.judge(1, torch.tensor(1.0), torch.tensor(1.0))
    assert (verdict.action, heard) == ("skip", [0.0])
    assert watch.counts["skipped"] == 1


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_a_step_that_is_passed_over_leaves_nothing_but_counts(tmp_path: Path) -> None:
    loop = training_of(recipe(tmp_path, SKIP, [2, 3]).stages[0], tmp_path / "poisoned")
    other = training_of(recipe(tmp_path, {}, []).stages[0], tmp_path / "plain")
    for step in range(6):
        before = everything(loop)
        loss, norm = loop.step()
        assert loss is not None
        assert norm is not None
        if step in (2, 3):
            assert not math.isfinite(float(loss.total))
            assert same(before, everything(loop))
            other.next_rows()  # the same by hand: the rows are drawn, the step counts
            other.counts.step += 1
        else:
            assert not same(before, everything(loop))
            other.step()
        assert same(everything(loop), everything(other)), step
    assert loop.counts.step == 6
    assert loop.counts.tokens == 6 * other.counts.tokens / 4, "what was computed counts"
    assert loop.counts.flops == pytest.approx(6 / 4 * other.counts.flops)
    assert loop.watch.counts == {"skipped": 2, "clipped": 0, "rolled_back": 0}


@pytest.mark.parametrize(
    "penalty", [{"type": "rwalk"}, {"type": "synaptic-intelligence"}, {"type": "replay", "fill": "during"}]
)
def test_penalties_remember_nothing_of_a_step_that_is_passed_over(tmp_path: Path, penalty: dict[str, Any]) -> None:
    raw = recipe(tmp_path, SKIP, [1]).model_dump(mode="json", by_alias=True)
    raw["stages"][0]["train"]["penalties"].append(penalty)
    loop = training_of(Recipe.model_validate(raw).stages[0], tmp_path / "penalties")

    def remembered() -> str:
        return json.dumps([loop.companions.values(), digest_of(loop.companions.tensors())], sort_keys=True)

    seen = [remembered()]
    for _ in range(3):
        loop.step()
        seen.append(remembered())
    assert seen[0] != seen[1]
    assert seen[1] == seen[2], "the second step was passed over"
    assert seen[2] != seen[3]


def test_buffers_of_a_step_that_is_passed_over_are_put_back(tmp_path: Path) -> None:
    loop = training_of(recipe(tmp_path, SKIP, [0]).stages[0], tmp_path / "buffers")
    loop.model.register_buffer("seen", torch.zeros(()))

    def count(module: torch.nn.Module, _: Any) -> None:
        module.seen.add_(1.0)

    loop.model.register_forward_pre_hook(count)
    loop.step()
    assert float(loop.model.seen) == 0.0
    loop.step()
    assert float(loop.model.seen) > 0.0


def test_the_default_stops_before_the_update(tmp_path: Path) -> None:
    """Also where the step is not one that is logged."""
    stage = recipe(tmp_path, {}, [4], log_every=100).stages[0]
    loop, plain = training_of(stage, tmp_path / "stopped"), training_of(stage, tmp_path / "plain")
    with pytest.raises(UserError, match=r"the loss is nan at step 5; lower train\.learning_rate .* is untouched"):
        loop.run()
    for _ in range(4):
        plain.step()
    assert same(everything(loop), everything(plain))
    assert [p.name for p in (loop.folder / "state").iterdir()] == ["step-00000003"]


def test_an_infinite_gradient_of_a_finite_loss_stops_without_clipping_too(tmp_path: Path) -> None:
    loop = training_of(recipe(tmp_path, {}, [], clip=None).stages[0], tmp_path / "gradient")
    weight = next(loop.model.parameters())
    weight.register_hook(lambda gradient: gradient * math.inf)
    before = everything(loop)
    with pytest.raises(UserError, match=r"the gradient is (nan|inf) at step 1"):
        loop.run()
    assert same(before, everything(loop))


def test_too_many_in_a_row_stop_the_run(tmp_path: Path) -> None:
    bad = recipe(tmp_path, {"nan": "skip", "in_a_row": 2}, [3, 4, 5])
    with pytest.raises(
        UserError, match=r"after 2 steps passed over in a row \(train\.guard\.in_a_row\).*nan at step 6"
    ):
        run(bad, tmp_path / "run", reporter=Reporter())
    run(recipe(tmp_path, {"nan": "skip", "in_a_row": 2}, [3, 4, 6, 7]), tmp_path / "other", reporter=Reporter())


@pytest.mark.parametrize("pass_over", [0, 2])
def test_going_back_is_exact_and_the_data_go_on(tmp_path: Path, pass_over: int) -> None:
    raw = recipe(tmp_path, {"nan": "roll-back", "pass_over": pass_over}, [7])
    run(raw, tmp_path / "run", reporter=Reporter())
    plain = training_of(recipe(tmp_path, {}, []).stages[0], tmp_path / "plain")
    for step in range(12):
        if step == 6:
            kept = everything(plain)
        if step == 7:  # by hand: the rows are drawn and the step counts, the weights and moments go back to step 6
            plain.next_rows()
            plain.counts.step += 1
            moments = [v for state in plain.optimizer.state.values() for v in state.values()]
            with torch.no_grad():
                for tensor, value in zip([*plain.model.parameters(), *moments], kept, strict=True):
                    tensor.copy_(value)
            for _ in range(pass_over):
                plain.next_rows()
        else:
            plain.step()
    from safetensors.torch import load_file

    found = load_file(tmp_path / "run/stages/00-first/model/model.safetensors")
    for name, weight in plain.model.named_parameters():
        if name in found:
            assert torch.equal(found[name], weight), name
    assert facts(tmp_path / "run")["guard"] == {"skipped": 0, "clipped": 0, "rolled_back": 1}
    assert facts(tmp_path / "run")["steps"] == 12


def test_going_back_to_the_beginning(tmp_path: Path) -> None:
    """Where there were no moments yet: the step after it is that of a training that begins there."""
    loop = training_of(recipe(tmp_path, {"nan": "roll-back"}, [1]).stages[0], tmp_path / "back")
    plain = training_of(recipe(tmp_path, {}, []).stages[0], tmp_path / "plain")
    loop.save(regular=True)
    start = everything(loop)
    loop.step()
    assert not same(start, everything(loop))
    loop.step()  # back
    assert same(start, everything(loop))
    loop.step()
    plain.next_rows()
    plain.next_rows()
    plain.counts.step = 2
    plain.step()
    assert same(everything(loop), everything(plain))


def test_what_a_device_noted_is_looked_at_before_anything_is_saved(tmp_path: Path) -> None:
    loop = training_of(recipe(tmp_path, {}, [3], save_every=2, log_every=100).stages[0], tmp_path / "lazy")
    loop.watch = Watch(loop.settings.guard, lazily=True)
    with pytest.raises(UserError, match="the loss or its gradient is not a finite number at step 4"):
        loop.run()
    assert [p.name for p in (loop.folder / "state").iterdir()] == ["step-00000002"]


def test_going_back_to_one_state_too_often_stops_the_run(tmp_path: Path) -> None:
    bad = recipe(tmp_path, {"nan": "roll-back", "in_a_row": 2}, [3, 5, 7], save_every=100)
    with pytest.raises(UserError, match="after 2 roll-backs to one state"):
        run(bad, tmp_path / "run", reporter=Reporter())
    run(recipe(tmp_path, {"nan": "roll-back", "in_a_row": 2}, [3, 5, 7]), tmp_path / "other", reporter=Reporter())


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["skip", "roll-back"])
def test_killed_around_what_the_guard_does(tmp_path: Path, guard: str) -> None:
    raw = recipe(tmp_path, {"nan": guard, "spike": {"window": 8, "deviations": 4.0, "then": guard}}, [4, 7, 8])
    run(raw, tmp_path / "whole", reporter=Reporter())
    assert sum(facts(tmp_path / "whole")["guard"].values()) >= 3
    for step in (4, 5, 7, 9, 10):
        assert run_killed(raw, tmp_path / "run", kill_at_step(step))
    run(raw, tmp_path / "run", reporter=Reporter())
    one, two = facts(tmp_path / "whole"), facts(tmp_path / "run")
    assert one["weights"] == two["weights"]
    assert one["guard"] == two["guard"]
    assert log(tmp_path / "whole") == log(tmp_path / "run")


@pytest.mark.slow
def test_interrupted_before_going_back(tmp_path: Path) -> None:
    """Every Ctrl-C saves a state, and only the last two are kept; the one to go back to is kept beside them."""
    raw = recipe(tmp_path, {"nan": "roll-back"}, [19], steps=24, save_every=8)

    class Impatient(Reporter):
        def event(self, kind: str, **values: Any) -> None:
            if kind == "step":
                os.kill(os.getpid(), signal.SIGINT)

    run(raw, tmp_path / "whole", reporter=Reporter())
    for _ in range(19):
        with pytest.raises(Interrupted):
            run(raw, tmp_path / "run", reporter=Impatient())
    states = sorted(p.name for p in (tmp_path / "run/stages/00-first/state").iterdir())
    assert states == ["step-00000016", "step-00000018", "step-00000019"]
    run(raw, tmp_path / "run", reporter=Reporter())
    assert facts(tmp_path / "whole")["guard"]["rolled_back"] == 1
    assert facts(tmp_path / "whole")["weights"] == facts(tmp_path / "run")["weights"]
    assert log(tmp_path / "whole") == log(tmp_path / "run")


def test_what_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = recipe(tmp_path, {"nan": "skip", "gradient": {"window": 8, "then": "clip"}}, [5], log_every=4)
    run(raw, tmp_path / "run")
    said = capsys.readouterr().out
    assert "step 6: the loss is nan; the batch is passed over" in said
    assert "guard: of the steps, 1 passed over" in said
    lines = [line for line in log(tmp_path / "run") if "learning_rate" in line]
    assert [line["step"] for line in lines] == [4, 6, 8, 12], "what a guard does is logged whether or not it is due"
    assert [line["guard/skipped"] for line in lines] == [0, 1, 1, 1]
    assert lines[1]["loss"] is None
    assert "the guard passed 1 steps over" in (tmp_path / "run/report.html").read_text()


def test_guards_that_see_nothing_change_nothing(tmp_path: Path) -> None:
    watching = {"nan": "skip", "spike": {"deviations": 1e6}, "gradient": {"times": 1e6}}
    for name, guard in {"off": {}, "on": watching}.items():
        run(recipe(tmp_path, guard, []), tmp_path / name, reporter=Reporter())
    assert facts(tmp_path / "off")["weights"] == facts(tmp_path / "on")["weights"]
    assert not any("guard" in key for line in log(tmp_path / "off") for key in line)


def test_a_stage_cut_in_two_has_one_memory(tmp_path: Path) -> None:
    """What is ordinary is known from the stage before: a spike right after the border is seen."""
    guard = {"spike": {"window": 16, "deviations": 5.0}}
    whole = recipe(tmp_path, guard, [11], times=9.0, steps=14)
    raw = tiny_recipe(tmp_path / "corpus.jsonl", steps=10)
    poison = {"type": "poison", "steps": [11], "times": 9.0}
    raw["stages"][0]["train"] |= {"guard": guard, "penalties": [poison]}
    raw["stages"].append({"name": "rest", "carry_on": True, "data": raw["stages"][0]["data"], "budget": {"steps": 4}})
    run(whole, tmp_path / "whole", reporter=Reporter())
    run(Recipe.model_validate(raw), tmp_path / "cut", reporter=Reporter())
    rest = json.loads((tmp_path / "cut/stages/01-rest/stage.json").read_text())
    assert facts(tmp_path / "whole")["guard"]["skipped"] == rest["guard"]["skipped"] == 1
    assert facts(tmp_path / "whole")["weights"] == rest["weights"]


def test_wrong_settings(tmp_path: Path) -> None:
    for wrong in ({"nan": "ignore"}, {"spike": {"window": 2}}, {"gradient": {"times": 1.0}}, {"in_a_row": 0}):
        with pytest.raises(ValidationError):
            recipe(tmp_path, wrong, [])
    with pytest.raises(ValidationError, match=r"roll-back.*protoclip, which looks ahead; use 'skip'"):
        Stage.model_validate(
            {
                "objective": {"type": "protoclip", "prototypes": 3, "episode": 64},
                "train": {"guard": {"nan": "roll-back"}},
            }
        )
