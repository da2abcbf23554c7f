"""What a SendingNode says of sites and warmups means the same to the operator, the API server and the workers."""

from __future__ import annotations

from dataclasses import astuple
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contract.crd_schema import schema, walk
from postfleet_operator.spec import API_VERSION, NodeSpec, names, parse_node
from postfleet_operator.spec.node import MX, MX_PORT, SUBMISSION_PORT
from postfleet_workers.mail import node, sites, warmup
from postfleet_workers.mail.replies import slowdown

START = date(2026, 3, 1)
NUMBERS = st.integers(1, 1_000_000_000)


def spec(**fields: Any) -> NodeSpec:
    """A node's spec, read as the operator reads it."""
    whole = {"smtp": {"host": "mx"}, "identity": {"domain": "example.com"}, **fields}
    return parse_node({"apiVersion": API_VERSION, "kind": "SendingNode", "metadata": {"name": "x"}, "spec": whole}).spec


@given(
    NUMBERS,
    NUMBERS,
    st.lists(NUMBERS, max_size=5),
    st.decimals("1.01", "9.99", places=2).map(str),
    st.booleans(),
    st.integers(-500, 5000),
)
def test_operator_and_workers_follow_the_same_plan(
    initial: int, target: int, days: list[int], growth: str, enabled: bool, day: int
) -> None:
    plan = {
        "enabled": enabled,
        "startDate": START.isoformat(),
        "initialPerDay": initial,
        "targetPerDay": target,
        "days": days,
        "growthFactor": growth,
    }
    read, today = spec(warmup=plan), START + timedelta(days=day)
    assert read.warmup is not None
    own, theirs = read.warmup.cap(today), warmup.cap(read.dump()["warmup"], today)
    assert (own and astuple(own)) == (theirs and astuple(theirs))


def test_what_is_left_out_of_a_plan_means_the_same() -> None:
    plan = {"startDate": START.isoformat()}
    read = spec(warmup=plan).warmup
    assert read is not None
    for day in range(60):
        today = START + timedelta(days=day)
        own, theirs = read.cap(today), warmup.cap(plan, today)
        assert (own and astuple(own)) == (theirs and astuple(theirs))
    assert warmup.cap(spec().dump()["warmup"], START) is None


def test_the_sites_that_a_node_may_name_are_those_of_the_workers_table() -> None:
    assert tuple(site.name for site in sites.TABLE) == names.SITES


def test_what_a_node_lists_for_a_site_is_what_the_workers_read() -> None:
    limits = {
        "perMinute": 1, "perHour": 2, "perDay": 3, "maxConnections": 4, "messagesPerConnection": 5,
    }  # fmt: skip
    dump = spec(limits={"sites": [{"name": "gmail", **limits}, {"name": "a.example", "perDay": 9}]}).dump()
    assert astuple(sites.limits_of("gmail", dump)) == (1, 2, 3, 4, 5)
    assert sites.limits_of("a.example", dump).per_day == 9
    assert "a.example" in sites.limiting_sites(dump)


def test_operator_and_workers_mean_the_same_by_a_direct_node() -> None:
    assert (node.MX, node.MX_PORT, node.SUBMISSION_PORT) == (MX, MX_PORT, SUBMISSION_PORT)
    read = node.parse_node("x", spec().dump())
    assert read.direct
    assert (read.port, read.tls) == (25, node.Tls.OPPORTUNISTIC)


def test_the_actions_of_the_crd_are_the_workers() -> None:
    fields = dict(walk(schema("SendingNode"), "SendingNode"))
    assert fields["SendingNode.status.slowdowns[].action"]["enum"] == list(slowdown.Kind)


PAGE = (Path(__file__).parents[2] / "docs/nodes.md").read_text(encoding="utf-8")


def site_rows() -> list[str]:
    """The table of sites as docs/nodes.md has it."""
    rows = []
    for site in (*sites.TABLE, sites.Site(sites.DEFAULT, (), (), sites.OTHERS)):
        more = f" and {len(site.domains) - 3} more" if len(site.domains) > 3 else ""
        cells = (
            f"`{site.name}`",
            ", ".join(site.hosts) or "any other",
            (", ".join(site.domains[:3]) + more) or "any other",
            f"{site.limits.max_connections}",
            f"{site.limits.messages_per_connection:,}",
            f"{site.limits.per_minute:,}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def action_words(action: slowdown.Action) -> str:
    hours, minutes = divmod(action.duration_seconds // 60, 60)
    span = f"{hours} h" if not minutes else f"{hours * 60 + minutes} min"
    match action.kind:
        case slowdown.Kind.SUSPEND:
            return f"no mail for {span}"
        case slowdown.Kind.PER_MINUTE:
            return f"{action.value} mail{'' if action.value == 1 else 's'} a minute for {span}"
        case slowdown.Kind.CONNECTIONS:
            return f"{action.value} connection for {span}"


def brake_rows() -> list[str]:
    """The table of slow-downs as docs/nodes.md has it."""
    return [
        f"| `{brake.rule}` | {brake.threshold} | {', '.join(map(action_words, brake.actions))} |"
        for brake in slowdown.BRAKES
    ]


def rows_under(heading: str) -> list[str]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_table_of_sites_in_the_docs_is_the_workers_table() -> None:
    assert rows_under("Sites") == site_rows()


def test_the_table_of_slow_downs_in_the_docs_is_the_workers_table() -> None:
    assert rows_under("Slow-downs") == brake_rows()
    assert {brake.window_seconds for brake in slowdown.BRAKES} == {3600}
