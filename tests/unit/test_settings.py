"""The workers' settings: read once, never changed, each with a word of explanation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from postfleet_workers.settings import Settings

URLS = {"POSTFLEET_DATABASE_URL": "postgresql://db/p", "POSTFLEET_REDIS_URL": "redis://cache"}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POSTFLEET_{name.upper()}", raising=False)
    for name, value in URLS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_in_a_sentence(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_settings_come_from_the_environment(env: pytest.MonkeyPatch) -> None:
    env.setenv("POSTFLEET_LEASE_SECONDS", "3.5")
    settings = Settings()
    assert (settings.database_url, settings.lease_seconds) == ("postgresql://db/p", 3.5)


def test_settings_cannot_be_changed_after_they_were_read(env: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().lease_seconds = 1.0  # type: ignore[misc]


def test_the_database_must_be_named(env: pytest.MonkeyPatch) -> None:
    env.delenv("POSTFLEET_DATABASE_URL")
    with pytest.raises(ValidationError, match="database_url"):
        Settings()


def test_redis_is_named_only_where_it_is_used(env: pytest.MonkeyPatch) -> None:
    env.delenv("POSTFLEET_REDIS_URL")
    assert Settings().redis_url == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("lease_seconds", "0", id="a lease of no time"),
        pytest.param("relay_poll_seconds", "-1", id="a negative poll"),
        pytest.param("reserved_fraction", "0.6", id="more than half of the threads reserved"),
        pytest.param("health_port", "70000", id="a port beyond the last"),
        pytest.param("log_level", "LOUD", id="an unknown level"),
        pytest.param("log_format", "xml", id="an unknown format"),
    ],
)
def test_a_value_out_of_range_is_refused(env: pytest.MonkeyPatch, name: str, value: str) -> None:
    env.setenv(f"POSTFLEET_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()
