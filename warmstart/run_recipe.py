"""Carry a recipe out, stage by stage, and leave a run folder behind.

recipe.yaml                     the resolved recipe
run.json                        versions, commit, machine, data fingerprints
stages/NN-name/model/           an ordinary Hugging Face folder
stages/NN-name/state/           what an exact resume needs
stages/NN-name/metrics.jsonl    one line per logged step and per evaluation
stages/NN-name/lineage.json     the lineage at the stage's end
stages/NN-name/stage.json       written last: the stage is finished, what it used, and the checksums of what it left
lineage.json                    which weights came from which, by hash
report.html
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.console import Console
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from warmstart.data.engine import Engine
from warmstart.data.prepare import Prepared, prepare
from warmstart.disk import told, write_whole
from warmstart.errors import DataError, ModelError, StateError, UserError
from warmstart.evaluate.curves import forgetting
from warmstart.finished import STAGE, files_left, read_finished, read_sealed, sealed
from warmstart.models.build import configuration, new_model
from warmstart.models.card import model_card
from warmstart.models.load import load_model
from warmstart.models.save import save_model, weights_hash
from warmstart.models.tokenizer import check_fits, load_tokenizer, tokenizer_for
from warmstart.named_models import named_models
from warmstart.objectives.blocks import first_position
from warmstart.provenance import Lineage, commit, machine, versions
from warmstart.randomness import derive_seed
from warmstart.recipe import Recipe
from warmstart.recipe_file import resolved
from warmstart.recipe_stage import Stage
from warmstart.surgery.check import compare
from warmstart.train.chain import chain_of
from warmstart.train.checkpoint import load_state
from warmstart.train.compute import peak_memory_bytes
from warmstart.train.loop import Training
from warmstart.train.precision import resolve_device
from warmstart.train.processes import lost_processes_told
from warmstart.train.progress import ConsoleReporter, Reporter
from warmstart.train.settle import settle
from warmstart.train.trial import Trials


@dataclass
class RunResult:
    """What a run left behind."""

    folder: Path
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def model(self) -> Path:
        """The folder of the last stage's model."""
        return self.folder / "stages" / str(self.stages[-1]["folder"]) / "model"


def run(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = True,
    console: Console | None = None,
    reporter: Reporter | None = None,
    accept_changed_data: bool = False,
    engine: Engine | None = None,
) -> RunResult:
    """Carries out a recipe in the folder `out`. Finished stages are kept; an unfinished one goes on where it was.

    Args:
        resume: False starts again from nothing (what `out` holds of this run is removed).
        accept_changed_data: resume although the data changed since the state was saved.
        engine: where the row steps run (this process, several, Ray); it changes the time they take and nothing else.

    Raises:
        UserError: whatever the user can mend (a bad recipe, other data or another recipe in `out`, a full disk, ...).
        Interrupted: the run was asked to stop and has saved its state.
    """
    out = Path(out)
    text = resolved(recipe)
    processes = PartialState(cpu=all(resolve_device(s.train.device).type == "cpu" for s in recipe.stages))
    if not processes.is_main_process:
        reporter = Reporter()
    reporter = reporter or ConsoleReporter(console)
    # transformers' own bars would tear ours, and its advice about padding is wrong for packed blocks, which have none
    disable_progress_bar()
    set_verbosity_error()
    with contextlib.closing(reporter), lost_processes_told(processes.num_processes):
        if processes.is_main_process:
            _open_folder(out, text, resume, reporter)
        processes.wait_for_everyone()
        lineage = _lineage_so_far(out, reporter)
        result = RunResult(out)
        for number in range(len(recipe.stages)):
            name = recipe.stage_name(number)
            folder = out / "stages" / name
            finished = _finished(folder, reporter)
            if finished is None:
                reporter.event("stage", name=name)
                previous = result.model if result.stages else None
                history = _history(result.stages)
                _run_stage(
                    recipe, number, folder, previous, history, lineage, text, reporter, accept_changed_data, engine
                )
                if processes.is_main_process:
                    lineage.save(out / "lineage.json")
                    _finish_stage(folder)
                processes.wait_for_everyone()
                reporter.event("done", name=name)
                finished = read_sealed(folder / STAGE)
            else:
                lineage.absorb(Lineage.load(folder / "lineage.json"))
            result.stages.append(finished)
    if processes.is_main_process:
        lineage.save(out / "lineage.json")
        _write_report(out)
    return result


