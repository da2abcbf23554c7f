"""A fleet's folder."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from postfleet_local import sources
from postfleet_local.errors import ManifestError
from postfleet_local.home import Home
from postfleet_local.stack import Valkey


def test_one_fleet_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path), pytest.raises(ManifestError, match="another fleet runs in"), Home(tmp_path):
        pass
    with Home(tmp_path):
        pass


def test_env_is_for_the_shell_and_goes_with_the_fleet(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        file = home.write_env({"POSTFLEET_REDIS_URL": "redis://127.0.0.1:1/0", "X": "two words"})
        assert file.read_text() == "POSTFLEET_REDIS_URL=redis://127.0.0.1:1/0\nX='two words'\n"
    assert not file.exists()


def test_a_server_gets_the_port_of_the_last_time(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        first, second = Valkey(tmp_path / "valkey"), Valkey(tmp_path / "valkey")
        home.settle_port(first)
        home.settle_port(second)
        assert first.port == second.port


def test_a_port_that_was_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    with Home(tmp_path) as home, socket.socket() as other:
        server = Valkey(tmp_path / "valkey")
        home.settle_port(server)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        taken = server.port
        home.settle_port(server)
        assert server.port != taken


def test_the_secret_key_is_made_once_and_is_nobody_else_s_to_read(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        key = home.secret_key()
        assert len(key) >= 32
        assert (tmp_path / "secret-key").stat().st_mode & 0o077 == 0
        assert home.write_env({"POSTFLEET_SECRET_KEY": key}).stat().st_mode & 0o077 == 0
    with Home(tmp_path) as home:
        assert home.secret_key() == key
    with Home(tmp_path / "other") as home:
        assert home.secret_key() != key


def test_default_manifests_point_at_the_sink_and_keep_edits(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        folder = home.default_manifests(4711)
        assert sources.read([folder]).nodes[0].spec.smtp.port == 4711
        (folder / "pool.yaml").write_text((folder / "pool.yaml").read_text().replace("name: email", "name: mine"))
        assert sources.read([home.default_manifests(4712)]).pools[0].name == "mine"
