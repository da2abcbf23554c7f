"""The base of every spec and what all resources share: metadata, and the way from a manifest to a value.

Reading follows the API server: unknown fields are refused, nulls count as absent, nothing is coerced ("5" is no
number). It goes through JSON, because that is what the API speaks and what makes lists and enums read strictly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.spec.complaints import complain

GROUP = "postfleet.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NAME_LENGTH = 50
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
NAME_RULE = f"metadata.name must be at most {NAME_LENGTH} lower-case letters, digits or '-', not '-' at an end"


class Model(BaseModel):
    """Frozen, strict, camelCase outside and snake_case inside, no unknown fields.

    `elsewhere` says of fields that people look for here where that is given instead.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=False,
    )


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the operator uses of `metadata`. `uid`, `generation` and `deleting` are the API's; files have none.

    `deleting` is a resource whose deletion waits for something: `--cascade=foreground`, or a finalizer.
    """

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    created_at: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`, what tells two resources of a kind apart."""
        return f"{self.namespace}/{self.name}"


TModel = TypeVar("TModel", bound=Model)


def parse(kind: str, model: type[TModel], manifest: Mapping[str, Any]) -> tuple[Metadata, TModel]:
    """Read `manifest` as a resource of `kind` whose `spec` is a `model`.

    Raises:
        InvalidManifest: with one line per problem: `JobPool email: spec.queues: …`.
    """
    metadata, problems = _metadata(kind, manifest)
    title = f"{kind} {metadata.name}".rstrip()
    spec = manifest.get("spec")
    if spec is None:
        raise InvalidManifest([*problems, f"{title}: spec: is missing"])
    if not isinstance(spec, Mapping):
        raise InvalidManifest([*problems, f"{title}: spec: must be a mapping of fields, not {spec!r}"])
    try:
        text = json.dumps(without_nulls(spec), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidManifest([*problems, f"{title}: spec: holds a value that JSON does not know: {error}"]) from None
    try:
        value = model.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += [f"{title}: {line}" for line in complain(model, error)]
        raise InvalidManifest(problems) from None
    if problems:
        raise InvalidManifest(problems)
    return metadata, value


def without_nulls(value: Any) -> Any:
    """`value` without the keys that hold null: the API server prunes them before it fills in defaults."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def misread(metadata: Mapping[str, Any]) -> list[str]:
    """What is wrong with a name and a namespace however they are spelled: missing, or no text for YAML."""
    problems = []
    for key in ("name", "namespace"):
        value = metadata.get(key)
        if value is not None and not isinstance(value, str):
            shown = str(value).lower() if isinstance(value, bool) else f"{value!r:.60}"
            problems.append(f"metadata.{key}: YAML reads {shown} here, which is no text: quote it")
        elif not value and key == "name":
            problems.append("metadata.name: is missing, give the resource a name")
    return problems


def _metadata(kind: str, manifest: Mapping[str, Any]) -> tuple[Metadata, list[str]]:
    raw = manifest.get("metadata")
    raw = raw if isinstance(raw, Mapping) else {}
    name = raw.get("name")
    title = f"{kind} {name}" if isinstance(name, str) else kind
    problems = []
    if manifest.get("apiVersion") != API_VERSION:
        problems.append(f"{title}: apiVersion: {manifest.get('apiVersion')!r} is not known, give {API_VERSION}")
    if manifest.get("kind") != kind:
        problems.append(f"{title}: kind: {manifest.get('kind')!r} is not {kind}")
    problems += [
        f"{title}: {key}: unknown field; a resource has apiVersion, kind, metadata and spec"
        for key in manifest
        if key not in {"apiVersion", "kind", "metadata", "spec", "status"}
    ]
    problems += [f"{title}: {line}" for line in misread(raw)]
    if not isinstance(name, str) or not name:
        name = ""
    elif len(name) > NAME_LENGTH or not DNS_LABEL.fullmatch(name):
        problems.append(f"{title}: {NAME_RULE}")
    return (
        Metadata(
            name=name,
            namespace=str(raw.get("namespace") or "default"),
            uid=raw.get("uid") or "",
            generation=raw.get("generation") or 1,
            created_at=str(raw.get("creationTimestamp") or ""),
            labels=dict(raw.get("labels") or {}),
            annotations=dict(raw.get("annotations") or {}),
            deleting=bool(raw.get("deletionTimestamp")),
        ),
        problems,
    )