def _finished(folder: Path, reporter: Reporter) -> dict[str, Any] | None:
    """The facts of a finished stage; None where it is not finished, or where something of what it left is broken, so
    that its end is to be done again, from its last state.

    Raises:
        StateError: something is broken, and there is no saved state to write it from again.
    """
    if not (folder / STAGE).is_file():
        return None
    try:
        return read_finished(folder)
    except StateError as error:
        if load_state(folder / "state") is None:
            raise StateError(
                f"{error}, and no saved state is there to write it from; start again with --fresh"
            ) from error
        reporter.event("note", text=f"warning: {error}; the stage's end is done again, from its last saved state")
        return None


def _lineage_so_far(out: Path, reporter: Reporter) -> Lineage:
    """The run's lineage; where its file is broken, an empty one, to which every finished stage brings its own."""
    try:
        return Lineage.load(out / "lineage.json")
    except StateError as error:
        reporter.event("note", text=f"warning: {str(error).partition(';')[0]}; it is put together from the stages")
        return Lineage()


def _open_folder(out: Path, text: str, resume: bool, reporter: Reporter) -> None:
    """Makes the run folder, or makes sure that the one there belongs to this recipe."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give --out a folder")
    recipe_file = out / "recipe.yaml"
    if not resume:
        if out.exists() and any(out.iterdir()) and not recipe_file.is_file():
            raise UserError(
                f"{out} is not a run folder (it has no recipe.yaml): it is not removed; choose another --out"
            )
        shutil.rmtree(out / "stages", ignore_errors=True)
        for name in ("recipe.yaml", "run.json", "lineage.json", "report.html"):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    own = hashlib.sha256(text.encode()).hexdigest()
    if recipe_file.is_file() and recipe_file.read_bytes() != text.encode():
        if _recipe_of(out) != own:
            raise StateError(f"{out} holds a run of another recipe; start again with --fresh or choose another --out")
        reporter.event("note", text=f"warning: {recipe_file} is not what this run wrote; it is written again")
    write_whole(recipe_file, text)
    facts = {"versions": versions(), "commit": commit(), "machine": machine(), "recipe": own}
    write_whole(out / "run.json", json.dumps(facts, indent=1) + "\n")


def _recipe_of(out: Path) -> str | None:
    """The digest of the recipe that run.json speaks of."""
    try:
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))
        return str(found["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run_stage(
    recipe: Recipe,
    number: int,
    folder: Path,
    previous: Path | None,
    history: list[dict[str, float]],
    lineage: Lineage,
    text: str,
    reporter: Reporter,
    accept_changed_data: bool,
    engine: Engine | None,
) -> None:
    stage = recipe.stages[number]
    assert stage.data is not None
    folder.mkdir(parents=True, exist_ok=True)
    start = stage.from_ or (str(previous) if previous is not None and stage.init is None else None)
    head = stage.objective.head
    processes = PartialState()
    with processes.main_process_first():
        if stage.tokenizer is not None and not stage.carry_on:
            tokenizer = tokenizer_for(stage.tokenizer, stage.data, head, engine=engine)
        else:
            assert start is not None
            tokenizer = load_tokenizer(start)
        data = prepare(stage.data, tokenizer, notify=lambda line: reporter.event("note", text=line), engine=engine)
        also = _further_sets(stage, tokenizer, reporter, engine)
    reporter.event("note", text=_data_line(data))
    model, start_id = _starting_model(recipe, stage, start, tokenizer, data, lineage, f"{folder.name} start")
    check_fits(tokenizer, model.config)
    changes: list[dict[str, Any]] = []
    for position, surgery in enumerate(stage.surgery):
        seed = derive_seed(recipe.seed, "stage", number, "surgery", position)
        promise, why = surgery.preserves(model.config)
        grown = surgery.apply(model, seed=seed)
        difference = compare(model, grown, data.first_tokens(256, tokenizer), promise=promise)
        reporter.event(
            "note",
            text=f"{surgery.name}: {model.num_parameters():,} -> {grown.num_parameters():,} weights, "
            f"keeps the function {promise} ({why}); largest logit difference {difference.largest:.3g}",
        )
        changes.append({"surgery": surgery.model_dump(mode="json"), "promise": promise, "largest": difference.largest})
        model = grown
        start_id = lineage.add(
            weights_hash(model),
            f"{folder.name} after {surgery.name}",
            model.num_parameters(),
            origin=start_id,
            operation=_describe(surgery.model_dump(mode="json", exclude_defaults=True) | {"type": surgery.name}),
            stage=folder.name,
            largest_logit_difference=difference.largest,
        )
        del grown
    chain = chain_of(recipe.stages, number)
    follows = previous if previous is not None and str(previous) == start else None
    settled = settle(
        stage,
        lambda known: Trials(model, tokenizer, known, data, seed=recipe.seed, number=number),
        folder,
        earlier=previous.parent if previous is not None and chain.carries_on else None,
        same_rows=chain.same_rows,
        is_main=processes.is_main_process,
    )
    for line in settled.lines():
        reporter.event("note", text=line)
    training = Training(
        model,
        tokenizer,
        settled.stage,
        data,
        seed=recipe.seed,
        number=number,
        folder=folder,
        reporter=reporter,
        also=also,
        chain=chain,
        spent=settled.flops + (_finish_flops(follows) if follows is not None else 0.0),
        earlier=_earlier_state(stage, start),
        before=follows.parent / "state" if follows is not None else None,
        history=history,
        accept_changed_data=accept_changed_data,
    )
    reporter.event("note", text=what_moves(model, training.extra))
    if training.weights.in_shares:
        reporter.event("note", text=f"weights, gradients and moments are in {processes.num_processes} shares")
    values = training.run()
    if summary := training.watch.summary():
        reporter.event("note", text=summary)
    trained = training.weights.exported()
    if trained is None:
        return
    model = trained
    end_id = lineage.add(
        weights_hash(model),
        folder.name,
        model.num_parameters(),
        origin=start_id,
        operation="train",
        stage=folder.name,
        flops=training.counts.flops,
        tokens=training.counts.tokens,
    )
    facts = {
        "folder": folder.name,
        "steps": training.counts.step,
        "tokens": training.counts.tokens,
        "real_tokens": training.counts.real_tokens,
        "flops": training.counts.flops,
        "finish_flops": training.finish_flops,
        "zero_flops": training.counts.zero_flops,
        "seconds": training.counts.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "parameters": model.num_parameters(),
        "weights": end_id,
        "reused_flops": _reused_flops(stage, start_id, lineage),
        "first": training.first_values,
        "final": values,
        "precision": training.precision,
        "device": training.device.type,
        "processes": processes.num_processes,
        "shared_out": training.weights.in_shares,
        "surgery": changes,
        "trial_flops": settled.flops,
        "data_flops": sum(number for name, number in data.statistics.items() if name.endswith("_flops")),
        "settled": settled.facts,
        "guard": training.watch.counts if stage.train.guard.watches else {},
        "data": _data_facts(data),
        "also": {name: _data_facts(held_out) for name, held_out in also.items()},
        "forgetting": {
            name: forgetting([training.first_values[f"{name}/loss"], values[f"{name}/loss"]])
            for name in also
            if f"{name}/loss" in training.first_values and f"{name}/loss" in values
        },
    }
    counted = ("parameters", "steps", "tokens", "real_tokens", "flops", "weights")
    shown = {k: facts[k] for k in counted} | settled.shown() | values
    card = model_card(title=recipe.title, stage=folder.name, facts=shown, recipe=text)
    save_model(model, tokenizer, folder / "model", card, stage.objective.files(model))
    lineage.save(folder / "lineage.json")
    write_whole(folder / "stage.json.part", sealed(facts | {"files": files_left(folder)}))


def _history(stages: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What was measured before the first step and at the end of each finished stage."""
    return [stages[0].get("first", {}), *(stage["final"] for stage in stages)] if stages else []


