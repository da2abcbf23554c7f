"""SendingNodes are mirrored into PostgreSQL: exactly those that are, never a credential."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.nodes import FORGOTTEN_SECONDS, OWNER_SECONDS, Mirrored, mirror
from postfleet_operator.spec import API_VERSION, SendingNode, parse_node


def node(name: str, namespace: str = "default", generation: int = 1, **spec: Any) -> SendingNode:
    given = {"smtp": {"host": "mx.example.com"}, "identity": {"domain": "example.com"}, **spec}
    metadata = {"name": name, "namespace": namespace, "generation": generation}
    return parse_node({"apiVersion": API_VERSION, "kind": "SendingNode", "metadata": metadata, "spec": given})


def rows(url: str) -> dict[str, tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT name, spec, paused, generation, xmin::text FROM sending_nodes").fetchall()
    return {name: tuple(rest) for name, *rest in found}


def apply(url: str, *nodes: SendingNode, owner: str = "here") -> Mirrored:
    with psycopg.connect(url) as connection:
        return mirror(connection, nodes, owner)


def let_pass(url: str, seconds: float) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE node_owners SET seen_at = seen_at - make_interval(secs => %s)", (seconds,))


def test_nodes_appear_with_every_default_filled_in(database_url: str) -> None:
    assert apply(database_url, node("acme-1", limits={"perMinute": 100}), node("acme-2", paused=True)) == Mirrored(2, 0)
    spec, paused, generation, _ = rows(database_url)["acme-1"]
    assert (spec, paused, generation) == (node("acme-1", limits={"perMinute": 100}).spec.dump(), False, 1)
    assert rows(database_url)["acme-2"][1] is True


def test_what_did_not_change_is_not_touched(database_url: str) -> None:
    apply(database_url, node("acme-1"), node("acme-2"))
    before = rows(database_url)
    changed = node("acme-2", generation=2, limits={"perDay": 5})
    assert apply(database_url, node("acme-1"), changed) == Mirrored(1, 0)
    after = rows(database_url)
    assert after["acme-1"] == before["acme-1"]
    assert after["acme-2"][0]["limits"]["perDay"] == 5


def test_nodes_that_are_gone_disappear(database_url: str) -> None:
    apply(database_url, node("acme-1"), node("acme-2"))
    assert apply(database_url, node("acme-2")) == Mirrored(0, 1)
    assert rows(database_url).keys() == {"acme-2"}
    assert apply(database_url) == Mirrored(0, 1)


def test_mail_of_a_held_node_waits_and_a_kept_row_stays(database_url: str) -> None:
    apply(database_url, node("acme-1"), node("acme-2"))
    with psycopg.connect(database_url) as connection:
        assert mirror(connection, [node("acme-1")], "here", held={"acme-1"}, kept={"acme-2"}) == Mirrored(1, 0)
    assert {name: row[1] for name, row in rows(database_url).items()} == {"acme-1": True, "acme-2": False}
    assert apply(database_url, node("acme-1")) == Mirrored(1, 1)
    assert rows(database_url)["acme-1"][1] is False


def test_only_the_name_of_a_secret_is_written(database_url: str) -> None:
    smtp = {"host": "mx.example.com", "credentialsSecretRef": {"name": "smtp"}}
    apply(database_url, node("acme-1", smtp=smtp))
    assert rows(database_url)["acme-1"][0]["smtp"]["credentialsSecretRef"] == {"name": "smtp"}


def test_a_connection_that_is_gone_is_told_in_the_package_s_words(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        backend = connection.info.backend_pid
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (backend,))
        with pytest.raises(StoreUnavailable, match=r"^PostgreSQL: "):
            mirror(connection, [node("acme-1")], "here")
    assert rows(database_url) == {}


def test_an_operator_leaves_the_nodes_of_another_alone(database_url: str) -> None:
    apply(database_url, node("acme-1"), owner="fleet")
    before = rows(database_url)
    assert apply(database_url) == Mirrored(0, 0)
    changed = node("acme-1", limits={"perDay": 5})
    assert apply(database_url, changed, node("acme-2")) == Mirrored(1, 0, {"acme-1": "fleet"})
    assert rows(database_url)["acme-1"] == before["acme-1"]
    assert apply(database_url) == Mirrored(0, 1)
    assert rows(database_url) == before


def test_the_nodes_of_an_operator_that_is_gone_go_to_whoever_has_them(database_url: str) -> None:
    apply(database_url, node("acme-1"), node("acme-2"), owner="gone")
    let_pass(database_url, OWNER_SECONDS + 1)
    assert apply(database_url, node("acme-1")) == Mirrored(1, 0)
    assert apply(database_url, node("acme-1")) == Mirrored(0, 0)
    assert apply(database_url, node("acme-1"), owner="gone") == Mirrored(0, 1, {"acme-1": "here"})
    assert apply(database_url) == Mirrored(0, 1)


def test_rows_of_nobody_and_of_owners_long_gone_are_deleted(database_url: str) -> None:
    apply(database_url, node("acme-1"), owner="gone")
    apply(database_url, node("acme-2"))
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO sending_nodes (name, spec) VALUES ('older than owners', '{}')")
    assert apply(database_url, node("acme-2")) == Mirrored(0, 1)
    let_pass(database_url, FORGOTTEN_SECONDS + 1)
    assert apply(database_url, node("acme-2")) == Mirrored(0, 1)
    assert rows(database_url).keys() == {"acme-2"}
