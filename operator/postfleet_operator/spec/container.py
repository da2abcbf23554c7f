"""What a worker's container gets, as in any pod: environment variables, CPU and memory. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.model import Model

ENV_ONE_SOURCE = "give value or valueFrom, not both"
VALUE_FROM_ONE = "give exactly one of secretKeyRef, configMapKeyRef and fieldRef"
ENV_FROM_ONE = "give exactly one of secretRef and configMapRef"

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
QUANTITY_LENGTH = 64


def _quantity(value: object) -> object:
    text = str(value)
    if isinstance(value, bool | float) or len(text) > QUANTITY_LENGTH or not re.fullmatch(names.QUANTITY, text):
        raise ValueError(f"{value!r} is {names.WORDING[names.QUANTITY]}")
    return value


Quantity = Annotated[
    int | str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": names.QUANTITY,
            "maxLength": QUANTITY_LENGTH,
        }
    ),
]


class KeyRef(Model):
    """One key of a Secret or ConfigMap."""

    name: ObjectName
    key: ObjectName
    optional: bool = False


class FieldRef(Model):
    """A field of the pod, such as `metadata.name`."""

    field_path: Annotated[str, StringConstraints(min_length=1, max_length=253)]


class ValueFrom(Model):
    """Where the value of an environment variable comes from."""

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(source is not None for source in (self.secret_key_ref, self.config_map_key_ref, self.field_ref)) != 1:
            raise ValueError(VALUE_FROM_ONE)
        return self


class EnvVar(Model):
    """One environment variable of the worker's container."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.ENV)]
    value: Annotated[str, StringConstraints(max_length=32768)] | None = None
    value_from: ValueFrom | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError(ENV_ONE_SOURCE)
        return self


class SourceRef(Model):
    """A Secret or ConfigMap whose keys all become environment variables."""

    name: ObjectName
    optional: bool = False


class EnvFrom(Model):
    """Environment variables taken from a whole Secret or ConfigMap."""

    prefix: Annotated[str, StringConstraints(max_length=253)] = ""
    secret_ref: SourceRef | None = None
    config_map_ref: SourceRef | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.secret_ref is None) == (self.config_map_ref is None):
            raise ValueError(ENV_FROM_ONE)
        return self


class Resources(Model):
    """CPU and memory of one worker, as in any pod."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
