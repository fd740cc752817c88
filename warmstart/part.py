"""Parts: the small named things that recipes are made of, and how they are found by name.

A *part* is a frozen pydantic model. Its fields are its settings, its methods do the work. What changes while
a run goes on is a separate *state* that the part makes (`part.start(...)`) and that is saved and restored
with the run.

A *room* is a package whose parts share one contract (`objectives`, `surgery`, ...). The contract is a
subclass of
`Part` that names its room::

    class Objective(Part, room="objectives"): ...

and a part is a subclass of the contract whose `type` is a `Literal` with its name::

    class Causal(Objective):
        type: Literal["causal"] = "causal"

A pydantic field annotated with the contract (`objective: Objective`) then takes a part, its bare name
(`causal`), or a mapping (`{type: masked, rate: 0.3}`). Parts are found in the room's own package and in every
installed package that has an entry point in the group `warmstart.parts` (the entry point's value is a module
to import).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
from functools import cache
from typing import Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from warmstart.errors import RecipeError, nearest

ENTRY_POINT_GROUP = "warmstart.parts"

# Every room, by name; its contract registers itself. `ROOM_PACKAGES` is the list a newcomer may read.
ROOM_PACKAGES = {
    "surgery": "warmstart.surgery",
    "sources": "warmstart.data.sources",
    "curate": "warmstart.data.curate",
    "rewrite": "warmstart.data.rewrite",
    "mix": "warmstart.data.mix",
    "batch": "warmstart.data.batch",
    "objectives": "warmstart.objectives",
    "optimizers": "warmstart.train.optimizers",
    "schedules": "warmstart.train.schedules",
    "trainable": "warmstart.train.trainable",
    "penalties": "warmstart.train.penalties",
    "gradients": "warmstart.train.gradients",
    "decode": "warmstart.decode",
    "evaluate": "warmstart.evaluate",
    "forecast": "warmstart.forecast",
}
_contracts: dict[str, type[Part]] = {}
_parts: dict[str, dict[str, type[Part]]] = {}
_described: list[str] = []  # rooms whose JSON Schema is being written


class SettingsError(ValueError):
    """A part was found, but its settings are wrong. Keeps the class, so that messages can name its fields."""

    def __init__(self, part: type[Part], error: ValidationError) -> None:
        super().__init__(
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        )
        self.part = part
        self.error = error


def _is_contract(cls: type[Part]) -> bool:
    return _contracts.get(cls.room) is cls


class Part(BaseModel):
    """One small thing with a name and a few settings. See the module's docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    room: ClassVar[str] = ""

    def __init_subclass__(cls, room: str | None = None, **kwargs: Any) -> None:
        # Runs before pydantic builds the class's schema, which must know already whether this is a contract.
        super().__init_subclass__(**kwargs)
        if room is not None:
            cls.room = room
            _contracts[room] = cls
            _parts.setdefault(room, {})

    @classmethod
    def __pydantic_init_subclass__(cls, room: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        # Only a class that says its own `type` is a new part; one that inherits it is not found by name.
        if room is None and cls.room and "type" in inspect.get_annotations(cls):
            name = cls.model_fields["type"].default
            if isinstance(name, str):
                known = _parts[cls.room].get(name)
                same = known is not None and (known.__module__, known.__qualname__) == (
                    cls.__module__,
                    cls.__qualname__,
                )
                if known is not None and not same:
                    raise RecipeError(
                        f"two parts are named '{name}' in the room '{cls.room}': "
                        f"{known.__module__} and {cls.__module__}; rename one"
                    )
                _parts[cls.room][name] = cls

    @property
    def name(self) -> str:
        """The name by which recipes call this part."""
        return str(getattr(self, "type", type(self).__name__))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if not _is_contract(cls):
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls._from_user,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda part: part.model_dump(mode="json", by_alias=True)
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if not _is_contract(cls):
            return handler(schema)
        classes = parts(cls.room)
        names = {"enum": sorted(classes), "type": "string"}
        if cls.room in _described:  # a part that holds parts of its own room: they are described one level deep
            return {"anyOf": [names, {"type": "object", "required": ["type"], "properties": {"type": names}}]}
        _described.append(cls.room)
        try:
            shapes = [handler(part.__pydantic_core_schema__) for part in classes.values()]
        finally:
            _described.pop()
        for shape in shapes:
            body = handler.resolve_ref_schema(shape)
            body["required"] = ["type", *(name for name in body.get("required", []) if name != "type")]
        return {"anyOf": [names, *shapes]}

    @classmethod
    def _from_user(cls, value: Any) -> Self:
        """A part from what a recipe says: a part, a name, or a mapping with `type`."""
        if isinstance(value, cls):
            return value
        settings = {"type": value} if isinstance(value, str) else value
        if not isinstance(settings, dict):
            raise PydanticCustomError(
                "part_form",
                "must be the name of a part of the room '{room}' or a mapping with 'type'",
                {"room": cls.room},
            )
        classes = parts(cls.room)
        name = settings.get("type")
        if not isinstance(name, str) or name not in classes:
            message = (
                "unknown {room} part '{name}'{nearest}; known: {known}"
                if name is not None
                else ("a part of the {room} needs a 'type'; known: {known}")
            )
            raise PydanticCustomError(
                "part_unknown",
                cast(Any, message),
                {
                    "room": cls.room,
                    "name": str(name),
                    "nearest": nearest(str(name), classes),
                    "known": ", ".join(sorted(classes)),
                },
            )
        try:
            return cast(Self, classes[name].model_validate(settings))
        except ValidationError as error:
            raise SettingsError(classes[name], error) from error


def parts(room: str) -> dict[str, type[Part]]:
    """All parts of a room by name, built-in and from other installed packages.

    Raises:
        RecipeError: there is no such room, or an installed package's parts cannot be imported.
    """
    if room not in ROOM_PACKAGES:
        raise RecipeError(f"there is no room '{room}'{nearest(room, ROOM_PACKAGES)}; rooms: {', '.join(ROOM_PACKAGES)}")
    _import_room(room)
    _import_installed()
    return dict(sorted(_parts.get(room, {}).items()))


def find(room: str, name: str) -> type[Part]:
    """The part `name` of a room.

    Raises:
        RecipeError: no such part; the message lists what there is.
    """
    known = parts(room)
    if name not in known:
        raise RecipeError(f"unknown {room} part '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]


@cache
def _import_room(room: str) -> None:
    package = importlib.import_module(ROOM_PACKAGES[room])
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


@cache
def _import_installed() -> None:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    for room in ROOM_PACKAGES if found else ():  # ours first, so that a clash of names is blamed on the newcomer
        _import_room(room)
    for entry in found:
        package = entry.dist.name if entry.dist else "?"
        try:
            entry.load()
        except RecipeError as error:
            raise RecipeError(f"the installed package '{package}': {error}") from error
        except Exception as error:
            raise RecipeError(
                f"the installed package '{package}' offers parts by the entry point "
                f"'{entry.name} = {entry.value}', which cannot be imported: {type(error).__name__}: {error}"
            ) from error