def _finish_flops(model: Path) -> float:
    """What the stage that left this model computed for those after it."""
    return float(read_sealed(model.parent / STAGE).get("finish_flops", 0.0))


def _earlier_state(stage: Stage, start: str | None) -> Path | None:
    """Where the moments are that this stage goes on with; every finished stage keeps its state beside its model."""
    if start is None or not (stage.carry_on or stage.train.moments == "load"):
        return None
    state = Path(start).parent / "state"
    if not state.is_dir():
        raise StateError(
            f"train.moments: '{start}' has no saved state beside it; 'load' needs the model folder of a run"
        )
    return state


def _reused_flops(stage: Stage, start_id: str, lineage: Lineage) -> float:
    """What the starting weights cost to make, and every other model of a run that the stage's parts name."""
    known, identities = Lineage(dict(lineage.nodes), list(lineage.edges)), [start_id]
    for name in named_models(stage.model_copy(update={"from_": None, "tokenizer": None})):
        finished = Path(name).parent / STAGE
        if finished.is_file():
            identities.append(str(read_sealed(finished).get("weights")))
            known.absorb(Lineage.of_model(Path(name)))
    return known.cost(*identities)


def _further_sets(stage: Stage, tokenizer: Any, reporter: Reporter, engine: Engine | None) -> dict[str, Prepared]:
    """The held-out sides of `evaluate.also`."""
    found = {}
    for name, data in stage.evaluate.also.items():
        try:
            found[name] = prepare(
                data,
                tokenizer,
                notify=lambda line: reporter.event("note", text=line),
                engine=engine,
                sides=("validation",),
            )
        except DataError as error:
            raise DataError(f"evaluate.also.{name}: {error}") from error
        reporter.event("note", text=f"held-out set '{name}': {_data_line(found[name])}")
    return found


