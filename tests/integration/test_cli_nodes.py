"""`postfleet nodes list` and `show`: how the sending nodes stand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from command import Command
from integration.ledger_steps import ask, change
from postfleet_workers.mail.outbox import NewEmail, send_email

SPEC: dict[str, Any] = {
    "smtp": {"host": "smtp.example.org", "port": 587, "tls": "StartTLS"},
    "identity": {"domain": "example.org", "ipAddresses": [], "returnPathDomain": None, "dkim": None},
    "limits": {"perMinute": 100, "perHour": None, "maxConnections": 20, "sites": []},
    "warmup": None,
    "tenants": ["acme"],
}


@pytest.fixture
def postfleet(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Command:
    change(engine, "INSERT INTO tenants (name) VALUES ('acme')")
    return Command(database_url, monkeypatch)


def add_node(engine: Engine, name: str = "acme-1", **fields: Any) -> None:
    spec = json.dumps({**SPEC, **fields})
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES (:name, :spec)", name=name, spec=spec)


def attempts(engine: Engine, *ages: tuple[str, str, str]) -> None:
    """Attempts of node acme-1: outcome, how long ago, site."""
    with engine.begin() as connection:
        email = send_email(connection, NewEmail("acme", "a@example.org", "acme-1", "Hi", "Hello"))
    for outcome, age, site in ages:
        change(
            engine,
            """INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, site, finished_at)
               VALUES (:email, 1, 'w', 'acme-1', 'dot', :outcome, :site, postfleet_now() - CAST(:age AS interval))""",
            email=email, outcome=outcome, age=age, site=site,
        )  # fmt: skip


def slow_down(engine: Engine, site: str, action: str, value: int | None, minutes: int = 30) -> None:
    change(
        engine,
        """INSERT INTO slowdowns (node, site, action, value, rule, reply, until)
           VALUES ('acme-1', :site, :action, :value, 'some.rule', '421 slow down',
                   postfleet_now() + make_interval(mins => :minutes))""",
        site=site, action=action, value=value, minutes=minutes,
    )  # fmt: skip


def begun(engine: Engine, days_ago: int) -> dict[str, Any]:
    """A warmup that began so many days ago."""
    ((today,),) = ask(engine, "SELECT CAST(postfleet_now() AT TIME ZONE 'UTC' AS date) - CAST(:n AS int)", n=days_ago)
    return {"enabled": True, "startDate": today.isoformat(), "initialPerDay": 50, "growthFactor": "2"}


def test_nodes_are_listed_with_what_they_sent(postfleet: Command, engine: Engine) -> None:
    add_node(engine)
    attempts(
        engine, ("sent", "1 second", ""), ("sent", "2 minutes", ""), ("sent", "2 hours", ""), ("sent", "2 days", ""),
        ("deferred", "1 second", ""),
    )  # fmt: skip
    (node,) = postfleet("nodes", "list", "--output", "json").json
    assert (node["sent_minute"], node["sent_hour"], node["sent_day"]) == (1, 2, 3)
    assert node["limits"] == {"perMinute": 100, "maxConnections": 20}
    assert (node["host"], node["tls"], node["tenants"]) == ("smtp.example.org:587", "StartTLS", ["acme"])
    assert (node["warmup"], node["slowdowns"]) == (None, [])


@pytest.mark.parametrize("fields", [{"smtp": {}}, {"smtp": {"host": "mx", "tls": "Quantum"}}, {"limits": 5}])
def test_a_node_whose_spec_makes_no_sense_says_so_and_hides_no_other(
    postfleet: Command, engine: Engine, fields: dict[str, Any]
) -> None:
    add_node(engine)
    add_node(engine, "odd", **fields)
    good, odd = postfleet("nodes", "list", "--output", "json").json
    assert (good["host"], odd["name"], odd["tls"], odd["limits"]) == ("smtp.example.org:587", "odd", None, {})
    assert odd["host"].startswith("invalid spec: ")
    assert "invalid spec: " in postfleet("nodes", "list").out
    assert postfleet("nodes", "show", "odd", "--output", "json").json["sites"] == []


def test_a_warmup_and_what_slows_a_node_down_are_listed(postfleet: Command, engine: Engine) -> None:
    add_node(engine, warmup=begun(engine, 2))
    attempts(engine, ("sent", "1 hour", "gmail"), ("bounced", "1 hour", "gmail"))
    slow_down(engine, "gmail", "per_minute", 10)
    slow_down(engine, "yahoo", "suspend", None)
    slow_down(engine, "apple", "suspend", None, minutes=-1)
    (node,) = postfleet("nodes", "list", "--output", "json").json
    assert node["warmup"] == {"day": 3, "cap": 200, "accepted": 1, "remaining": 199}
    assert [(each["site"], each["action"], each["value"]) for each in node["slowdowns"]] == [
        ("gmail", "per_minute", 10),
        ("yahoo", "suspend", None),
    ]
    table = postfleet("nodes", "list").out
    assert "day 3: 1 of 200" in table
    assert "gmail per_minute 10, yahoo suspend" in table
    assert "perMinute 100, maxConnections 20" in table


def test_one_node_is_shown_with_what_holds_at_its_sites(postfleet: Command, engine: Engine) -> None:
    add_node(
        engine,
        smtp={"host": "mx"},
        identity={"domain": "example.org", "dkim": {"selector": "s1", "domain": None}},
        limits={"sites": [{"name": "gmail", "perMinute": 7}, {"name": "partner.example", "perDay": 9}]},
    )
    attempts(engine, ("sent", "1 hour", "gmail"), ("sent", "1 hour", "mx:a"), ("sent", "1 hour", "mx:b"))
    slow_down(engine, "gmail", "connections", 1)
    node = postfleet("nodes", "show", "acme-1", "--output", "json").json
    assert (node["host"], node["tls"], node["dkim"]) == ("mx:25", "Opportunistic", "s1._domainkey.example.org")
    sites = {each.pop("site"): each for each in node["sites"]}
    assert sites["gmail"] == {
        "per_minute": 7, "per_hour": None, "per_day": None, "max_connections": 5, "messages_per_connection": 50,
        "sent_day": 1,
    }  # fmt: skip
    assert sites["partner.example"]["per_day"] == 9
    assert (sites["default"]["max_connections"], sites["default"]["sent_day"]) == (10, 2)
    text = postfleet("nodes", "show", "acme-1").out
    assert "\nsites\n" in text
    assert "\nslowdowns\n" in text
    assert "421 slow down" in text


def test_a_node_behind_a_smarthost_has_only_the_sites_that_it_lists(postfleet: Command, engine: Engine) -> None:
    add_node(engine, "plain")
    assert postfleet("nodes", "show", "plain", "--output", "json").json["sites"] == []
    add_node(engine, "listing", limits={"sites": [{"name": "gmail", "perMinute": 7}]})
    node = postfleet("nodes", "show", "listing", "--output", "json").json
    assert [(each["site"], each["per_minute"]) for each in node["sites"]] == [("gmail", 7)]


def test_a_node_that_is_not_there_is_one_line(postfleet: Command) -> None:
    answer = postfleet("nodes", "show", "nobody")
    assert answer.code == 2
    assert "sending node 'nobody' does not exist" in answer.err
