"""What a recipe or study would do, in words, without doing it: stages, model sizes, data, parts, budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import ModelError, UserError
from warmstart.part import Part
from warmstart.places import expanded, is_file, is_folder
from warmstart.recipe import Recipe
from warmstart.recipe_file import read_any, read_study
from warmstart.recipe_stage import Stage
from warmstart.recipe_study import Study
from warmstart.train.probe import Probe
from warmstart.yours import Given

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Cluster:
    """So many processes, each with a GPU of so much memory."""

    processes: int
    gigabytes: float = 80.0


Sources = Mapping[str, list[Stage] | str]


def check(
    file: Path | str,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    given: Given | None = None,
    cluster: Cluster | None = None,
) -> list[str]:
    """What a file would do. A study is checked at every scale and described at `laptop`, or at the one given.

    Args:
        given: the user's own model and data, for a study.
        cluster: say also what each of its processes would hold; of a recipe.

    Raises:
        RecipeError: anything wrong with the file.
        ModelError: as `describe`.
        UserError: a cluster and a study; or its processes cannot share a batch.
    """
    if scale is not None:
        return describe(read_study(file, scale, overrides, given))
    recipe = read_study(file, overrides=overrides, given=given) if given else read_any(file, overrides)
    if cluster is not None and isinstance(recipe, Study):
        raise UserError("--processes is for a recipe: a study's runs train on one process each")
    lines = list(_recipe(recipe, cluster)) if isinstance(recipe, Recipe) else describe(recipe)
    if isinstance(recipe, Study):
        for name in recipe.scales:
            describe(read_study(file, name, overrides, given))
        lines.append(f"scales: {', '.join(recipe.scales) or 'none'}")
    return lines


def describe(recipe: Recipe | Study) -> list[str]:
    """Lines of text, one stage after the other.

    Raises:
        ModelError: `init` names no model type of `transformers`, or fields that the type does not have; a
            surgery cannot be done to the model that it would be given.
    """
    return list(_study(recipe) if isinstance(recipe, Study) else _recipe(recipe))


def _recipe(recipe: Recipe, cluster: Cluster | None = None) -> Iterator[str]:
    yield f"{recipe.title}: {_count(len(recipe.stages), 'stage')}, seed {recipe.seed}"
    config: PretrainedConfig | None = None
    for number, stage in enumerate(recipe.stages):
        yield from _stage(stage, recipe.stage_name(number), number, {})
        if cluster is not None:
            config = _configuration_trained(stage, config)
            yield from _on(cluster, stage, config)


def _on(cluster: Cluster, stage: Stage, config: PretrainedConfig | None) -> Iterator[str]:
    """What each process of a cluster would hold."""
    from dataclasses import replace

    from warmstart.forecast.cluster.machine import H100
    from warmstart.forecast.cluster.words import lines_of

    if stage.budget is None:
        return
    if config is None:
        yield "    memory       not known: the model is on the hub, or what becomes of it is not known beforehand"
        return
    yield from lines_of(stage, config, cluster.processes, replace(H100, memory=cluster.gigabytes * 1e9))


def _configuration_trained(stage: Stage, before: PretrainedConfig | None) -> PretrainedConfig | None:
    """The configuration of the model that a stage trains, after its surgery; None where that is not known."""
    from warmstart.surgery.grow import Grow

    config = _configuration_before(stage, {}) if stage.init is not None or stage.from_ is not None else before
    for surgery in stage.surgery:
        config = surgery.target(config) if config is not None and isinstance(surgery, Grow) else None
    return config


def _study(study: Study) -> Iterator[str]:
    compare = study.compare
    flops = f" at {compare.flops:.3g} FLOPs" if compare.flops else ""
    yield (
        f"{study.title}: {_count(len(study.sources), 'source')}, {_count(len(study.arms), 'arm')}, "
        f"{_count(compare.seeds, 'seed')}, by {compare.metric} ({compare.better} is better){flops}"
    )
    for name, model in study.given_sources.items():
        yield f"source {name}: {_found(model)}"
    for name in study.made_sources:
        yield f"source {name}"
        recipe = study.source_recipe(name, seed=0)
        for number, stage in enumerate(recipe.stages):
            yield from _stage(stage, recipe.stage_name(number), number, study.sources)
    for name in study.arms:
        yield f"arm {name}{' (baseline)' if name == compare.baseline else ''}"
        recipe = study.recipe(name, seed=0)
        for number, stage in enumerate(recipe.stages):
            yield from _stage(stage, recipe.stage_name(number), number, study.sources)


def _found(model: str) -> str:
    return f"'{model}' ({'a folder' if is_folder(model) else 'a hub id; no folder has this name'})"


def _rows(stage: Stage) -> Iterator[str]:
    """A stage that makes rows and trains nothing."""
    assert stage.data is not None
    yield f"    data         {' + '.join(words(source) for source in stage.data.sources)}"
    yield f"    curation     {', '.join(words(step) for step in stage.data.curate) or 'none'}"
    yield f"    evaluation   {', '.join(words(part) for part in stage.evaluate.evaluators)}"


def _stage(stage: Stage, name: str, number: int, sources: Sources) -> Iterator[str]:
    assert stage.data is not None
    yield f"  {name}"
    if stage.budget is None:
        yield from _rows(stage)
        return
    yield f"    starts from  {_start(stage, number, sources)}"
    for position, surgery in enumerate(stage.surgery):
        yield f"    surgery      {words(surgery)}{_promise(stage, position, sources)}"
    data, train = stage.data, stage.train
    rows = " + ".join(words(source) for source in data.sources)
    blocks = f"blocks of {data.length} tokens, documents {data.documents}"
    yield f"    data         {rows}; {'rows as they are' if data.packing.name == 'rows' else blocks}"
    yield f"    objective    {words(stage.objective)}"
    yield (
        f"    training     {words(train.optimizer)}, learning rate {_rate(train.learning_rate)}, "
        f"{words(train.schedule)}, batch {train.batch_size}, trains {words(train.trainable)}, "
        f"precision {train.precision}, device {train.device}"
    )
    yield f"    budget       {_budget(stage)}"
    yield f"    evaluation   {', '.join(words(part) for part in stage.evaluate.evaluators)}"
    if stage.evaluate.decode is not None:
        yield f"    of           {words(stage.evaluate.decode)}"


def _rate(rate: float | Probe) -> str:
    return f"{rate:g}" if isinstance(rate, float) else f"by probe (up to {100 * rate.share:g} % of the budget)"


def _start(stage: Stage, number: int, sources: Sources) -> str:
    if stage.init is not None:
        like = stage.init.like
        kind = f"a new model like {_found(like)}" if "/" in like or is_folder(like) else f"a new {like} model"
        return f"{kind} with {_size(stage):,} weights"
    if stage.carry_on:
        return "the stage before, carrying on its optimizer and its schedule"
    if stage.from_ is None:
        return "the stage before"
    if stage.from_ in sources:
        return f"the source '{stage.from_}'"
    return _found(stage.from_)


def _size(stage: Stage) -> int:
    """The number of weights of a new model, built without memory.

    Raises:
        ModelError: there is no such model.
    """
    import torch

    from warmstart.models.bounded import bounded
    from warmstart.models.build import cannot_build
    from warmstart.models.load import auto_class

    config = _new_configuration(stage)
    try:
        with torch.device("meta"), bounded(f"init: the {config.model_type} model"):
            return int(auto_class(stage.objective.head).from_config(config).num_parameters())
    except ModelError:
        raise
    except Exception as error:  # every architecture raises its own kind
        raise cannot_build(config, stage.objective.head, error) from error


def _budget(stage: Stage) -> str:
    """The budget; one in FLOPs also in tokens, by the rule of 6 FLOPs per weight and token, where a model is new."""
    assert stage.budget is not None
    text = f"{stage.budget.amount:,.6g} {stage.budget.unit}"
    if stage.init is None or stage.budget.unit != "flops":
        return text
    return f"{text}, about {stage.budget.amount / (6 * _size(stage)):,.2g} tokens"


def _new_configuration(stage: Stage) -> PretrainedConfig:
    """The configuration of `init`; the vocabulary is the recipe's, the special tokens are not known yet."""
    from warmstart.models.build import configuration, with_vocabulary

    assert stage.init is not None
    settings = dict(stage.init.settings)
    if stage.tokenizer is not None and stage.tokenizer.size is not None:
        unknown = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        settings = with_vocabulary(stage.init.like, settings, {"vocab_size": stage.tokenizer.size} | unknown)
    return configuration(stage.init.like, settings)


