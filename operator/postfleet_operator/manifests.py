"""Reads manifests from files and folders: what `kubectl apply -f` takes, for `check` and the local fleet.

JobPool, SendingNode and Secret (core v1, the part that matters here); a file may hold several documents. A folder may
hold other YAML too (the quickstart has its `campaign.yaml`): a file in which no document has apiVersion or kind is
skipped there. A file that is named itself must be a manifest, and a folder must hold one. Every problem is told with
its file and line, `pool.yaml:13: JobPool email: spec.queues: …`; all of them, not only the first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.spec import JobPool, SendingNode, parse_node, parse_pool
from postfleet_operator.spec.documents import Document, parse
from postfleet_operator.spec.model import misread

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret's decoded content."""

    name: str
    namespace: str
    data: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Secret({self.namespace}/{self.name}, keys={sorted(self.data)})"


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read, each kind in the order of the files. `skipped` has a line for each file that holds no manifest."""

    pools: tuple[JobPool, ...] = ()
    nodes: tuple[SendingNode, ...] = ()
    secrets: tuple[Secret, ...] = ()
    skipped: tuple[str, ...] = ()
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)

    def place(self, resource: JobPool | SendingNode, path: str) -> str:
        """`FILE:LINE` of a resource's field, such as `spec.queues[0]`."""
        title = _title(resource)
        return self.documents[_key(resource)].place_of(f"{title}: {path}: ")

    def secret(self, namespace: str, name: str) -> Secret | None:
        """The Secret of that name, if it was given."""
        return next((s for s in self.secrets if (s.namespace, s.name) == (namespace, name)), None)


def load(paths: Sequence[Path]) -> Manifests:
    """Read files, and folders (their `*.yaml`, `*.yml` and `*.json`, not deeper).

    Raises:
        InvalidManifest: with one line per problem, over all files.
    """
    problems: list[str] = []
    skipped: list[str] = []
    found: list[JobPool | SendingNode | Secret] = []
    places: dict[str, Document] = {}
    for document in _documents(paths, problems, skipped):
        try:
            value = _read(document.value)
        except InvalidManifest as error:
            problems += [f"{document.place_of(line)}: {line}" for line in error.problems]
            continue
        key = _key(value)
        if key in places:
            problems.append(f"{document.place}: {_title(value)} was already given in {places[key].place}")
            continue
        places[key] = document
        found.append(value)
    if problems:
        raise InvalidManifest(problems)
    return Manifests(
        pools=tuple(value for value in found if isinstance(value, JobPool)),
        nodes=tuple(value for value in found if isinstance(value, SendingNode)),
        secrets=tuple(value for value in found if isinstance(value, Secret)),
        skipped=tuple(skipped),
        documents=places,
    )


def _documents(paths: Sequence[Path], problems: list[str], skipped: list[str]) -> Iterator[Document]:
    for path in paths:
        known = len(problems)
        files = _inside(path) if path.is_dir() else [path]
        given = [document for file in files for document in _documents_of(file, file is path, problems, skipped)]
        if not given and len(problems) == known:
            what = "manifest" if files else ".yaml, .yml or .json file"
            problems.append(f"{path}: holds no {what}")
        yield from given


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())


def _documents_of(file: Path, named: bool, problems: list[str], skipped: list[str]) -> list[Document]:
    """What a file holds; nothing if it is of another kind and was not `named` itself."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
        return []
    except UnicodeDecodeError as error:
        problems.append(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8")
        return []
    documents, mistake = parse(str(file), text)
    given = [document for document in documents if document.value is not None]
    if given and not (named or mistake or any(_claims_to_be_one(document.value) for document in given)):
        skipped.append(f"skipped {file}: no apiVersion and kind")
        return []
    if mistake:
        problems.append(mistake)
    return given


def _claims_to_be_one(value: Any) -> bool:
    return isinstance(value, Mapping) and ("apiVersion" in value or "kind" in value)


def _read(document: Any) -> JobPool | SendingNode | Secret:
    if not isinstance(document, Mapping):
        raise InvalidManifest(
            [f"a manifest is a mapping with apiVersion, kind, metadata and spec, not {document!r:.60}"]
        )
    match document.get("kind"):
        case "JobPool":
            return parse_pool(document)
        case "SendingNode":
            return parse_node(document)
        case "Secret":
            return parse_secret(document)
        case None:
            raise InvalidManifest(["kind: is missing, give JobPool, SendingNode or Secret"])
        case kind:
            raise InvalidManifest([f"kind: {kind!r} is not known here, give JobPool, SendingNode or Secret"])


def parse_secret(manifest: Mapping[str, Any]) -> Secret:
    """Read a core/v1 Secret: `data` (base64) and `stringData`, which wins. Values never show in an error.

    Raises:
        InvalidManifest: with one line per problem.
    """
    raw = manifest.get("metadata")
    metadata = raw if isinstance(raw, Mapping) else {}
    name = metadata.get("name")
    title = f"Secret {name}" if name and isinstance(name, str) else "Secret"
    problems = []
    if manifest.get("apiVersion") != "v1":
        problems.append(f"{title}: apiVersion: {manifest.get('apiVersion')!r} is not known, give v1")
    problems += [f"{title}: {line}" for line in misread(metadata)]
    content: dict[str, str] = {}
    for part, decode in (("data", _decoded), ("stringData", str)):
        values = manifest.get(part) or {}
        if not isinstance(values, Mapping):
            problems.append(f"{title}: {part}: must be a mapping of keys to text")
            continue
        for key, value in values.items():
            if not isinstance(value, str):
                problems.append(f"{title}: {part}.{key}: must be text (quote it)")
                continue
            try:
                content[str(key)] = decode(value)
            except ValueError:
                problems.append(f"{title}: {part}.{key}: is not base64 of UTF-8 text; plain text goes into stringData")
    known = {"apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"}
    problems += [f"{title}: {key}: unknown field, give data or stringData" for key in manifest if key not in known]
    if problems:
        raise InvalidManifest(problems)
    return Secret(str(name), metadata.get("namespace") or "default", content)


def _decoded(value: str) -> str:
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode()
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _key(value: JobPool | SendingNode | Secret) -> str:
    """What tells two resources apart: `JobPool default/email`."""
    namespace = value.namespace if isinstance(value, Secret) else value.metadata.namespace
    return f"{type(value).__name__} {namespace}/{value.name}"


def _title(value: JobPool | SendingNode | Secret) -> str:
    return f"{type(value).__name__} {value.name}"
