"""Writes settings.md, cli.md and resources.md from the code and the CRDs, so that they cannot lie.

Run it with `python docs/generate.py`.

`tests/contract/test_docs.py` holds that the files are what this program would write.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic_settings import BaseSettings

import postfleet_local.cli
import postfleet_operator.cli
import postfleet_operator.definitions
import postfleet_operator.settings
import postfleet_workers.cli
import postfleet_workers.settings

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code: change that, not this. -->"

SETTINGS: tuple[tuple[str, str, type[BaseSettings]], ...] = (
    (
        "Workers",
        "Read by every `postfleet` command: `worker`, `relay`, `migrate` and those for people.",
        postfleet_workers.settings.Settings,
    ),
    (
        "Operator",
        "What the operator needs to reach the stores and to render Deployments.",
        postfleet_operator.settings.Settings,
    ),
)
PROGRAMS: tuple[tuple[str, click.Command], ...] = (
    ("postfleet", postfleet_workers.cli.cli),
    ("postfleet-operator", postfleet_operator.cli.cli),
    ("kubectl-jobpool", postfleet_operator.cli.plugin),
    ("postfleet-local", postfleet_local.cli.cli),
)

SETTINGS_HEAD = """\
# Settings

Settings are environment variables that begin with `POSTFLEET_`. A command reads them once, when it starts; a value that
cannot work is named in one line, and the command ends with exit code 2. Times are seconds.

- In a cluster, `spec.worker.env` and `spec.worker.envFrom` of a JobPool set them for its workers. The two URLs come
  from the Secret that `POSTFLEET_CONNECTIONS_SECRET` names, or each from a Secret of its own, which
  `POSTFLEET_DATABASE_SECRET` and `POSTFLEET_REDIS_SECRET` name.
- In the local fleet, `postfleet-local up` writes the two URLs to `DIR/env`. `postfleet-local` itself takes options
  only ([cli.md](cli.md)) and passes none of its own `POSTFLEET_` variables on.
- Give relay and workers of one installation the same settings: the relay judges leases by them, and settles what a dead
  worker left behind as that worker would have.
"""
CLI_HEAD = """\
# Commands

