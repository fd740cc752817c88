"""What is written once and meant for many stages, and what is put on top: `shared`, scales, `--set`.

All of it works on plain mappings, before they are checked.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
)


def filled_in(raw: Any) -> Any:
    """The raw mapping of a recipe or study with what its stages inherit written under each of them: what the study
    shares, the training of the stage before where it is carried on, a stage's own data under its further held-out
    sets."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("shared", {}), Mapping):
        return raw
    result = dict(raw)
    if "stages" in raw:
        result["stages"] = _filled_stages(raw["stages"], {})
    for group in ("sources", "arms"):
        if isinstance(raw.get(group), Mapping):
            result[group] = {n: _filled_stages(stages, raw.get("shared", {})) for n, stages in raw[group].items()}
    return result


def _filled_stages(stages: Any, shared: Mapping[str, Any]) -> Any:
    if not isinstance(stages, list):
        return stages
    filled: list[Any] = []
    for stage in stages:
        if isinstance(stage, Mapping):
            before = filled[-1] if filled else None
            under = shared
            if stage.get("carry_on") is True and isinstance(before, Mapping):
                under = merge(shared, {key: before[key] for key in ("train", "objective") if key in before})
            stage = with_own_data(merge(under, stage))
        filled.append(stage)
    return filled


def with_own_data(stage: Any) -> Any:
    """A stage's raw mapping with its `data` merged under every set of `evaluate.also`."""
    if not isinstance(stage, Mapping):
        return stage
    data, evaluate = stage.get("data"), stage.get("evaluate")
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json", by_alias=True)
    if (
        not isinstance(data, Mapping)
        or not isinstance(evaluate, Mapping)
        or not isinstance(evaluate.get("also"), Mapping)
    ):
        return stage
    filled = {
        name: merge(data, given) if isinstance(given, Mapping) else given for name, given in evaluate["also"].items()
    }
    return {**stage, "evaluate": {**evaluate, "also": filled}}


# Keys of which a mapping has only one: the one on top removes the others below it.
ALTERNATIVES = (
    frozenset({"init", "from"}),
    frozenset({"steps", "tokens", "flops", "seconds", "share"}),
    frozenset({"train", "characters", "load"}),
)


def merge(base: Any, over: Any) -> Any:
    """`over` on top of `base`: mappings are merged key by key, everything else is replaced.

    A mapping that names another part or model (`type` or `like` differs) replaces the old one whole; one of
    several alternatives (`init` and `from`, the units of a budget) removes the others. Settings on top of a
    part's bare name are settings of that part.
    """
    if isinstance(base, str) and isinstance(over, Mapping) and "type" not in over:
        base = {"type": base}
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return copy.deepcopy(over)
    if any(key in over and over[key] != base.get(key) for key in ("type", "like")):
        return copy.deepcopy(dict(over))
    dropped: set[Any] = set()
    for group in ALTERNATIVES:
        if group & set(over):
            dropped |= group - set(over)
    merged = {key: copy.deepcopy(value) for key, value in base.items() if key not in dropped}
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if key in merged else copy.deepcopy(value)
    return merged


def override(raw: Any, path: str, value: Any) -> Any:
    """A copy of `raw` with another value at a dotted path (mappings are merged); `*` stands for every key.

    Raises:
        KeyError: the path goes through something that is not there, or is neither a mapping nor a list; its
            argument is the part of the path that was reached.
    """
    return _overridden(raw, path.split("."), "", value)


def _overridden(node: Any, steps: list[str], done: str, value: Any) -> Any:
    if not steps:
        return merge(node, value)
    if isinstance(node, str):
        node = {"type": node}  # a part's bare name, about to get settings
    result = {} if node is None else copy.copy(node)
    for key in _keys(result, steps[0], f"{done}{steps[0]}"):
        old = result[key] if isinstance(result, list) else result.get(key)
        new = _overridden(old, steps[1:], f"{done}{steps[0]}.", value)
        if isinstance(result, list):
            result[key] = new
        else:
            for group in ALTERNATIVES:
                if key in group:
                    result = {k: v for k, v in result.items() if k not in group or k == key}
            result[key] = new
    return result


def position(step: str) -> int | None:
    """The position in a list that a step of a dotted path means; None where it is no number."""
    return int(step) if re.fullmatch(r"-?[0-9]{1,9}", step) else None


def _keys(node: Any, step: str, where: str) -> list[Any]:
    if isinstance(node, dict):
        return list(node) if step == "*" else [step]
    if isinstance(node, list):
        if step == "*":
            return list(range(len(node)))
        number = position(step)
        if number is not None and -len(node) <= number < len(node):
            return [number]
    raise KeyError(where)


def at_scale(raw: Mapping[str, Any], scale: str) -> dict[str, Any]:
    """A study's raw mapping with the overrides of one of its scales applied.

    Raises:
        KeyError: the study has no such scale.
    """
    result: Any = {key: value for key, value in raw.items() if key != "scales"}
    for path, value in raw.get("scales", {})[scale].items():
        result = override(result, path, value)
    result["scales"] = copy.deepcopy(raw.get("scales", {}))
    return dict(result)
