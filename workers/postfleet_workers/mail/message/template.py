"""Tenants' templates: Liquid, compiled once per text, with limits, and checked when they are created.

Variables: `contact.<attribute>`, `contact.email`, `campaign.name`, `sender.domain`, `unsubscribe_url`, `message_id`.
An attribute that a contact does not have renders as nothing (`{{ contact.first_name | default: "there" }}`); one that
no contact can have is an error at creation. The HTML part escapes every value. No template can load another one, and
loops, output and variables are bounded, so that no tenant can stall a worker.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, ClassVar

from liquid import BoundTemplate, Environment
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode
from liquid.exceptions import FilterError, LiquidError
from liquid.filter import string_filter
from liquid.static_analysis import Variable
from liquid.stringify import to_liquid_string

from postfleet_workers.mail.errors import RenderFailed, TemplateInvalid

MAX_SOURCE = 500_000
MAX_OUTPUT_BYTES = 2_000_000
MAX_LOCALS_BYTES = 256_000
MAX_LOOP_ITERATIONS = 2_000

SCALARS = ("message_id", "unsubscribe_url")
FIELDS = {"campaign": ("name",), "sender": ("domain",)}
_TAG = re.compile(r"\{%-?\s*(\w+).*?%\}", re.DOTALL)
_OUTPUT = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_BLOCKS = frozenset({"if", "unless", "for", "case", "capture", "tablerow", "ifchanged", "comment", "doc"})


@string_filter
def _replace(value: str, old: object, new: object = "") -> str:
    """Liquid's `replace`, refusing to build a string that no mail could hold."""
    old, new = str(old), str(new)
    times = value.count(old) if old else len(value) + 1
    if len(value) + times * len(new) > MAX_OUTPUT_BYTES:
        raise FilterError("replace makes the text too long", token=None)
    return value.replace(old, new)


class _Environment(Environment):
    loop_iteration_limit: ClassVar[int | None] = MAX_LOOP_ITERATIONS
    output_stream_limit: ClassVar[int | None] = MAX_OUTPUT_BYTES
    local_namespace_limit: ClassVar[int | None] = MAX_LOCALS_BYTES

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for tag in ("include", "render"):
            self.tags.pop(tag)
        self.add_filter("replace", _replace)


_PLAIN = _Environment(autoescape=False)
_HTML = _Environment(autoescape=True)


