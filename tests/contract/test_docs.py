"""The pages say what the code does: links, commands, settings, named files and tests, tables of words, shown code."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from postfleet_operator.node_conditions import Phase
from postfleet_operator.reasons import ConditionType, DecisionReason, EventReason, NodeConditionType, Reason
from postfleet_operator.scaling.values import Bottleneck
from postfleet_workers.jobs import JobType
from postfleet_workers.mail.replies.outcome import Status
from postfleet_workers.states import State
from postfleet_workers.store.models import Base

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
FENCE = re.compile(r"^ {0,4}```(\w*)\n(.*?)^ {0,4}```", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"`(\w+)`")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def codes(page: Path) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@cache
def program(name: str) -> ModuleType:
    """A program of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def generate() -> ModuleType:
    return program("generate")


@pytest.mark.parametrize("name", ["settings.md", "cli.md", "resources.md"])
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generate().pages()[name], "run python docs/generate.py"


def test_no_deployables_settings_are_left_out() -> None:
    modules = {f"{path.parent.name}.settings" for path in ROOT.glob("*/postfleet_*/settings.py")}
    assert modules == {model.__module__ for *_, model in generate().SETTINGS}


def test_no_program_is_left_out() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(scripts) == [name for name, _ in generate().PROGRAMS]


def test_every_command_and_option_is_on_the_page() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for words, command in commands().items():
        section = page.partition(f"# {' '.join(words)}\n")[2].partition("\n#")[0]
        assert section, f"{words} is missing"
        for option in options(command) - {"--help", "-h", "--version"}:
            assert f"`{option}" in section or f"{option} " in section or f"{option}`" in section, (words, option)


def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words."""
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(words: tuple[str, ...], command: click.Command) -> None:
        found[words] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk((*words, name), inner)

    for name, command in generate().PROGRAMS:
        walk((name,), command)
    return found


def options(command: click.Command) -> set[str]:
    found = {name for p in command.params if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)}
    return found | {"--help"}


@EACH_PAGE
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(page: Path) -> set[str]:
    """A page's headings, as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH_PAGE
def test_named_files_exist(page: Path) -> None:
    tops = {path.name for path in ROOT.iterdir()}
    for code in codes(page):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code) and code.split("/")[0] in tops and "." not in code[:1]:
            assert (ROOT / code).exists() or (page.parent / code).exists(), code


@EACH_PAGE
def test_a_named_test_is_in_the_file_that_its_link_names(page: Path) -> None:
    for name, target in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", prose(page)):
        assert f"def {name}(" in (page.parent / target).read_text(encoding="utf-8"), name
    linked = {name for name, _ in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", prose(page))}
    assert linked == {code for code in codes(page) if code.startswith("test_")}, "every named test has a link"


@EACH_PAGE
def test_shown_commands_are_ones_that_the_programs_take(page: Path) -> None:
    for words, whole in shown_commands(page):
        try:
            parse(words, whole=whole)
        except click.UsageError as error:
            pytest.fail(f"{' '.join(words)}: {error.format_message()}")


def parse(words: Sequence[str], *, whole: bool) -> None:
    """Let the program itself read a command line; `whole`: nothing that it requires may be missing."""
    known = commands()
    path = max((path for path in known if list(path) == list(words[: len(path)])), key=len, default=())
    if not path:
        raise click.UsageError("no such program")
    command, given = known[path], list(words[len(path) :])
    if isinstance(command, click.Group) and (given or whole) and not {"--help", "-h", "--version"} & set(given):
        raise click.UsageError("no such command" if given else "which command?")
    try:
        while True:
            try:
                command.make_context(path[-1], list(given), parent=click.Context(click.Group(path[0])))
            except (click.MissingParameter, click.BadOptionUsage):
                if whole:
                    raise
                break
            except click.BadParameter as error:
                if (place := stand_in(error, given)) is None:
                    raise
                given[place] = "1"
            else:
                break
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):
        pass  # --help, --version; a group by itself


def stand_in(error: click.BadParameter, given: Sequence[str]) -> int | None:
    """Where the word is that stands for a value of the reader's own, such as ID, if that is what could not be read."""
    return next((n for n, word in enumerate(given) if re.fullmatch(r"[A-Z]+", word) and word in error.message), None)


@pytest.mark.parametrize(
    "line",
    [
        "postfleet",
        "postfleet job stats",
        "postfleet jobs show",
        "postfleet jobs show x12",
        "postfleet jobs stats --queue",
        "postfleet jobs list --state done",
        "postfleet relay now",
        "postfleet-local up --dir",
        "kubectl-jobpool history",
        "postfleet-operator simulate --trace burst",
        "postfleet-operator simulate -f pool.yaml --trace burst --tune 2",
        "postfleet-operator simulate -f pool.yaml --no-such-option",
    ],
)
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line.split(), whole=True)


def shown_commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Our programs' command lines: those of shell blocks, which are whole, and those in backticks, which may not be."""
    blocks = [
        body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in {"sh", "console"}
    ]
    for line in [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]:
        yield from ((words, True) for words in command_lines(line.removeprefix("$ ")))
    # Generated pages repeat help texts and usage lines, which are no command lines.
    if page.name not in {"cli.md", "settings.md", "resources.md"}:
        for code in codes(page):
            yield from ((words, False) for words in command_lines(code))


