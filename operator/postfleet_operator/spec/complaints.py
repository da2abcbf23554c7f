"""Turns pydantic's errors into one line each: which field, which value, what to do. Pure.

spec.worker.threads: 500 is out of range, give 1 to 256
spec.worker.thread: unknown field, did you mean threads?
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from postfleet_operator.spec.names import WORDING

KINDS = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text (quote it)",
    "tuple": "a list",
    "dict": "a mapping",
}


class PlacedError(ValueError):
    """Problems that a rule over several fields found, each at its own place below the model that has the rule."""

    def __init__(self, *found: tuple[tuple[str | int, ...], str]) -> None:
        super().__init__("; ".join(message for _, message in found))
        self.found = found


def complain(model: type[BaseModel], error: ValidationError, root: str = "spec") -> list[str]:
    """One line per problem in `error`, which came from validating `model`."""
    details = error.errors(include_url=False)
    # A list with a bad entry is also reported as too short: the cause is enough.
    inner = {detail["loc"][:-1] for detail in details if detail["loc"]}
    lines = (
        f"{path(root, loc)}: {remedy}"
        for detail in details
        if not (detail["type"] == "too_short" and detail["loc"] in inner)
        for loc, remedy in _told(model, detail)
    )
    return list(dict.fromkeys(lines))


def path(root: str, loc: Sequence[str | int]) -> str:
    """`('worker', 'env', 0, 'name')` as `spec.worker.env[0].name`."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def _told(model: type[BaseModel], detail: ErrorDetails) -> Iterator[tuple[Sequence[str | int], str]]:
    """Place and wording of what one error says."""
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, PlacedError):
        yield from (((*detail["loc"], *place), message) for place, message in error.found)
    else:
        yield detail["loc"], _remedy(model, detail)


def _remedy(model: type[BaseModel], detail: ErrorDetails) -> str:  # one branch per kind of problem
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return _unknown(model, detail["loc"])
        case "missing":
            return "is missing, give it a value"
        case "greater_than_equal" | "less_than_equal":
            return f"{value} is out of range, give {_bounds(_field(model, detail['loc']), context)}"
        case "enum" | "literal_error":
            return f"{value!r} is not one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}"
        case "string_pattern_mismatch":
            return f"{value!r} is {WORDING.get(context['pattern'], 'not spelled as ' + context['pattern'])}"
        case "too_short" | "too_long" | "string_too_short" | "string_too_long":
            return _length(kind, value, context)
        case "value_error":
            return str(context["error"])
        case "int_from_float":
            return f"{value} must be a whole number"
        case _ if kind.endswith("_type"):
            wanted = kind.removesuffix("_type")
            return f"must be {KINDS.get(wanted, 'a mapping of fields')}, not {_shown(value)}"
        case _:
            return f"{_shown(value)}: {detail['msg']}"


def _shown(value: Any) -> str:
    match value:
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case bool():
            return str(value).lower()
        case _:
            return repr(value)


def _length(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    unit = "characters" if kind.startswith("string") else "entries"
    if kind.endswith("short"):
        return "is empty, give it a value" if unit == "characters" else "is empty, give at least 1 entry"
    return f"has {context.get('actual_length', len(value))} {unit}, at most {context['max_length']} are allowed"


def _unknown(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    name = str(loc[-1])
    parent = _model_at(model, loc[:-1])
    if remedy := getattr(parent, "elsewhere", {}).get(name):
        return f"unknown field, {remedy}"
    known = [field.alias or key for key, field in parent.model_fields.items()] if parent else []
    lowered = {field.lower(): field for field in known}
    close = difflib.get_close_matches(name.replace("_", "").lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"unknown field, did you mean {lowered[close[0]]}?"
    return f"unknown field; known here are {', '.join(known)}"


def _bounds(field: FieldInfo | None, context: Mapping[str, Any]) -> str:
    facts = {
        name: getattr(fact, name)
        for fact in (field.metadata if field else [])
        for name in ("ge", "le")
        if hasattr(fact, name)
    }
    facts = facts or dict(context)
    match facts.get("ge"), facts.get("le"):
        case low, None:
            return f"at least {low}"
        case None, high:
            return f"at most {high}"
        case low, high:
            return f"{low} to {high}"


def _field(model: type[BaseModel], loc: Sequence[str | int]) -> FieldInfo | None:
    names = [part for part in loc if isinstance(part, str)]
    parent = _model_at(model, names[:-1])
    return _by_alias(parent, names[-1]) if parent else None


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = _by_alias(current, part) if current else None
        current = next(_models_in(field.annotation), None) if field else None
    return current


def _by_alias(model: type[BaseModel], alias: str) -> FieldInfo | None:
    return next((field for key, field in model.model_fields.items() if alias in {field.alias, key}), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, UnionType, Annotated, tuple, dict}:
        for argument in get_args(annotation):
            yield from _models_in(argument)