def _promise(stage: Stage, position: int, sources: Sources) -> str:
    """What a surgery promises, where the model it works on can be known before anything has run.

    Raises:
        ModelError: the surgery cannot be done to this model.
    """
    config = _configuration_before(stage, sources) if position == 0 else None
    if config is None:
        return ""
    promise, why = stage.surgery[position].preserves(config)
    return f"; keeps the function {promise} ({why})"


def _configuration_before(stage: Stage, sources: Sources) -> PretrainedConfig | None:
    if stage.init is not None:
        return _new_configuration(stage)
    if stage.from_ in sources:
        stages = sources[str(stage.from_)]
        if isinstance(stages, str):
            return _configuration_of(stages)
        changed = any(s.surgery for s in stages) or any(s.init is not None or s.from_ for s in stages[1:])
        return None if changed or stages[0].init is None else _new_configuration(stages[0])
    return None if stage.from_ is None else _configuration_of(stage.from_)


def _configuration_of(model: str) -> PretrainedConfig | None:
    """The configuration of a model folder; None of a hub id, which is not asked."""
    from warmstart.models.config_file import read_config

    folder = expanded(model)
    if not is_file(folder / "config.json"):
        return None
    try:
        return read_config(folder, model)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds here
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"'{model}' has no usable configuration: {text[:300]}") from error


def words(part: Part) -> str:
    """A part with the settings that are not its defaults, e.g. `cosine (warmup 0.1)`."""
    settings: dict[str, Any] = part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    settings.pop("type", None)
    inside = ", ".join(f"{key} {_value(value)}" for key, value in settings.items())
    return f"{part.name} ({inside})" if inside else part.name


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_value(item)}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
