"""The operator's environment, and what Deployments are rendered with."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from postfleet_operator.deployment import RenderSettings, SecretKey
from postfleet_operator.settings import Settings

URLS = {"database_url": "postgresql://h/db", "redis_url": "redis://h"}


def settings(**given: str) -> Settings:
    return Settings(**URLS, worker_image="worker:1", **given)  # type: ignore[arg-type]


def test_by_default_one_secret_has_both_urls() -> None:
    assert settings().render == RenderSettings("worker:1", "postfleet-connections")


def test_each_url_of_the_workers_may_be_in_a_secret_of_its_own() -> None:
    given = settings(database_secret="pg.app/uri", redis_secret="cache/REDIS_URL", key_secret="k/key").render
    assert given.database_secret == SecretKey("pg.app", "uri")
    assert given.redis_secret == SecretKey("cache", "REDIS_URL")
    assert given.key_secret == SecretKey("k", "key")


@pytest.mark.parametrize("text", ["pg", "/uri", "pg/", "a/b/c", "Pg/uri"])
def test_a_place_is_a_secret_and_a_key(text: str) -> None:
    with pytest.raises(ValidationError, match="database_secret"):
        settings(database_secret=text)


def test_lists_are_separated_by_commas() -> None:
    given = settings(worker_pull_secrets="registry, mirror,", namespaces="a,b")
    assert given.render.pull_secrets == ("registry", "mirror")
    assert given.watched == ("a", "b")
