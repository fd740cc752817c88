"""Fields that name a model: a folder, a hub id, or (in a study) one of its sources.

A part or a form says so in the field's type, and needs nothing else::

    teacher: ModelName = Field(description="...")
    rewards: list[ModelName] = Field(default_factory=list)

A study then makes the source before whatever names it and puts the source's folder in the place of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

OWN = "stage"
"""The name by which a stage's own model is called where several models are listed; no source may have it."""


@dataclass(frozen=True)
class _NamesAModel:
    """What marks a type."""


ModelName = Annotated[str, _NamesAModel()]

Model = TypeVar("Model", bound=BaseModel)


def named_models(form: BaseModel) -> list[str]:
    """Every model that a form or a part names, at any depth, once each, in order; not the stage's own."""
    found: dict[str, None] = {}

    def note(name: str) -> str:
        found[name] = None
        return name

    _renamed(form, note)
    return [name for name in found if name != OWN]


def located(form: Model, models: Mapping[str, str]) -> Model:
    """The form with folders in the place of the names that `models` has; names that it has not stay."""
    return _renamed(form, lambda name: models.get(name, name))


def _renamed(form: Model, rename: Callable[[str], str]) -> Model:
    changes = {}
    for name, field in type(form).model_fields.items():
        value = getattr(form, name)
        new = _mapped(value, rename, _is_name(field))
        if new is not value:
            changes[name] = new
    return form.model_copy(update=changes) if changes else form


def _mapped(value: Any, rename: Callable[[str], str], is_name: bool) -> Any:
    """The value with its names changed; the value itself where nothing changed."""
    if isinstance(value, str):
        new = rename(value) if is_name else value
        return value if new == value else new
    if isinstance(value, BaseModel):
        return _renamed(value, rename)
    if isinstance(value, list | tuple):
        items = [_mapped(item, rename, is_name) for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        entries = {key: _mapped(item, rename, is_name) for key, item in value.items()}
        return entries if any(entries[key] is not value[key] for key in value) else value
    return value


def _is_name(field: FieldInfo) -> bool:
    return any(isinstance(mark, _NamesAModel) for mark in field.metadata) or _marked(field.annotation)


def _marked(annotation: Any) -> bool:
    marks = getattr(annotation, "__metadata__", ())
    return any(isinstance(mark, _NamesAModel) for mark in marks) or any(map(_marked, get_args(annotation)))
