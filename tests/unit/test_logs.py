"""What reaches the log of a long-running command: an exception tells where it happened, not what was at hand there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from postfleet_workers.logs import configure

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("dramatiq", "alembic")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def log_in(password: str) -> None:
    login = {"password": password}
    raise ConnectionError(f"no login with {len(login)} field")


def logged(log_format: str, by: str, capsys: pytest.CaptureFixture[str]) -> str:
    configure(log_format, "INFO")
    try:
        log_in("-".join(["hunter2"] * 2))  # not a literal: a traceback shows source lines
    except ConnectionError:
        if by == "structlog":
            structlog.get_logger("test").exception("failed", node="acme-1")
        else:
            logging.getLogger("dramatiq.worker").error("failed", exc_info=True)
    return capsys.readouterr().err


@pytest.mark.parametrize("by", ["structlog", "logging"])
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_exception_is_logged_without_the_values_of_its_frames(
    log_format: str, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = logged(log_format, by, capsys)
    assert "no login with 1 field" in text
    assert "log_in" in text
    assert SECRET not in text


def test_json_is_one_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = logged("json", "structlog", capsys).splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["node"]) == ("failed", "error", "acme-1")
