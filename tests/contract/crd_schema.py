"""The CRDs as they are in `crds/`, and ways through their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CRDS = {
    "JobPool": yaml.safe_load((ROOT / "crds/jobpools.yaml").read_text()),
    "SendingNode": yaml.safe_load((ROOT / "crds/sendingnodes.yaml").read_text()),
}
KINDS = sorted(CRDS)


def schema(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield from walk(node[key], path + mark)
