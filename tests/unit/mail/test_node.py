from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from postfleet_workers.mail.credentials import Credentials, Login
from postfleet_workers.mail.errors import LoginMissing
from postfleet_workers.mail.node import Tls, parse_node

TODAY = date(2026, 3, 1)
SPEC: dict[str, Any] = {"smtp": {"host": "smtp.example"}, "identity": {"domain": "acme.example"}}


def test_defaults_are_those_of_the_resource() -> None:
    node = parse_node("n1", SPEC)
    assert (node.port, node.tls, node.helo, node.login) == (587, Tls.STARTTLS, "acme.example", False)
    assert (node.max_connections, node.messages_per_connection, node.limits(TODAY), node.paused) == (20, 100, (), False)
    assert node.open_to("anyone")


def test_every_field_is_read() -> None:
    node = parse_node(
        "n1",
        {
            "smtp": {"host": "h", "port": 25, "tls": "None", "heloName": "me", "credentialsSecretRef": {"name": "s"}},
            "identity": {"domain": "d"},
            "limits": {"perMinute": 5, "perDay": None, "maxConnections": 2, "messagesPerConnection": 3},
            "tenants": ["acme"],
        },
        paused=True,
    )
    assert node.endpoint == ("h", 25, Tls.NONE, "me", True, ())
    assert (node.max_connections, node.messages_per_connection, node.paused) == (2, 3, True)
    assert [limit.name for limit in node.limits(TODAY)] == ["node n1 per_minute"]
    assert (node.open_to("acme"), node.open_to("other")) == (True, False)


def test_only_named_sites_that_limit_it_have_routes() -> None:
    smarthost = parse_node("n1", {**SPEC, "limits": {"sites": [{"name": "gmail", "perMinute": 5}]}})
    direct = parse_node("n2", {**SPEC, "smtp": {"host": "mx"}})
    assert [smarthost.route(site) for site in ("", "gmail", "yahoo", "mx:a.example")] == ["n1", "n1/gmail", "n1", "n1"]
    assert [direct.route(site) for site in ("", "gmail", "yahoo", "mx:a.example")] == [
        "n2", "n2/gmail", "n2/yahoo", "n2"
    ]  # fmt: skip


def write(folder: Path, username: str, password: str) -> None:
    (folder / "n1.username").write_text(username)
    (folder / "n1.password").write_text(password)


def test_a_login_is_read_without_its_line_end_and_again_when_it_changes(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    write(tmp_path, "ann\n", " pass word \n")
    assert credentials.of("n1") == Login("ann", " pass word ")
    assert credentials.of("n1") is credentials.of("n1")
    write(tmp_path, "ann", "longer than before")
    assert credentials.of("n1").password == "longer than before"


def test_a_swapped_symlink_is_a_change(tmp_path: Path) -> None:
    """As kubelet updates a mounted Secret: `..data` points to another folder with files of the same size."""
    for name, password in (("v1", "aaaa"), ("v2", "bbbb")):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "ann", password)
    mounted = tmp_path / "data"
    mounted.symlink_to("v1")
    credentials = Credentials(mounted)
    assert credentials.of("n1").password == "aaaa"
    mounted.unlink()
    mounted.symlink_to("v2")
    assert credentials.of("n1").password == "bbbb"


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_login_is_a_fault_with_a_reason(tmp_path: Path, folder: str | None) -> None:
    with pytest.raises(LoginMissing, match="POSTFLEET_CREDENTIALS_DIR" if folder is None else "no login in"):
        Credentials(tmp_path if folder else None).of("n1")


def test_a_password_never_shows() -> None:
    assert "secret" not in repr(Login("ann", "secret"))
