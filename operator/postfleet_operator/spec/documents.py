"""The YAML documents of a text, read as Kubernetes reads them, each with the lines it and its fields are on. Pure.

Places are written as compilers write them: `pool.yaml:13` for what is on line 13, `pool.yaml:24:3` for what is wrong
with the YAML itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value, and the node it was made of, which knows the lines."""

    file: str
    value: Any
    node: yaml.Node

    @property
    def place(self) -> str:
        """`FILE:LINE` of the document's first line that is no comment."""
        return f"{self.file}:{_line(self.node)}"

    def place_of(self, problem: str) -> str:
        """`FILE:LINE` of the field that `problem` names: `JobPool email: spec.worker.threads: …` or `kind: …`.

        A field that is not there is on the line of the field that should hold it, and otherwise on the document's.
        """
        for part in reversed(problem.split(": ")[:2]):
            if (line := _line_within(self.node, part)) is not None:
                return f"{self.file}:{line}"
        return self.place


def parse(file: str, text: str) -> tuple[list[Document], str | None]:
    """The documents of `text` up to the first mistake in the YAML, and that mistake as one line with its place."""
    documents: list[Document] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            if (node := loader.get_node()) is not None:
                documents.append(Document(file, loader.construct_document(node), node))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        return documents, f"{file}:{line}:{column}: {text[error.position]!r} is not allowed in YAML"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        return documents, f"{place}: {error.problem or error.context}"
    return documents, None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _line_within(node: yaml.Node, path: str) -> int | None:
    """The line of the deepest field on `path` (`spec.worker.env[0].name`, prose may follow); None if there is none."""
    line = None
    while step := _step(node, path):
        line, node, path = step
    return line


def _step(node: yaml.Node, path: str) -> tuple[int, yaml.Node, str] | None:
    """The first field of `path`: its line, its node, and what of the path is left."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            if path == name or path.startswith((f"{name}.", f"{name}[", f"{name} ")):
                return _line(key), value, path[len(name) :].removeprefix(".")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            if path.startswith(f"[{index}]"):
                return _line(item), item, path[len(f"[{index}]") :].removeprefix(".")
    return None


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: no dates, y and n are true and false, 1e3 is a number, and no key is given twice."""

    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile("[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)
