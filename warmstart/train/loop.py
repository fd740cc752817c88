"""The training loop of one stage.

A step reads like a sentence: next rows, collate, loss, penalties, backward, gradients, clip, step, count. The loop
knows parts only by their contracts; no system's name appears here.

Why a resumed run is bit-identical: everything that changes is either in the saved state (weights, optimizer, the mix,
the counts) or a pure function of (seed, stage, step): the collator's masks, dropout, the schedule, which sub-model a
step trains. Nothing depends on how often the process was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import PreTrainedModel

from warmstart.data.mix.ahead import Ahead
from warmstart.errors import Interrupted, StateError, UserError
from warmstart.evaluate import Subject
from warmstart.objectives import NUMBER, Batch, Loss, Outlook, Row
from warmstart.objectives.output_layer import output_layer
from warmstart.randomness import derive_seed, numpy_generator, seeded
from warmstart.recipe_stage import Stage
from warmstart.train.activations import checkpoint_activations
from warmstart.train.chain import Chain, chain_of
from warmstart.train.checkpoint import load_state
from warmstart.train.companions import Companions
from warmstart.train.cost import Cost
from warmstart.train.guards import Watch
from warmstart.train.interrupts import interrupts
from warmstart.train.layout import micro_batches, to_device, work_of
from warmstart.train.liger import use_liger
from warmstart.train.memory import keep_freed_memory
from warmstart.train.metrics import MetricsLog
from warmstart.train.penalties import Ground, Moment
from warmstart.train.precision import autocast, resolve_device, resolve_precision
from warmstart.train.processes import Processes
from warmstart.train.progress import Reporter
from warmstart.train.rows import real_tokens_of, stage_mix
from warmstart.train.saving import Saving
from warmstart.train.sharing import check_shares, spread
from warmstart.train.spending import Counts, Spending
from warmstart.train.state import keep_start, load_weights, resume, state_of, take_over
from warmstart.train.tensors import (
    kept_buffers,
    put_back,
)
from warmstart.train.varlen_attention import use_varlen
from warmstart.train.weights import wants_shares

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared


class Training:
    """The training of one stage.

    Args:
        model: the model to train, on the CPU; it is moved to the stage's device and trained in place.
        stage: the stage, complete (data and budget given).
        data: the stage's prepared data.
        seed: the recipe's seed.
        number: the stage's number in its recipe (part of every random purpose).
        folder: the stage's folder; states go to `folder/state`, metrics to `folder/metrics.jsonl`.
        also: further held-out sets by name.
        chain: where the stage stands among stages that carry on one training; default: alone.
        spent: FLOPs before the first step: of trials, and of what the stage before computed for this one. They count in
            its budget, but its schedule begins after.
        earlier: the folder with the saved states of the training that is carried on, or whose moments are loaded.
        before: the folder with the saved states of the stage before, whose penalties may have left something.
        history: what was measured before the run's first step and at the end of each stage before; empty: this is the
            first.
        accept_changed_data: go on although the data are not those that the saved state was trained on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        stage: Stage,
        data: Prepared,
        *,
        seed: int,
        number: int,
        folder: Path,
        title: str = "warmstart",
        reporter: Reporter | None = None,
        also: dict[str, Prepared] | None = None,
        chain: Chain | None = None,
        earlier: Path | None = None,
        before: Path | None = None,
        history: list[dict[str, float]] | None = None,
        spent: float = 0.0,
        accept_changed_data: bool = False,
    ) -> None:
        assert stage.budget is not None
        self.chain = chain or dataclasses.replace(
            chain_of([stage.model_copy(update={"carry_on": False})], 0), first=number
        )
        self.earlier, self.stage_before = earlier, before
        self.also, self.history = also or {}, history or []
        self.stage, self.settings, self.budget = stage, stage.train, stage.budget
        self.tokenizer, self.data, self.seed, self.number, self.folder = tokenizer, data, seed, self.chain.first, folder
        self.reporter = reporter or Reporter()
        self.accept_changed_data = accept_changed_data
        self.device = resolve_device(self.settings.device)
        self.precision = resolve_precision(self.settings.precision, self.device)
        self.processes = Processes(self.device)
        self.device = self.processes.device
        shares = wants_shares(self.settings.shard, self.processes.count)
        if shares:
            check_shares(stage)
        else:
            model.to(self.device)  # type: ignore[arg-type]  # wrapped in transformers so that its signature is lost
        self.model = model
        self.model.train()  # transformers hands a loaded model out in evaluation mode: without its dropout
        if self.settings.layout == "unpadded":
            use_varlen(self.model)
        if self.settings.activation_checkpointing:
            checkpoint_activations(self.model)
        if self.settings.liger:
            use_liger(self.model, self.device)
        if self.settings.compile:
            output_layer(
                self.model
            )  # found before the first step, so that a resumed run compiles what the first one did
        self.objective = stage.objective.for_model(self.model)
        with seeded(derive_seed(seed, "stage", self.number, "objective")):
            self._rows = cast(Any, torch.utils.data.ConcatDataset(data.train))  # a lazy sequence of blocks
            self.extra = self.objective.start(self.model, tokenizer, self._rows)
        self.settings.trainable.prepare(self.model, derive_seed(seed, "stage", self.number, "trainable"))
        self.weights = spread(
            self.model,
            self.extra,
            stage,
            self.processes,
            shares=shares,
            precision=self.precision,
            may_skip_weights=self.objective.may_skip_weights,
        )
        if self.extra is not None:
            self.extra.to(self.device)
        self.companions = Companions(self.settings.penalties, self.settings.gradients, self._ground)
        rate = self.settings.learning_rate
        assert isinstance(rate, float), "a probe must be settled before training"
        self.learning_rate = rate
        self.optimizer = self.settings.optimizer.start(self.trained_module(), rate)
        self.weights.separate(self.optimizer)
        self.mix = stage_mix(stage, data, seed, self.number)
        episode = self.objective.refresh_every(self.settings.batch_size) * self.settings.batch_size
        self._ahead = Ahead(self.mix, episode) if episode else None
        if self._ahead is not None:
            self.mix = self._ahead
        self.saving = Saving(folder / "state", self.settings.keep, background=self.settings.save_in_background)
        self.cost = Cost(self, self._micro_batches)
        self.spending = Spending(self.budget, self.chain, spent)
        self.finish_flops = 0.0
        self.watch = Watch(self.settings.guard, lazily=self.device.type != "cpu", agree=self.processes.largest)
        self._zero_flops = self.settings.trainable.zero_flops_per_token(self.model)
        self.forward = self.weights.forward
        whole = self.settings.compile and not shares  # shares: each layer is compiled by itself
        self._loss = compiled(self.objective_loss) if whole else self.objective_loss
        self._trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._peak = [group["lr"] for group in self.optimizer.param_groups]
        self._learning_rate = 0.0
        self._clock = time.perf_counter()
        self.values: dict[str, float] = {}
        self.first_values: dict[str, float] = {}
        self.evaluated_at: int | None = None
        self.start: dict[str, torch.Tensor] | None = None
        self.start_digest: str | None = None
        self.log: MetricsLog | None = None
        self._composed: torch.nn.Module | None = None
        self.finished = False

    @property
    def counts(self) -> Counts:
        """What the stage has used so far."""
        return self.spending.counts

    # ---- the whole stage -------------------------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Trains until the budget is used and returns the last evaluation.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the state is saved.
            StateError: the saved state belongs to other data.
            UserError: the budget is below one step, the loss is not a number, the disk is full.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        state = load_state(self.folder / "state")
        keep_start(self, state)
        resumed = state is not None
        if state is not None:
            resume(self, state)
        log = MetricsLog(self.folder, self.settings.trackers, self.folder.name) if self.processes.is_main else None
        self.log = log
        if log:
            log.restore(state.values.get("log") if state is not None else "", self.counts.step)
        del state
        self._clock = time.perf_counter() - self.counts.seconds
        with interrupts() as interrupted, self.saving:
            if not resumed:
                take_over(self)
                self.evaluate(log, observe=not self.chain.same_rows)
                if self.settings.guard.rolls_back:  # to the beginning, where nothing else was saved yet
                    self.save(regular=True)
            while not self.finished:
                before = self._evaluations_due()
                mix_state = self.mix.state_dict()
                loss, norm = self.step()
                if loss is None:  # the budget does not reach for another step
                    self.mix.load_state_dict(mix_state)
                    break
                self.saving.raise_what_went_wrong()
                self.counts.seconds = self.processes.largest(time.perf_counter() - self._clock)
                log_due, evaluation_due = (
                    self.counts.step % self.settings.log_every == 0,
                    self._evaluations_due() > before,
                )
                self._check_guard(look=log_due or evaluation_due)
                if log_due or self.watch.last.action != "take":
                    self._log_step(log, loss, norm)
                if evaluation_due:
                    self.evaluate(log)
                stop = self.processes.largest(float(interrupted.is_set())) > 0
                regular = self.counts.step % self.settings.save_every == 0
                if stop or regular:
                    self.save(regular)
                if stop:
                    self.saving.wait()
                    if log:
                        log.close()
                    raise Interrupted(f"interrupted at step {self.counts.step}; the state is saved")
            if self.counts.step == 0:
                spent = f"{self.counts.flops:.3g} FLOPs of trials, or of what the stage before measured at its end"
                paid = f" after {spent}" if self.counts.flops else ""
                raise UserError(
                    f"budget: {self.budget.amount:g} {self.budget.unit} is less than one training step needs{paid}"
                )
            if self.evaluated_at != self.counts.step:
                self.evaluate(log)
            if not self.finished:
                self.finished = True
                self.finish_flops = self.cost.of_finish()
                self.save()
        self.processes.wait()
        if log:
            log.close()
        return self.values

    # ---- one step --------------------------------------------------------------------------------------------------

    def step(self) -> tuple[Loss | None, torch.Tensor | None]:
        """One optimizer step; (None, None), and nothing done, where the budget does not reach for it."""
        draw = derive_seed(self.seed, "stage", self.number, "trainable")
        choice = self.settings.trainable.choose(self.spending.step, draw, self.model)
        if not self._refreshed():
            return None, None
        rows = self.next_rows()
        batch = self.collate(rows)
        moment = self.moment()
        tokens = self.tokens_of(batch)
        zeros = tokens * self._zero_flops
        cost = self.cost.of_step(batch, choice, moment) - (0.0 if self.settings.trainable.counts_zeros else zeros)
        if not self.spending.affords(cost, tokens):
            return None, None
        self._set_learning_rate(cost, tokens)
        torch.manual_seed(
            derive_seed(self.seed, "stage", self.number, "step", self.spending.step, "model", self.processes.rank)
        )
        buffers = kept_buffers(self.trained_module()) if self.settings.guard.watches else []
        with self.settings.trainable.during(self.model, choice):
            loss = self.backward(batch, moment)
        self.companions.before_update(moment)
        norm = self.clip()
        verdict = self.watch.judge(self.counts.step + 1, loss.total, norm, self.settings.clip)
        if verdict.taken:
            if verdict.scale != 1.0:
                self._scale_gradients(verdict.scale)
            self.optimizer.step()
            self.companions.after_update(moment)
            self.companions.seen(rows)
        else:
            put_back(buffers)
        self.optimizer.zero_grad(set_to_none=True)
        self.counts.step += 1
        self.counts.tokens += tokens
        self.counts.real_tokens += real_tokens_of(rows, batch, tokens)
        self.counts.flops += cost
        self.counts.zero_flops += zeros
        if verdict.action == "roll-back":
            self._roll_back()
        return loss, norm

    def next_rows(self) -> list[Row]:
        """The rows of the whole step, over all processes."""
        chosen = self.mix.next(self.settings.batch_size, self.spending.rows_progress())
        if self._ahead is None:
            return [self.data.train[source][row] for source, row in chosen]
        return [self.data.train[source][row] | {NUMBER: self._number(source, row)} for source, row in chosen]

    def _number(self, source: int, row: int) -> int:
        """A row's number among all training rows."""
        return row + (self._rows.cumulative_sizes[source - 1] if source else 0)

    def _refreshed(self) -> bool:
        """Lets the objective look at the rows of its next episode, where one begins; its FLOPs count at once. False
        where the budget does not reach for what that cost the last time."""
        if self._ahead is None or not self._ahead.is_due(self.settings.batch_size):
            return True
        if not self.spending.affords(self.cost.meter.last(("refresh",)), 0):
            return False
        purpose = ("stage", self.number, "refresh", self.spending.step)
        chosen = self._ahead.draw(self.spending.rows_progress())

        def batch_of(rows: Sequence[Row], words: tuple[Any, ...]) -> Batch:
            batch = self.objective.collate(rows, self.tokenizer, numpy_generator(self.seed, *purpose, *words))
            return to_device(batch, self.device)

        outlook = Outlook(
            self.model,
            self.extra,
            self._rows,
            [self._number(source, row) for source, row in chosen],
            self.settings.batch_size,
            derive_seed(self.seed, *purpose),
            self.spending.progress(),
            batch_of,
        )
        other = []

        def refresh() -> None:
            torch.manual_seed(outlook.seed)
            with torch.no_grad(), autocast(self.device.type, self.precision):
                other.append(self.objective.refresh(outlook))

        flops = (self.cost.meter.count(refresh) + sum(other)) * self.processes.count
        self.weights.after_passes()
        if self.extra is not None:
            self.processes.share_buffers(self.extra)
        self.cost.meter.remember(("refresh",), flops)
        self.counts.flops += flops
        return True

    def collate(self, rows: list[Row]) -> Batch:
        """The batch of the whole step, over all processes, on the CPU: the masks of a row do not depend on how
        many processes share the work."""
        generator = numpy_generator(self.seed, "stage", self.number, "step", self.spending.step, "collate")
        return self.objective.collate(rows, self.tokenizer, generator)

    def backward(self, batch: Batch, moment: Moment | None = None) -> Loss:
        """Gradients of the mean loss over all targets of the step, penalties included: micro-batches and processes are
        weighted by how many targets they hold, so that accumulating changes nothing but rounding."""
        moment = moment or self.moment()
        micro = self._own_micro_batches(batch)
        total = _targets(batch)
        losses = []
        for number, part in enumerate(micro):
            weight = _targets(part) / max(total, 1)
            last = number == len(micro) - 1
            own = dataclasses.replace(moment, piece=self.processes.rank * len(micro) + number, pieces=self._pieces)
            with self.weights.before_exchange() if not last else contextlib.nullcontext():
                with autocast(self.device.type, self.precision):
                    loss = self._loss(self.forward, part, self.extra, self.companions.need_logits(moment))
                    loss = self.companions.added_to(loss, part, own)
                scale = weight * self.processes.count
                (loss.total if scale == 1 else loss.total * scale).backward()
            losses.append((weight, loss))
        self.weights.share_gradients(self.extra)
        if len(losses) == 1 and self.processes.count == 1:
            loss = losses[0][1]
            return Loss(loss.total.detach(), loss.targets, loss.parts, loss.per_row)
        names = ["total", *losses[0][1].parts]
        values = torch.stack([
            torch.stack([loss.total.detach(), *loss.parts.values()]).float() * weight for weight, loss in losses
        ]).sum(dim=0)  # fmt: skip
        means = dict(zip(names, self.processes.summed(values), strict=True))
        return Loss(means.pop("total"), torch.tensor(total), means)

    def clip(self) -> torch.Tensor:
        """Scales the gradient down to the largest norm that is allowed; its norm before that."""
        if self.settings.clip is None:
            return self.weights.norm(self._trained)
        return self.weights.clip(self._trained, self.settings.clip)

    def _scale_gradients(self, scale: float) -> None:
        for parameter in self._trained:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)

    # ---- compute ---------------------------------------------------------------------------------------------------

    def tokens_of(self, batch: Batch) -> int:
        """Tokens (of sounds: steps of features) that the model reads in a step, over all processes; padding included
        where it is computed too."""
        if "input_ids" not in batch and "attention_mask" not in batch:
            return 0
        return work_of(self._micro_batches(batch)).tokens

    def moment(self) -> Moment:
        """Where the training is, as penalties see it."""
        return Moment(self.spending.step, self.spending.progress())

    # ---- evaluation and log ----------------------------------------------------------------------------------------

    def evaluate(self, log: MetricsLog | None = None, *, observe: bool = True) -> dict[str, float]:
        """All evaluators on the model as it is; its time does not count as training.

        Args:
            observe: whether the mix hears of it.
        """
        began = time.perf_counter()
        subject = Subject(
            self._evaluated_model(),
            self.tokenizer,
            self.objective,
            self.data,
            self.seed,
            self.precision,
            self.also,
            self.start,
            self.extra,
            history=self.history or ([self.first_values] if self.first_values else []),
        )
        values = subject.values
        for evaluator in self.stage.evaluate.evaluators:
            values |= evaluator.evaluate(subject)
        self.weights.after_passes()
        values = self.processes.agreed(values)
        if observe:
            self.mix.observe(values)
        self.values, self.evaluated_at = values, self.counts.step
        self.first_values = self.first_values or values
        self._clock += time.perf_counter() - began
        if log:
            log.write(asdict(self.counts) | values)
        self.reporter.event("evaluation", step=self.counts.step, flops=self.counts.flops, values=values)
        return values

    def _evaluated_model(self) -> torch.nn.Module:
        """The model, or what `evaluate.decode` makes of it and others, which are loaded once."""
        evaluation = self.stage.evaluate
        if evaluation.decode is None and all(evaluator.with_shares for evaluator in evaluation.evaluators):
            return self.model
        model = self.weights.whole_model()
        if evaluation.decode is None:
            return model
        if self._composed is None or model is not self.model:
            self._composed = evaluation.decode.compose(model, self.tokenizer).to(self.device)
        return self._composed

    def _evaluations_due(self) -> int:
        """How many evaluations should have happened by now; one is due when a step makes this number larger."""
        every = self.stage.evaluate.every
        return int(self.spending.fraction() / every + 1e-9) if every < 1 else int(self.counts.step // every)

    def _check_guard(self, look: bool) -> None:
        """Ends the run where its guard says so; looks at what is still on the device only where told to."""
        advice = f"lower train.learning_rate ({self.learning_rate:g}), or set train.clip or train.guard"
        self.watch.check(self.counts.step, f"{advice}; the last saved state is untouched", look)

    def _log_step(self, log: MetricsLog | None, loss: Loss, norm: torch.Tensor | None) -> None:
        value = float(loss.total)
        if self.watch.last.action != "take":
            done = {"clip": "the gradient is scaled down", "skip": "the batch is passed over"}
            what = done.get(self.watch.last.action, f"back to the state of step {self.watch.anchor}")
            self.reporter.event("note", text=f"step {self.counts.step}: {self.watch.last.why}; {what}")
        speed = self.counts.tokens / self.counts.seconds if self.counts.seconds else 0.0
        if log:
            line = asdict(self.counts) | {"loss": value, "learning_rate": self._learning_rate}
            line |= {name: float(part) for name, part in loss.parts.items()} | self.mix.report()
            if norm is not None:
                line["gradient_norm"] = float(norm)
            log.write(line | self.watch.report() | {"tokens_per_second": speed})
        self.reporter.event("step", fraction=self.spending.fraction(), loss=value, tokens_per_second=speed)

    def _set_learning_rate(self, cost: float, tokens: int) -> None:
        share = self.spending.share_of_step(cost, tokens)
        factor = self.settings.schedule.factor(self.spending.step, self.spending.progress(), share)
        self._learning_rate = factor * self.learning_rate
        for group, peak in zip(self.optimizer.param_groups, self._peak, strict=True):
            group["lr"] = peak * factor

    # ---- state -----------------------------------------------------------------------------------------------------

    def save(self, regular: bool = False) -> None:
        """The whole state of the run in this stage, atomically.

        Args:
            regular: one of those that every run of this recipe saves, wherever it was interrupted: the guard may go
                back to it.
        """
        self._check_guard(look=True)
        if regular:
            self.watch.regular_state(self.counts.step)
        tensors, values = state_of(self)
        if self.processes.is_main:
            spare = self.watch.anchor if self.settings.guard.rolls_back else None
            copies = ("model", "optimizer") if self.weights.hands_out_copies else ()
            self.saving.save(self.counts.step, tensors, values, spare, copies)

    def _roll_back(self) -> None:
        """Back to the weights and moments of the last regular state. The counts and the data go on.

        Raises:
            StateError: that state is broken.
        """
        self.saving.wait()
        self.processes.wait()
        state = load_state(self.folder / "state", step=self.watch.anchor)
        if state is None:
            raise StateError(f"the guard wants to go back to step {self.watch.anchor}, whose saved state is gone")
        self.optimizer.state.clear()  # a state from before the first step has no moments
        load_weights(self, state)
        for _ in range(self.settings.guard.pass_over):
            self.mix.next(self.settings.batch_size, self.spending.rows_progress())
        self.processes.wait()

    # ---- micro-batches ---------------------------------------------------------------------------------------------

    @property
    def _pieces(self) -> int:
        """Micro-batches of a step, over all processes."""
        return int(self.settings.accumulate * self.processes.count)

    def _micro_batches(self, batch: Batch) -> list[Batch]:
        """The step's batch as micro-batches, over all processes, on the CPU."""
        rows, pieces = len(next(iter(batch.values()))), self._pieces
        if rows % pieces:
            raise UserError(
                f"train.batch_size: {rows} blocks cannot be shared by {self.processes.count} processes x "
                f"{self.settings.accumulate} micro-batches"
            )
        return micro_batches(batch, self.settings.layout, pieces)

    def _own_micro_batches(self, batch: Batch) -> list[Batch]:
        """This process's share of them, on its device."""
        first = self.processes.rank * self.settings.accumulate
        own = self._micro_batches(batch)[first : first + self.settings.accumulate]
        return own if self.device.type == "cpu" else [to_device(part, self.device) for part in own]

    def objective_loss(self, model: Any, batch: Batch, extra: Any, keep_logits: bool = False) -> Loss:
        if keep_logits:
            return self.objective.loss(model, batch, extra)
        return self.objective.loss_without_logits(model, batch, extra)

    def _ground(self, name: str) -> Ground:
        """What the penalty of this name stands on."""

        def rows() -> Iterator[Row]:
            return (blocks[number] for blocks in self.data.train for number in range(len(blocks)))

        def batch_of(chosen: Sequence[Row], purpose: tuple[Any, ...]) -> Batch:
            generator = numpy_generator(self.seed, "stage", self.number, name, *purpose)
            batch = self.objective.collate(chosen, self.tokenizer, generator)
            return to_device(micro_batches(batch, self.settings.layout, 1)[0], self.device)

        return Ground(
            self.model,
            self.tokenizer,
            self.objective,
            self.extra,
            self.device,
            self.precision,
            derive_seed(self.seed, "stage", self.number, name),
            self.settings.batch_size,
            rows,
            batch_of,
        )

    def trained_module(self) -> torch.nn.Module:
        """The model, together with the objective's own modules where it has any."""
        if self.extra is None:
            return self.model
        return torch.nn.ModuleDict({"model": self.model, "extra": self.extra})


def compiled(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """The loss as one graph, the model inside. PyTorch's vectorized `tanh` (GPT-2's GELU) is slow on a CPU: by way of
    `exp`, and with fused multiply-add, a step of a small GPT-2 takes 0.95 of the time."""
    options: dict[str, Any] = {"cpp.use_decompose_tanh": True, "cpp.enable_floating_point_contract_flag": "fast"}
    return torch.compile(loss, dynamic=False, options=options)


def _targets(batch: Batch) -> int:
    return int((batch["labels"] != -100).sum()) if "labels" in batch else len(next(iter(batch.values())))