def _data_facts(data: Prepared) -> dict[str, Any]:
    return {"fingerprint": data.fingerprint, "statistics": data.statistics}


def _finish_stage(folder: Path) -> None:
    """stage.json appears only when everything else of the stage is on the disk, lineage included."""
    with told(folder / STAGE):
        (folder / "stage.json.part").replace(folder / STAGE)


def _starting_model(
    recipe: Recipe,
    stage: Stage,
    start: str | None,
    tokenizer: Any,
    data: Prepared,
    lineage: Lineage,
    name: str,
) -> tuple[PreTrainedModel, str]:
    """The model that a stage starts from, and its id in the lineage."""
    head = stage.objective.head
    if start is None:
        assert stage.init is not None
        model = new_model(configuration(stage.init.like, stage.init.settings, tokenizer), head, recipe.seed)
        _check_length(model, stage)
        return model, lineage.add(
            weights_hash(model),
            name,
            model.num_parameters(),
            origin=None,
            operation=f"random {stage.init.like}",
        )
    model = load_model(start, head, seed=recipe.seed, vocabulary=len(tokenizer))
    _check_length(model, stage)
    identity = weights_hash(model)
    lineage.absorb(Lineage.of_model(Path(start)))
    if identity not in lineage.nodes:
        lineage.add(identity, str(start), model.num_parameters(), origin=None, operation=f"load {start}")
    return model, identity


def _check_length(model: PreTrainedModel, stage: Stage) -> None:
    """Blocks must fit into the model's positions; RoBERTa and its kin leave the first ones to padding."""
    assert stage.data is not None
    limit = getattr(model.config, "max_position_embeddings", None)
    if isinstance(limit, int):
        limit -= first_position(model)
    for where, data in {"data": stage.data, **stage.evaluate.also}.items():
        if isinstance(limit, int) and data.length > limit:
            where = where if data is stage.data else f"evaluate.also.{where}"
            raise ModelError(f"{where}.length {data.length} is more than the model's {limit} positions; lower it")


def what_moves(model: PreTrainedModel, extra: nn.Module | None = None) -> str:
    """How many and which weights train, and what is frozen; those of the objective's own modules apart."""
    moving = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p.numel() for name, p in model.named_parameters() if not p.requires_grad}
    line = f"{sum(moving.values()):,} weights train in {len(moving)} tensors"
    known = {id(p) for p in model.parameters()}
    own = [p.numel() for p in extra.parameters() if id(p) not in known] if extra is not None else []
    if own:
        line += f", and {sum(own):,} of the objective's own in {len(own)}, which are not exported"
    if not frozen:
        return line + "; nothing is frozen"
    shown = ", ".join(list(frozen)[:3]) + (", ..." if len(frozen) > 3 else "")
    return line + f"; {sum(frozen.values()):,} are frozen ({shown})"


def _data_line(data: Prepared) -> str:
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value:,}" for name, value in data.statistics.items() if isinstance(value, int)
    )
    return f"data {data.fingerprint[:12]}: {facts}"


def _describe(settings: dict[str, Any]) -> str:
    """A surgery in a few words for the lineage, e.g. `grow width=fpi to={'n_embd': 256}`."""
    words = " ".join(f"{key}={value}" for key, value in settings.items() if key != "type")
    return f"{settings['type']} {words}".strip()


def _write_report(out: Path) -> None:
    from warmstart.report.page import render

    render(out)