class Template:
    """One compiled part. Safe to share between threads.

    Raises (from the constructor):
        TemplateInvalid: a syntax error; says where.
    """

    __slots__ = ("_bound", "_flat", "_html", "part", "source")

    def __init__(self, part: str, source: str, *, html: bool = False) -> None:
        self.part = part
        self.source = source
        self._html = html
        environment = _HTML if html else _PLAIN
        if len(source) > MAX_SOURCE:
            raise TemplateInvalid(f"{part}: longer than {MAX_SOURCE} characters")
        try:
            self._bound: BoundTemplate = environment.from_string(source)
        except LiquidError as error:
            raise TemplateInvalid(f"{part}, line {_line_of(error, source, environment)}: {_say(error)}") from None
        self._flat = _flatten(self._bound)

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text for one contact.

        Raises:
            RenderFailed: the contact's data does not go through a filter, or a limit was hit.
        """
        if self._flat is not None:
            return "".join([p if type(p) is str else _value(variables, p, self._html) for p in self._flat])
        try:
            return self._bound.render(variables)
        except LiquidError as error:
            line = _line_of(error, self.source, self._bound.env)
            raise RenderFailed(f"{self.part}, line {line}: {_say(error)}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A filter on data it was not made for; python-liquid wraps most of these, not all.
            raise RenderFailed(f"{self.part}: {type(error).__name__}: {error}") from None

    def problems(self, attributes: Collection[str] | None) -> Iterator[str]:
        """Each unknown filter and variable, as one line; `attributes=None` lets every `contact.…` pass."""
        analysis = self._bound.analyze()
        for name, spans in analysis.filters.items():
            if name not in self._bound.env.filters:
                yield f"{self._at(spans[0].index)}: unknown filter {name!r}{_closest(name, self._bound.env.filters)}"
        for variables in analysis.globals.values():
            for variable in variables:
                if complaint := _complaint(variable, attributes):
                    yield f"{self._at(variable.span.index)}: {complaint}"

    def _at(self, index: int) -> str:
        return f"{self.part}, line {_line(self.source, index)}"


@lru_cache(maxsize=1024)
def compiled(part: str, source: str) -> Template:
    """The compiled template of a part (`subject`, `text`, `html` or `unsubscribe_url`), cached by its text.

    Line breaks in a subject are spaces: whoever wrote it folded it, and a header has none.

    Raises:
        TemplateInvalid: a syntax error.
    """
    if part != "html":
        return Template(part, " ".join(source.splitlines()) if part == "subject" else source)
    return Template(part, source, html=True)


def check(
    subject: str,
    text: str,
    html: str | None = None,
    known: Collection[str] | None = None,
    *,
    unsubscribe_url: str | None = None,
) -> None:
    """Refuse templates that cannot work, before any mail is made of them.

    Args:
        subject: the subject's template.
        text: the text part's; '' makes it of the HTML.
        html: the HTML part's, if there is one.
        known: the attributes that contacts have; None when they are not known yet.
        unsubscribe_url: the template of the unsubscribe link, if there is one.

    Raises:
        TemplateInvalid: the first problem, in one line: part, line, what.
    """
    if not text and not html:
        raise TemplateInvalid("text: is empty, and there is no html; give one of them, or both")
    parts = {"subject": subject, "text": text, "html": html, "unsubscribe_url": unsubscribe_url}
    for part, source in parts.items():
        if source is None:
            continue
        if part == "subject" and not source.strip():
            raise TemplateInvalid("subject: is empty")
        for problem in compiled(part, source).problems(known):
            raise TemplateInvalid(problem)


# Most subjects, links and many texts are plain words and `{{ contact.name }}`: those need no interpreter.
_Path = tuple[str, str | None]
_SPECIAL = frozenset({"size", "first", "last"})


def _flatten(bound: BoundTemplate) -> list[str | _Path] | None:
    """The template as texts and simple paths, or None when it holds anything else."""
    pieces: list[str | _Path] = []
    for node in bound.nodes:
        match node:
            case ContentNode(text=text):
                pieces.append(text)
            case OutputNode(expression=FilteredExpression(left=Path(path=[str(root)]), filters=[] | None)):
                pieces.append((root, None))
            case OutputNode(expression=FilteredExpression(left=Path(path=[str(root), str(key)]), filters=[] | None)):
                if key in _SPECIAL:
                    return None
                pieces.append((root, key))
            case _:
                return None
    return pieces


def _value(variables: Mapping[str, Any], path: str | _Path, html: bool) -> str:
    value = variables.get(path[0])
    if path[1] is not None:
        value = value.get(path[1]) if isinstance(value, dict | Mapping) else None
    if type(value) is str and not html:
        return value
    return str(to_liquid_string(value, html))


def _complaint(variable: Variable, attributes: Collection[str] | None) -> str | None:
    root, *rest = variable.segments
    first = rest[0] if rest else None
    name = str(variable)
    if root == "contact":
        if first is None:
            return "'contact' needs an attribute, as in contact.email"
        if isinstance(first, list) or attributes is None or first in attributes or first == "email":
            return None
        return f"unknown variable {name!r}{_closest(name, [f'contact.{a}' for a in (*attributes, 'email')])}"
    if root in SCALARS and not rest:
        return None
    if isinstance(root, str) and root in FIELDS and first in FIELDS[root] and len(rest) == 1:
        return None
    candidates = [*SCALARS, *(f"{r}.{f}" for r, fs in FIELDS.items() for f in fs)]
    candidates += [f"contact.{a}" for a in (*(attributes or ()), "email")]
    return f"unknown variable {name!r}{_closest(name, candidates)}"


def _closest(name: str, candidates: Collection[str]) -> str:
    matches = get_close_matches(name, candidates, n=1)
    if matches:
        return f"; did you mean {matches[0]!r}?"
    if len(candidates) <= 12:  # short enough to be read in one line
        return f"; known are {', '.join(sorted(candidates))}"
    return ""


def _say(error: LiquidError) -> str:
    return " ".join(str(error.message or type(error).__name__).split())


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, max(index, 0)) + 1


def _line_of(error: LiquidError, source: str, environment: Environment) -> int:
    """The line of an error; where python-liquid gives none (`end of expression`), the first piece that is at fault."""
    if error.token is not None and error.token.start_index >= 0:
        return _line(source, error.token.start_index)
    for match in _OUTPUT.finditer(source):
        if not _parses(environment, match[0]):
            return _line(source, match.start())
    opened: list[int] = []
    for match in _TAG.finditer(source):
        tag = match[1]
        if tag.startswith("end") and opened:
            opened.pop()
        elif tag in _BLOCKS:
            if tag != "case" and not _parses(environment, match[0] + "{% end" + tag + " %}"):
                return _line(source, match.start())
            opened.append(match.start())
    return _line(source, opened[-1] if opened else len(source))


def _parses(environment: Environment, piece: str) -> bool:
    try:
        environment.from_string(piece)
    except LiquidError:
        return False
    return True
