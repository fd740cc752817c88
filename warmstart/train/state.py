"""What is saved of a training, and how it comes back: resumed, carried on, or with only its moments.

Everything that changes while a stage trains is in its saved state, or a pure function of (seed, stage, step).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from warmstart.errors import StateError
from warmstart.models.save import digest_of
from warmstart.train.checkpoint import State, Tensors, load_optimizer, load_state, optimizer_tensors
from warmstart.train.tensors import load_tensors, save_tensors, untied

if TYPE_CHECKING:
    from warmstart.train.loop import Training


def state_of(training: Training) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Tensors by group, and everything else as JSON values. All processes take part; only the one that writes gets
    all."""
    moments, numbers = optimizer_tensors(training.optimizer, training.trained_module())
    tensors = {"model": training.weights.tensors(), "optimizer": training.weights.gathered(moments)}
    if not training.processes.is_main:
        return tensors, {}
    if training.extra is not None:
        tensors["extra"] = untied(training.extra)
    tensors["companions"] = training.companions.tensors()
    return tensors, {
        **training.spending.state_dict(),
        "mix": training.mix.state_dict(),
        "optimizer": numbers,
        "flops": training.cost.meter.state_dict(),
        "data": training.data.fingerprint,
        "also": {name: data.fingerprint for name, data in training.also.items()},
        "first_evaluation": training.first_values,
        "evaluation": training.values,
        "evaluated_at": training.evaluated_at,
        "finished": training.finished,
        "companions": training.companions.values(),
        "finish_flops": training.finish_flops,
        "guard": training.watch.state_dict(),
        "start": training.start_digest,
        "log": training.log.text if training.log is not None else "",
    }


def resume(training: Training, state: State) -> None:
    """Puts a training where its saved state was.

    Raises:
        StateError: the state belongs to other data.
    """
    check_data(training, state)
    load_weights(training, state)
    training.mix.load_state_dict(state.values["mix"])
    training.cost.meter.load_state_dict(state.values["flops"])
    training.spending.load_state_dict(state.values)
    training.values, training.evaluated_at = state.values["evaluation"], state.values["evaluated_at"]
    training.first_values = state.values.get("first_evaluation", {})
    training.finished = state.values["finished"]
    training.finish_flops = state.values.get("finish_flops", 0.0)
    if "guard" in state.values:
        training.watch.load_state_dict(state.values["guard"])
    training.reporter.event("note", text=f"resumed at step {training.counts.step} from {state.path}")


def load_weights(training: Training, state: State) -> None:
    """What optimizer steps change: weights, moments, and what penalties remember."""
    training.weights.load(state.tensors["model"])
    if training.extra is not None:
        load_tensors(training.extra, state.tensors["extra"])
    load_moments(training, state)
    if "companions" in state.values:
        training.companions.load(state.tensors.get("companions", {}), state.values["companions"])


def take_over(training: Training) -> None:
    """What the stage before left to penalties, and what a training that is carried on, or whose moments are loaded,
    left behind."""
    remembers = training.settings.penalties or training.settings.gradients.name != "plain"
    before, earlier = training.stage_before if remembers else None, training.earlier
    left = load_state(before) if before is not None else None
    if before is not None and left is not None and not left.values["finished"]:
        raise StateError(
            f"{before} has no whole state of the finished stage, whose penalties may have left something; "
            f"{_end_again(before)}"
        )
    if left is not None:
        kept = training.companions.take_over(left.tensors.get("companions", {}), left.values.get("companions", {}))
        if kept:
            training.reporter.event("note", text=f"from the stage before: what {', '.join(kept)} remembers")
    if earlier is None:
        return
    state = load_state(earlier)
    if state is None or not state.values["finished"]:
        raise StateError(
            f"{earlier} has no saved state of a finished stage, whose optimizer moments are needed; "
            f"{_end_again(earlier) if training.chain.carries_on else 'set train.moments: reset'}"
        )
    load_moments(training, state)
    if not training.chain.carries_on:
        return
    if training.extra is not None:
        load_tensors(training.extra, state.tensors["extra"])
    training.cost.meter.load_state_dict(state.values["flops"])
    training.spending.take_over(state.values)
    if "guard" in state.values:
        training.watch.take_over(state.values["guard"])
    if training.chain.same_rows:
        check_data(training, state, also=False)
        training.mix.load_state_dict(state.values["mix"])


def load_moments(training: Training, state: State) -> None:
    """The optimizer's state, cut into shares where the weights are."""
    module, moments = training.trained_module(), state.tensors["optimizer"]
    weights = dict(module.named_parameters())
    like = {where: weights[where.rpartition("|")[0]] for where in moments if where.rpartition("|")[0] in weights}
    load_optimizer(training.optimizer, module, training.weights.placed(moments, like), state.values["optimizer"])


def check_data(training: Training, state: State, also: bool = True) -> None:
    """The state's data are those of this stage, and (`also`) its further held-out sets too."""
    way_out = "go on all the same with --accept-changed-data, or start again with --fresh"
    if training.accept_changed_data:
        return
    if state.values["data"] != training.data.fingerprint:
        raise StateError(
            f"{state.path} was trained on other data (fingerprint {state.values['data']}, now "
            f"{training.data.fingerprint}); {way_out}"
        )
    for name, data in training.also.items() if also else ():
        if state.values.get("also", {}).get(name) != data.fingerprint:
            raise StateError(f"{state.path} was evaluated on another held-out set '{name}'; {way_out}")


def keep_start(training: Training, state: State | None) -> None:
    """The weights at the stage's beginning, for evaluators that compare with them; a resumed run finds them again.
    Called before the saved weights are loaded: a file that is broken or gone is written again from the starting
    weights, if they are still the same.

    Raises:
        StateError: the run goes on, its file is not what it was, and the starting weights are other ones now.
    """
    if not any(evaluator.needs_start for evaluator in training.stage.evaluate.evaluators):
        return
    file = training.folder / "start.safetensors"
    expected = state.values.get("start") if state is not None else None
    if training.processes.agreed(state is None or (expected is not None and not _is(file, expected))):
        start = {name: t.detach().cpu().contiguous() for name, t in training.weights.tensors().items()}
        if expected is not None:
            if training.processes.agreed(digest_of(start) != expected):
                raise StateError(
                    f"{file} is broken or gone, an evaluator needs it, and the starting weights are not those of "
                    "then; start again with --fresh"
                )
            training.reporter.event("note", text=f"warning: {file} is broken or gone; it is written again")
        if training.processes.is_main:
            save_tensors(start, file)
        del start
    training.processes.wait()
    if not file.is_file():
        raise StateError(f"{file} is gone, which an evaluator needs; start again with --fresh")
    training.start = load_file(file)
    training.start_digest = digest_of(training.start)


def _end_again(states: Path) -> str:
    """What to do where the last state of a finished stage is broken."""
    stage = states.parent / "stage.json"
    return f"remove {stage} and start the same line again, so that the stage's end is done again, or start with --fresh"


def _is(file: Path, digest: str) -> bool:
    """Whether a file holds the tensors of this digest."""
    try:
        return digest_of(load_file(file)) == digest
    except (OSError, SafetensorError):
        return False
