"""URLs that cannot be read are refused at the start, in words that hold no password."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from postfleet_operator import cli
from postfleet_operator.errors import InputError
from postfleet_operator.stores import check_database, check_redis, database, redis_client
from unit.operator.test_cli import POOL

DATABASE = [
    pytest.param("postgresql://u:s3cret%zz@h/d", id="a percent sign"),
    pytest.param("postgresql://u:5/s3cret@h/d", id="a slash"),
    pytest.param("postgresql://u:s3cret/x@h/d", id="a slash after letters"),
    pytest.param("postgresql://u:5@s3cret@h/d", id="an at sign"),
    pytest.param("postgressql://u:s3cret@h/d", id="a misspelt scheme"),
    pytest.param("postgressql://u:s3cret@h/d?sslmode=require", id="a misspelt scheme and a parameter"),
    pytest.param("postgresql://u:p@h/d?s3cret=1", id="an unknown parameter"),
    pytest.param("postgresql://u:p@h:s3cret/d", id="no port"),
    pytest.param("postgresql://u:s3cret@h:99999/d", id="no port that there is"),
    pytest.param("host=h password=s3cret more", id="words"),
    pytest.param("", id="nothing"),
]
REDIS = [
    pytest.param("redis://:s3cret/x@h:6379/0", id="a slash"),
    pytest.param("redis://:5/s3cret@h:6379/0", id="a slash after a digit"),
    pytest.param("redis://:5#s3cret@h:6379/0", id="a hash"),
    pytest.param("redis://:5?s3cret@h:6379/0", id="a question mark"),
    pytest.param("redis://:[s3cret@h:6379/0", id="a bracket"),
    pytest.param("reddis://:s3cret@h:6379/0", id="a misspelt scheme"),
    pytest.param("redis://h:s3cret/0", id="no port"),
    pytest.param("redis://h/s3cret", id="no database number"),
    pytest.param("redis://h/0?s3cret=1", id="an unknown parameter"),
    pytest.param("", id="nothing"),
]


@pytest.mark.parametrize("url", DATABASE)
def test_a_postgresql_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match=r"^POSTFLEET_DATABASE_URL: .*%25") as caught:
        check_database(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%25%40%2F%3A@h:5432/d",
        "postgres://u@h",
        "postgresql://",
        "postgresql:///db?host=@pg",
        "postgresql://u:p@h/my%40db",
        "postgresql://u:p@h1:5432,h2:5433/d?target_session_attrs=any",
        "postgresql://u:p@[::1]:5432/d?sslmode=require",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun/d",
        "host=h user=u password='s p@ce' dbname=d",
    ],
)
def test_a_postgresql_url_that_can_be_read_is_taken(url: str) -> None:
    check_database(url)


@pytest.mark.parametrize("url", REDIS)
def test_a_redis_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match=r"^POSTFLEET_REDIS_URL: .*%25") as caught:
        check_redis(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^POSTFLEET_REDIS_URL: "):
        redis_client(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://:p%25%40@h:6379/1",
        "redis://h/0?password=a@b",
        "rediss://u:p@ss@[::1]:6379/0?ssl_cert_reqs=none",
        "redis://h?db=2&socket_timeout=1",
        "unix:///run/redis.sock?db=1&password=p@ss",
    ],
)
def test_a_redis_url_that_can_be_read_is_taken(url: str) -> None:
    check_redis(url)


def test_what_psycopg_cannot_read_is_told_in_our_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = database("postgresql://u:p@h/d")

    def misread(*_: object, **__: object) -> None:
        raise psycopg.ProgrammingError('invalid percent-encoded token: "s3cret%zz"')

    monkeypatch.setattr(psycopg, "connect", misread)
    with pytest.raises(psycopg.OperationalError) as caught:
        connect()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("arguments", "name", "url"),
    [
        (("run",), "POSTFLEET_DATABASE_URL", "postgresql://u:s3cret%zz@h/d"),
        (("run",), "POSTFLEET_REDIS_URL", "redis://:s3cret/x@h:6379/0"),
        (("simulate", "-f", "pool.yaml", "--from-database"), "POSTFLEET_DATABASE_URL", "postgressql://u:s3cret@h/d"),
    ],
)
def test_a_command_ends_with_one_line(
    arguments: tuple[str, ...],
    name: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pool.yaml").write_text(POOL)
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", "postgresql://u:p@h/d")
    monkeypatch.setenv("POSTFLEET_REDIS_URL", "redis://h")
    monkeypatch.setenv(name, url)
    monkeypatch.setattr("sys.argv", ["postfleet-operator", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"{name}: ")
    assert "s3cret" not in err