def command_lines(line: str) -> Iterator[list[str]]:
    """The command lines of our programs in a line of shell, also those that another program is to run."""
    programs = {name for name, _ in generate().PROGRAMS}
    line = re.sub(r"\bkubectl jobpool\b", "kubectl-jobpool", line)
    if not any(program in line for program in programs):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|;&"):
            if "--" in words and words[0] not in programs:
                words = words[words.index("--") + 1 :]
            if words and words[0] in programs:
                yield words
            words = []
        elif words or not re.match(r"[A-Z_]+=", word):
            words.append(word)


def test_a_picture_in_the_tuning_guide_has_the_command_that_drew_it() -> None:
    text = (ROOT / "docs/tuning.md").read_text(encoding="utf-8")
    drawn = {run.plot for run in program("outputs").shown(text) if run.plot}
    assert {f"docs/{target}" for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)} == drawn
    assert drawn == {str(path.relative_to(ROOT)) for path in (ROOT / "docs/assets").glob("tuning-*.svg")}


def test_every_simulation_of_the_tuning_guide_has_its_output() -> None:
    text = (ROOT / "docs/tuning.md").read_text(encoding="utf-8")
    runs = program("outputs").shown(text)
    assert len(runs) == text.count("```text\n") > 0
    assert all(run.output.strip() for run in runs), "run python docs/outputs.py"


def test_the_output_shown_is_what_the_command_prints_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One of them, for they take seconds: when it has changed, all may have.
    monkeypatch.chdir(ROOT)
    outputs = program("outputs")
    [run] = [run for run in outputs.shown((ROOT / "docs/tuning.md").read_text("utf-8")) if "limit.svg" in run.plot]
    drawn = tmp_path / "limit.svg"
    assert outputs.run(run.command.replace(run.plot, str(drawn))) == run.output, "run python docs/outputs.py"
    assert drawn.read_bytes() == (ROOT / run.plot).read_bytes(), "run python docs/outputs.py"


def test_every_page_of_the_docs_is_in_the_site_s_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w*/.-]+\.md)\b", text.partition("\nnav:\n")[2]))
    assert {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("*.md")} <= named


@EACH_PAGE
def test_named_settings_exist(page: Path) -> None:
    known = {f"POSTFLEET_{field.upper()}" for *_, model in generate().SETTINGS for field in model.model_fields}
    named = set(re.findall(r"\bPOSTFLEET_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert named <= known


@EACH_PAGE
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language == "sh")
    named = re.findall(r"^make (?:PYTHON=\S+ )?([a-z-]+)", "\n".join([shell, *codes(page)]), re.MULTILINE)
    assert set(named) <= targets


@EACH_PAGE
def test_shown_files_are_the_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, body in re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert body == (page.parent / name).read_text(encoding="utf-8"), name


def column(page: str, heading: str, number: int = 0) -> list[str]:
    """The words in backticks of a column of the first table under a heading."""
    section = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows, heading
    return [word for row in rows for word in WORD.findall(row.split(" | ")[number])]


def test_the_tables_of_states_are_complete() -> None:
    assert column("concepts.md", "States of a job") == [state.value for state in State]
    assert set(column("concepts.md", "Statuses of an email")) == {status.value for status in Status}


def test_the_tables_of_scaling_are_complete() -> None:
    unclamped = {DecisionReason.BACKLOG, DecisionReason.IDLE, DecisionReason.LATENCY}
    assert column("autoscaling.md", "Clamps") == [r.value for r in DecisionReason if r not in unclamped]
    assert column("autoscaling.md", "Reading a decision") == [
        b.value for b in (Bottleneck.NONE, Bottleneck.WORKERS, Bottleneck.STARTING, Bottleneck.MAX_REPLICAS)
    ] + [Bottleneck.THROTTLE.value, Bottleneck.SIGNAL.value]
    assert column("autoscaling.md", "Conditions") == [condition.value for condition in ConditionType]


def test_the_tables_of_nodes_are_complete() -> None:
    assert column("nodes.md", "Reading the status") == [phase.value for phase in Phase]
    assert column("nodes.md", "Conditions") == [condition.value for condition in NodeConditionType]


def test_every_reason_and_event_is_in_a_table() -> None:
    pages = ("autoscaling.md", "nodes.md")
    assert {word for page in pages for word in column(page, "Conditions", 2)} == {reason.value for reason in Reason}
    assert {word for page in pages for word in column(page, "Events")} == {reason.value for reason in EventReason}


def test_the_table_of_a_job_types_fields_is_complete() -> None:
    assert set(column("jobs.md", "Each, or the whole bundle")) == {field.name for field in fields(JobType)}


def test_decisions_are_numbered_and_have_their_three_parts() -> None:
    pages = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_picture_is_small_and_needs_nothing_from_the_network() -> None:
    picture = ROOT / "docs/assets/demo.svg"
    assert picture.stat().st_size < 150_000
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # our own file
    addresses = set(re.findall(r"https?://[^\s\"')]+", picture.read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_the_kind_cluster_has_a_place_that_mail_leaves_from() -> None:
    nodes = yaml.safe_load((ROOT / "kind-config.yaml").read_text())["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
    assert [node.get("labels") for node in nodes] == [None, None, {"postfleet.io/egress": "true"}]


def test_the_tables_of_the_architecture_are_complete() -> None:
    workers = ROOT / "workers/postfleet_workers"
    packages = {str(path.parent.relative_to(workers)) for path in workers.glob("*/**/__init__.py")}
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.partition("| package | what lives there |\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == packages - {"store/models"}
    assert set(column("architecture.md", "PostgreSQL")) == set(Base.metadata.tables)
