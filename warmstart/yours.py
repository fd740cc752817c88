"""A packaged study on your own model and your own data: where they belong in it.

`warmstart study meco --model MODEL --data 'mine/*.jsonl'` is short for a handful of `--set`. Which ones, only the study
can know, because a model is taken in one of two senses: its *weights*, where the paper goes on from a trained model, or
its *shape* (configuration and tokenizer, new weights), where the paper trains from nothing. So a study says under
`yours` to which of its paths a user's things go, and in which sense; what it does not say, it does not take.

Budgets and learning rates are not touched: they stay those of the scale, in every arm the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warmstart.errors import ModelError, RecipeError
from warmstart.places import expanded, is_file, is_folder
from warmstart.recipe_text import read_text

FILE_ENDINGS = frozenset(
    {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".rst", ".gz", ".zst"}
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
Paths = list[str]


class Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class YourModel(Form):
    """Where a model folder or hub id goes."""

    says: str = Field(description="One sentence: in which sense the study takes a model.")
    weights: Paths = Field(default_factory=list, description="Paths that become the model: sources, a stage's `from`.")
    shape: Paths = Field(default_factory=list, description="Paths of `init` that become new models of its shape.")
    tokenizer: Paths = Field(default_factory=list, description="Paths of `tokenizer` that load the model's.")
    without: list[str] = Field(default_factory=list, description="Arms that have no meaning with a given model.")
    set: dict[str, Any] = Field(default_factory=dict, description="What else to set: paths and values.")


class YourSizes(Form):
    """Where the sizes of a larger model go: of one that is grown from the given one, or of a new one like it."""

    init: Paths = Field(default_factory=list, description="Paths of `init` that become new models of the grown shape.")
    surgery: Paths = Field(default_factory=list, description="Paths of a surgery's `to`.")


class YourData(Form):
    """Where text goes."""

    says: str = Field(description="One sentence: what kind of rows the study needs.")
    sources: Annotated[Paths, Field(min_length=1)] = Field(description="Paths that become the source of rows.")
    columns: list[str] = Field(default_factory=list, description="Columns that the study reads beside the text.")
    least: Annotated[int, Field(ge=1)] = Field(1, description="How many sources the study needs at least.")
    set: dict[str, Any] = Field(default_factory=dict, description="What else to set: paths and values.")


class Yours(Form):
    """What of a user's own a study takes, and where it goes."""

    model: YourModel | None = None
    to: YourSizes | None = None
    data: YourData | None = None


@dataclass(frozen=True)
class Given:
    """What a user gives.

    Attributes:
        model: a model folder or hub id.
        data: files or globs, folders or hub ids of data sets, or sources as in a recipe.
        to: sizes of a grown model, in the words of its configuration or general ones (`width`, `depth`).
    """

    model: str | None = None
    data: Sequence[str | Mapping[str, Any]] = ()
    to: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.model is not None or bool(self.data) or bool(self.to)


@dataclass(frozen=True)
class Setting:
    """A value to put at a path of a study; `option` is what it comes from. A `whole` one replaces what is there."""

    option: str
    path: str
    value: Any
    whole: bool = False


