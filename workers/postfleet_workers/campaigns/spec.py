"""A campaign's file: YAML, read strictly, and each mistake told in one line with the field's path. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from postfleet_workers.campaigns import DEFAULT_QUEUE
from postfleet_workers.contacts.addresses import BadAddress, normalized
from postfleet_workers.errors import InputError
from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message.headers import address
from postfleet_workers.names import NAME


def _mailbox(value: str) -> str:
    """`news@example.org` or `News <news@example.org>`."""
    text = value.strip()
    if not text.isprintable():
        raise ValueError("holds a line break or another control character")
    try:
        mailbox = address(text).mailbox
    except ComposeRefused:
        how = "write news@example.org or 'News <news@example.org>', and in quotes a name with , or :"
        raise ValueError(f"{text!r} is no address; {how}") from None
    try:
        normalized(mailbox)
    except BadAddress as error:
        raise ValueError(f"{mailbox!r}: {error}") from None
    return text


def _one_line(value: str) -> str:
    if not value.strip().isprintable():
        raise ValueError("must be one line without control characters")
    return value.strip()


def _distinct(value: list[str]) -> list[str]:
    for number, name in enumerate(value):
        if name in value[:number]:
            raise ValueError(f"{name!r} is named twice")
    return value


Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2_000), AfterValidator(_one_line)]
Template = Annotated[str, StringConstraints(min_length=1)]


class CampaignSpec(BaseModel):
    """One campaign, as its file says it. `sender` is the file's `from`."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, str_strip_whitespace=False)

    name: Name
    tenant: Name
    list_name: Name = Field(alias="list", description="A list of the tenant's contacts.")
    sender: Mailbox = Field(alias="from", description="`news@example.org` or `News <news@example.org>`.")
    reply_to: Mailbox | None = None
    nodes: Annotated[list[Name], Field(min_length=1), AfterValidator(_distinct)] = Field(
        description="Sending nodes that share the mail, by what each may send."
    )
    queue: Name = DEFAULT_QUEUE
    subject: Line = Field(description="A Liquid template.")
    text: str = Field("", description="The text part, a Liquid template; made of the HTML when there is none.")
    html: Template | None = Field(None, description="The HTML part, a Liquid template.")
    unsubscribe_url: Line | None = Field(None, description="A Liquid template; goes into List-Unsubscribe.")
    one_click: bool = Field(False, description="List-Unsubscribe leads to `postfleet web`, where that has an address.")
    track_opens: bool = Field(False, description="A picture in the HTML tells of opens.")
    track_clicks: bool = Field(False, description="Links of the HTML lead through `postfleet web`.")
    per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(None, description="A limit of its own.")
    attachments: Annotated[list[Line], AfterValidator(_distinct)] = Field(
        [], description="Files, beside this one; the HTML shows one as `cid:NAME`."
    )


class _UniqueKeys(yaml.SafeLoader):
    """YAML where a key that stands twice is a mistake, not a silent choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands here twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str) -> CampaignSpec:
    """Read a campaign's file.

    Raises:
        InputError: it is no YAML, or a field is missing, unknown or cannot work; one line, field first.
    """
    try:
        data = yaml.load(text, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(_yaml_problem(error)) from None
    if not isinstance(data, dict):
        raise InputError("is no mapping of fields; begin with 'name: …'")
    try:
        return CampaignSpec.model_validate(data)
    except ValidationError as error:
        raise InputError(_first(error)) from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _first(error: ValidationError) -> str:
    problems = error.errors()
    first = problems[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(field.alias or name for name, field in CampaignSpec.model_fields.items())
            message = f"unknown field; known are {known}"
        case "missing":
            message = "is missing"
        case "string_pattern_mismatch":
            message = f"{first['input']!r} is no name; use 1 to 63 letters, digits, '.', '_' or '-'"
        case "too_short":
            message = "name at least one sending node"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path.removeprefix('.')}: {message}{more}"