[`postfleet`](#postfleet) does and shows the work, [`postfleet-operator`](#postfleet-operator) is about the resources,
[`postfleet-local`](#postfleet-local) runs a whole fleet on this machine. [`kubectl-jobpool`](#kubectl-jobpool) is what
`kubectl jobpool` runs, once it is on your `PATH`.

Results go to stdout, everything else to stderr. Commands that show something take `--output table` (the default) or
`--output json`; the JSON is one line. An error is one line, and the exit code says what kind it is:

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed: a server that does not answer, a job that could not be moved, a demo that lost a mail |
| 2 | bad input: an option, a file, a manifest, a setting |
| 130 | interrupted |
"""
RESOURCES_HEAD = """\
# Resources

Two kinds, group `postfleet.io`, version `v1alpha1`, namespaced: [JobPool](#jobpool), short `jp`, and
[SendingNode](#sendingnode), short `sn`. `kubectl explain jobpool.spec.autoscaling` shows the same in a terminal.

- `postfleet-operator crds | kubectl apply --server-side -f -` installs them, `postfleet-operator check -f FILE` checks
  manifests without a cluster and tells every problem with its line.
- The API server fills in the defaults and refuses what breaks a rule, with the sentence that stands here.
- `[]` after a name is an entry of a list, `.*` a value of a mapping. A field without a default may be left out unless
  it is required.
"""


def pages() -> dict[str, str]:
    """The generated files by name."""
    return {"settings.md": settings_page(), "cli.md": cli_page(), "resources.md": resources_page()}


def resources_page() -> str:
    """Every field of every resource, and every rule."""
    parts = [NOTE, "", RESOURCES_HEAD]
    for crd in yaml.safe_load_all(postfleet_operator.definitions.text()):
        [version] = crd["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        parts += [f"## {crd['spec']['names']['kind']}", "", _sentence(schema), "", *_rules(schema, "")]
        for name in ("spec", "status"):
            for title, node in _sections(name, schema["properties"][name]):
                parts += [f"### {title}", "", _sentence(node), "", *_rules(node, title)]
                parts += ["| field | value | default | meaning |", "|---|---|---|---|"]
                parts += [_row(*cells) for cells in _fields(node, title)]
                parts.append("")
    return "\n".join(parts)


Schema = dict[str, Any]


def _sections(path: str, node: Schema) -> Iterator[tuple[str, Schema]]:
    """A resource's part and, as sections of their own, the parts of its spec that have fields."""
    yield path, node
    if path == "spec":
        for name, child in node["properties"].items():
            if "properties" in child:
                yield f"{path}.{name}", child


def _fields(node: Schema, title: str) -> Iterator[Sequence[str]]:
    """The rows of a section; what is a section of its own gets a link."""
    for name, child in node["properties"].items():
        path = f"{title}.{name}"
        if title == "spec" and "properties" in child:
            yield f"[`{path}`](#{path.replace('.', '').lower()})", "fields", _given(node, name, child), _sentence(child)
        else:
            yield from _rows(node, name, child, path)


def _rows(parent: Schema, name: str, node: Schema, path: str) -> Iterator[Sequence[str]]:
    yield f"`{path}`", _bounded(node), _given(parent, name, node), " ".join([_sentence(node), *_messages(node)])
    inner = node
    while "items" in inner or "additionalProperties" in inner:
        path += "[]" if "items" in inner else ".*"
        inner = inner.get("items") or inner["additionalProperties"]
        if "properties" not in inner:
            yield f"`{path}`", _bounded(inner), "", " ".join([_sentence(inner), *_messages(inner)])
    for field, child in inner.get("properties", {}).items():
        yield from _rows(inner, field, child, f"{path}.{field}")


def _sentence(node: Schema) -> str:
    return str(node["description"])


def _messages(node: Schema) -> Iterator[str]:
    """The rules of a field and of the entries of its list."""
    for rule in (*node.get("x-kubernetes-validations", ()), *node.get("items", {}).get("x-kubernetes-validations", ())):
        yield f"Rule: {rule['message']}."


def _rules(node: Schema, title: str) -> Iterator[str]:
    """The rules of a section, as a list."""
    rules = node.get("x-kubernetes-validations", ())
    for rule in rules:
        place = f"`{title}{rule['fieldPath']}`: " if title and "fieldPath" in rule else ""
        yield f"- Rule: {place}{rule['message']}."
    if rules:
        yield ""


def _given(parent: Schema, name: str, node: Schema) -> str:
    if name in parent.get("required", ()):
        return "required"
    if "default" not in node or node["default"] in ({}, []) or "properties" in node:
        return ""
    return f"`{json.dumps(node['default'])}`".replace('"', "") if node["default"] != "" else "empty"


def _bounded(node: Schema) -> str:
    """What may be given, from a field's structural schema."""
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    match node["type"]:
        case "array":
            least = f"{node['minItems']} to " if "minItems" in node else "up to "
            return f"list, {least}{node['maxItems']:,}" if "maxItems" in node else "list"
        case "object":
            return f"mapping, up to {node['maxProperties']}" if "maxProperties" in node else "fields"
        case "integer" if "minimum" in node and "maximum" in node:
            return f"{node['minimum']:,} to {node['maximum']:,}"
        case "integer" | "number":
            return "whole number" if node["type"] == "integer" else "number"
        case "boolean":
            return "true or false"
        case _ if node.get("format") == "date-time":
            return "time"
        case _:
            return f"text, up to {node['maxLength']:,}" if "maxLength" in node else "text"


def settings_page() -> str:
    """Every setting of every deployable."""
    parts = [NOTE, "", SETTINGS_HEAD]
    for title, intro, model in SETTINGS:
        parts += [f"## {title}", "", intro, "", "| variable | value | default | meaning |", "|---|---|---|---|"]
        parts += [_row(*cells) for cells in _settings(model)]
        parts.append("")
    return "\n".join(parts)


def cli_page() -> str:
    """Every command and option."""
    parts = [NOTE, "", CLI_HEAD]
    for name, command in PROGRAMS:
        for path, inner in _walk(name, command):
            level = "##" if path == name else "###"
            parts += [f"{level} {path}", "", _help(inner), ""]
            if isinstance(inner, click.Group):
                continue
            parts += ["```", _usage(path, inner), "```", ""]
            if options := [p for p in inner.params if isinstance(p, click.Option)]:
                parts += ["| option | meaning |", "|---|---|", *(_row(*_option(option)) for option in options), ""]
    return "\n".join(parts)


def _settings(model: type[BaseSettings]) -> Iterator[Sequence[str]]:
    properties = model.model_json_schema()["properties"]
    prefix = model.model_config["env_prefix"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(field.default)
        yield f"`{prefix}{name.upper()}`", _value(properties[name]), default, field.description or ""


def _default(value: Any) -> str:
    if value is None or value == "":
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _value(schema: dict[str, Any]) -> str:
    """What may be given, from a field's JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_value(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "pattern" in schema and (choices := re.fullmatch(r"\^\(([\w|]+)\)\$", schema["pattern"])):
        return " or ".join(f"`{choice}`" for choice in choices[1].split("|"))
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    word = words[schema["type"]]
    word = "path" if schema.get("format") == "path" else word
    signs = {"exclusiveMinimum": "> ", "minimum": "≥ ", "exclusiveMaximum": "< ", "maximum": "≤ "}
    bounds = [f"{sign}{schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([word, " and ".join(bounds)]).strip()


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _walk(f"{path} {name}", inner)


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _usage(path: str, command: click.Command) -> str:
    options = [p for p in command.params if isinstance(p, click.Option)]
    needed = [f"{option.opts[-1]} {_placeholder(option)}" for option in options if option.required]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    named = [f"{_placeholder(p).removesuffix('...')}…" if p.nargs < 0 else _placeholder(p) for p in arguments]
    optional = ["[options]"] if len(needed) < len(options) else []
    return " ".join([path, *named, *needed, *optional])


def _option(option: click.Option) -> tuple[str, str]:
    names = ", ".join(option.opts) + "".join(f" / {name}" for name in option.secondary_opts)
    meaning = [option.help or ""]
    kind = option.type
    if isinstance(kind, click.Choice):
        meaning.append(f"One of {', '.join(f'`{choice}`' for choice in kind.choices)}.")
    if isinstance(kind, click.IntRange | click.FloatRange):
        most = "" if kind.max is None else f" to {kind.max:,}"
        meaning.append(f"{kind.min:,}{most}." if most else f"At least {kind.min}.")
    if option.required:
        meaning.append("Required.")
    if option.show_default:
        meaning.append(f"Default: `{option.default}`.")
    return f"`{names}`" if option.is_flag else f"`{names} {_placeholder(option)}`", " ".join(meaning)


def _placeholder(parameter: click.Parameter) -> str:
    if parameter.metavar:
        return parameter.metavar
    match parameter.type:
        case click.IntRange() | click.FloatRange() if isinstance(parameter, click.Option):
            return "N"
        case click.Path(file_okay=False):
            return "DIR"
        case click.Path():
            return "FILE"
        case click.ParamType(name=name) if "|" in name:
            return name
        case _:
            return parameter.opts[-1].removeprefix("--").replace("-", "_").upper()


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Text for a table's cell: one line, bars escaped, and angle brackets too where they are not code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