def settings(study: Mapping[str, Any], given: Given, name: str) -> list[Setting]:
    """What has to be set in a study for the things that a user gives, in this order.

    Args:
        study: the study's raw values, its scale applied.
        name: what the study is called in messages.

    Raises:
        RecipeError: the study does not take such a thing, or not so few; its `yours` is not well formed.
        ModelError: there is no such model folder, or it cannot grow to these sizes.
    """
    try:
        yours = Yours.model_validate(study.get("yours") or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"{name}: yours.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    found: list[Setting] = []
    if given.model is not None:
        if yours.model is None:
            raise RecipeError(f"--model {given.model}: the study '{name}' takes no model of yours{_takes(yours)}")
        found += _of_model(yours.model, study, given.model)
    if given.to or (given.model is not None and yours.to is not None):
        found += _of_sizes(yours, given, name)
    if given.data:
        if yours.data is None:
            raise RecipeError(f"--data: the study '{name}' has data of its own{_takes(yours)}")
        found += _of_data(yours.data, given.data, name)
    return found


def command(slug: str, yours: Yours | None) -> str:
    """The command that runs a study on a user's own things; empty where it takes none."""
    words = [f"warmstart study {slug}"]
    if yours is not None and yours.model is not None:
        words.append("--model MODEL")
        words += ["--to width=WIDTH"] if yours.to is not None else []
    if yours is not None and yours.data is not None:
        words += ["--data DATA"] * yours.data.least
    return " ".join(words) if len(words) > 1 else ""


def _takes(yours: Yours) -> str:
    takes = [f"--{name}" for name in ("model", "to", "data") if getattr(yours, name) is not None]
    return f"; it takes {' and '.join(takes)}" if takes else ""


def _of_model(yours: YourModel, study: Mapping[str, Any], model: str) -> Iterator[Setting]:
    _check_folder(model)
    option = f"--model {model}"
    for paths, value in (
        (yours.weights, model),
        (yours.shape, {"like": model}),
        (yours.tokenizer, {"load": model}),
    ):
        yield from (Setting(option, path, value, whole=True) for path in paths)
    if yours.without:
        chosen = study.get("compare", {}).get("arms") or list(study.get("arms", {}))
        yield Setting(option, "compare.arms", [arm for arm in chosen if arm not in yours.without])
    yield from (Setting(option, path, value) for path, value in yours.set.items())


def _check_folder(model: str) -> None:
    """A folder is told to be none before anything runs; what looks like a hub id is left to the hub."""
    folder = expanded(model)
    if is_folder(folder) and not is_file(folder / "config.json"):
        inside = sorted(path.parent for path in folder.glob("**/config.json"))
        hint = f"; there is one in {inside[0]}" if inside else ""
        raise ModelError(f"--model {model}: not a model folder, it has no config.json{hint}")
    if not is_folder(folder) and not HUB_ID.fullmatch(model) and ("/" in model or model.startswith((".", "~"))):
        raise ModelError(f"--model {model}: there is no such folder")


def _of_sizes(yours: Yours, given: Given, name: str) -> Iterator[Setting]:
    if yours.to is None:
        raise RecipeError(f"--to: the study '{name}' takes no sizes{_takes(yours)}")
    if given.model is None:
        raise RecipeError("--to: are sizes of a larger model like --model; give both")
    if not given.to:
        raise RecipeError(f"--model {given.model}: the study '{name}' needs a larger size too, e.g. --to width=512")
    option = "--to " + " ".join(f"{key}={value}" for key, value in given.to.items())
    grown = {"like": given.model, **grown_fields(given.model, given.to)}
    yield from (Setting(option, path, grown, whole=True) for path in yours.to.init)
    yield from (Setting(option, path, dict(given.to), whole=True) for path in yours.to.surgery)


def grown_fields(model: str, to: Mapping[str, int]) -> dict[str, Any]:
    """The fields of a model's configuration that growing to these sizes changes, e.g. `{"n_embd": 128, "n_head": 4}`.

    Raises:
        ModelError: there is no such model, or it cannot grow to these sizes.
    """
    from warmstart.models.axes import table_for
    from warmstart.models.build import configuration
    from warmstart.surgery.target import target_config

    config = configuration(model, {})
    table = table_for(config)
    old, new = config.to_dict(), target_config(config, table, to, "stack").to_dict()
    fields = table.fields
    names = (fields.width, fields.depth, fields.heads, fields.kv_heads, fields.mlp, *fields.per_layer)
    return {name: new[name] for name in names if name and new.get(name) != old.get(name)}


def _of_data(yours: YourData, data: Sequence[str | Mapping[str, Any]], name: str) -> Iterator[Setting]:
    if len(data) < yours.least:
        raise RecipeError(f"--data: the study '{name}' needs at least {yours.least} sources, found {len(data)}")
    sources = [source(one, yours.columns) for one in data]
    if len(sources) > 1:
        sources = _labelled(sources)
    value = sources[0] if len(sources) == 1 else sources
    option = "--data " + " ".join(str(one) for one in data)
    yield from (Setting(option, path, value, whole=True) for path in yours.sources)
    yield from (Setting(option, path, value) for path, value in yours.set.items())


def written(text: str) -> str | dict[str, Any]:
    """What the text of a `--data` option says: a path or hub id, or in braces a source as in a recipe.

    Raises:
        RecipeError: the braces do not hold YAML.
    """
    if not text.lstrip().startswith("{"):
        return text
    found = read_text(text, f"--data {text}").values
    return dict(found) if isinstance(found, Mapping) else text


def source(data: str | Mapping[str, Any], columns: Sequence[str] = ()) -> dict[str, Any]:
    """The source of rows that `--data` means: files or a glob, a data set's folder or hub id, or a source as it is.

    Args:
        columns: columns that the study reads beside the text.
    """
    if isinstance(data, Mapping):
        return dict(data)
    path = expanded(data)
    rows_file = is_file(path) or any(sign in data for sign in "*?[") or path.suffix.lower() in FILE_ENDINGS
    kind = "hugging-face" if not rows_file and (is_folder(path) or HUB_ID.fullmatch(data)) else "files"
    return {"type": kind, "path": data} | ({"columns": list(columns)} if columns else {})


def _labelled(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sources with names that differ, from their paths."""
    result: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number, one in enumerate(sources):
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(str(one.get("path", ""))).name.split(".")[0]).strip("-")
        label = str(one.get("label") or stem or one.get("type", "data"))
        if label in taken:
            label = f"{label}-{number}"
        taken.add(label)
        result.append({**one, "label": label})
    return result
