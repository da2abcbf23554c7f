"""`postfleet jobs`, `tenants` and `nodes` on a real database, and the promises that every command keeps."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from command import Command, program
from postfleet_workers.cli import COMMANDS
from postfleet_workers.states import MOVES, State

AddJob = Callable[..., int]


@pytest.fixture
def add_job(engine: Engine) -> AddJob:
    def add_job(state: str = "available", *, mail: str | None = None, **columns: Any) -> int:
        row = {"type": "email.send", "queue": "campaign-standard", "tenant": "acme", **columns, "state": state}
        names = ", ".join(row)
        with engine.begin() as connection:
            job_id: int = connection.execute(
                text(f"INSERT INTO jobs ({names}) VALUES ({', '.join(f':{n}' for n in row)}) RETURNING id"), row
            ).scalar_one()
            if mail:
                connection.execute(
                    text("""INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, status)
                        VALUES (:job_id, 'acme', 'campaign', 'acme-1', 'a@example.org', '<x@example.org>', :status)"""),
                    {"job_id": job_id, "status": mail},
                )
        return job_id

    return add_job


def job(engine: Engine, job_id: int) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT * FROM jobs WHERE id = :id"), {"id": job_id}).one()


def mail(engine: Engine, job_id: int) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT * FROM emails WHERE job_id = :id"), {"id": job_id}).one()


def test_jobs_are_listed_newest_first_by_every_filter(postfleet: Command, add_job: AddJob) -> None:
    first = add_job("discarded", last_error="550 no\nsuch user")
    second = add_job("discarded", queue="retry", tenant="other")
    third = add_job("available")

    listed = postfleet("jobs", "list", "--output", "json").json
    assert [row["id"] for row in listed] == [third, second, first]
    assert listed[0]["run_at"].endswith("+00:00")
    for filters, ids in [
        (("--state", "discarded"), [second, first]),
        (("--queue", "retry"), [second]),
        (("--tenant", "other"), [second]),
        (("--type", "email.send", "--limit", 1), [third]),
        (("--type", "webhook.send"), []),
    ]:
        assert [row["id"] for row in postfleet("jobs", "list", *filters, "--output", "json").json] == ids

    table = postfleet("jobs", "list", "--state", "discarded", "--queue", "campaign-standard").out.splitlines()
    assert table[0].split()[:5] == ["ID", "TYPE", "QUEUE", "TENANT", "STATE"]
    assert table[1].endswith("550 no such user")


def test_stats_count_by_queue_and_state(postfleet: Command, add_job: AddJob) -> None:
    for state, queue in [("available", "a"), ("available", "a"), ("discarded", "a"), ("available", "b")]:
        add_job(state, queue=queue)

    assert postfleet("jobs", "stats", "--output", "json").json == [
        {"queue": "a", "state": "available", "count": 2},
        {"queue": "a", "state": "discarded", "count": 1},
        {"queue": "b", "state": "available", "count": 1},
    ]


def test_a_job_is_shown_with_its_attempts_and_its_mail(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    job_id = add_job("discarded", mail="failed", args=json.dumps({"a": 1}))
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO job_attempts (job_id, attempt, publication, worker, outcome, error) "
                 "VALUES (:id, 1, 1, 'w-1', 'transient', 'TLS failed')"),
            {"id": job_id},
        )  # fmt: skip

    shown = postfleet("jobs", "show", job_id, "--output", "json").json

    assert (shown["state"], shown["args"], shown["email_status"]) == ("discarded", {"a": 1}, "failed")
    assert [attempt["error"] for attempt in shown["attempts"]] == ["TLS failed"]
    assert "TLS failed" in postfleet("jobs", "show", job_id).out


@pytest.mark.parametrize(("state", "status"), [("discarded", "failed"), ("cancelled", "cancelled")])
def test_a_retried_job_starts_afresh_and_its_mail_is_queued(
    postfleet: Command, add_job: AddJob, engine: Engine, state: str, status: str
) -> None:
    job_id = add_job(state, mail=status, attempt=3, strikes=2, last_error="boom")

    answer = postfleet("jobs", "retry", job_id, "--output", "json")

    assert answer.json == [{"id": job_id, "was": state, "result": "available"}]
    row = job(engine, job_id)
    assert (row.state, row.attempt, row.strikes, row.finished_at, row.last_error) == ("available", 0, 0, None, "boom")
    assert mail(engine, job_id).status == "queued"


def test_a_cancelled_job_takes_its_mail_with_it(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    waiting = [("available", "queued"), ("scheduled", "deferred"), ("retryable", "queued")]
    ids = [add_job(state, mail=status) for state, status in waiting]

    assert postfleet("jobs", "cancel", *ids).code == 0

    assert {job(engine, i).state for i in ids} == {"cancelled"}
    assert {mail(engine, i).status for i in ids} == {"cancelled"}
    assert all(mail(engine, i).finished_at for i in ids)


def test_a_running_job_is_asked_to_stop(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    job_id = add_job("executing", mail="sending", claimed_by="w-1")

    assert postfleet("jobs", "cancel", job_id, "--output", "json").json[0]["result"] == "cancel requested"

    row = job(engine, job_id)
    assert (row.state, row.cancel_requested, row.claimed_by) == ("executing", True, "w-1")
    assert mail(engine, job_id).status == "sending"


def test_a_discarded_job_is_a_dead_letter(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    job_id = add_job("retryable", mail="queued")

    assert postfleet("jobs", "discard", job_id).code == 0
    assert (job(engine, job_id).state, mail(engine, job_id).status) == ("discarded", "failed")


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(("verb", "to"), [("retry", "available"), ("cancel", "cancelled"), ("discard", "discarded")])
def test_no_verb_makes_a_move_that_states_forbid(
    postfleet: Command, add_job: AddJob, engine: Engine, verb: str, to: str, state: State
) -> None:
    job_id = add_job(state)

    answer = postfleet("jobs", verb, job_id)

    after = State(job(engine, job_id).state)
    assert after == state or after in MOVES[state]
    if answer.code == 0 and state != State.EXECUTING:
        assert after == to
    if answer.code == 1:
        assert after == state
        assert answer.err == f"postfleet: 1 of 1 jobs not moved: job {job_id} is {state}, cannot become {to}\n"


def test_one_unknown_id_changes_nothing(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    job_id = add_job("discarded")

    answer = postfleet("jobs", "retry", job_id, 999)

    assert (answer.code, answer.err) == (2, "postfleet: no job with id 999; nothing was changed\n")
    assert job(engine, job_id).state == "discarded"


def test_all_dead_letters_of_a_queue_are_retried(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    ours = [add_job("discarded", queue="a") for _ in range(3)]
    other = add_job("discarded", queue="b")

    answer = postfleet("jobs", "retry", "--state", "discarded", "--queue", "a", "--output", "json")

    assert answer.json == {"found": 3, "retried": 3}
    assert {job(engine, i).state for i in ours} == {"available"}
    assert job(engine, other).state == "discarded"


def test_a_unique_key_is_never_held_by_two(postfleet: Command, add_job: AddJob, engine: Engine) -> None:
    older, newer = (add_job("discarded", unique_key="k") for _ in range(2))

    assert postfleet("jobs", "retry", "--state", "discarded", "--output", "json").json == {"found": 2, "retried": 1}
    assert (job(engine, older).state, job(engine, newer).state) == ("discarded", "available")
    answer = postfleet("jobs", "retry", older)
    assert (answer.code, "another job has its unique key" in answer.err) == (1, True)


def test_retrying_wakes_the_relay(postfleet: Command, add_job: AddJob, database_url: str) -> None:
    import psycopg

    job_id = add_job("discarded", queue="a")
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN postfleet_jobs")
        postfleet("jobs", "retry", job_id)

        assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == ["a"]


def test_tenants_are_made_changed_and_paused(postfleet: Command) -> None:
    made = postfleet("tenants", "set", "acme", "--weight", 3, "--per-minute", 600, "--output", "json").json
    changed = postfleet("tenants", "set", "acme", "--per-day", 5000, "--pause", "--output", "json").json
    lifted = postfleet("tenants", "set", "acme", "--per-minute", "none", "--resume", "--output", "json").json

    acme = {"name": "acme", "weight": 3, "per_minute": 600, "per_day": None, "paused": False}
    assert made == [acme]
    assert changed == [{**acme, "per_day": 5000, "paused": True}]
    assert lifted == [{**acme, "per_minute": None, "per_day": 5000}]
    assert postfleet("tenants", "list").out.splitlines()[1].split() == ["acme", "3", "5000", "no"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "9999999999"])
def test_a_limit_is_a_positive_number_or_none(postfleet: Command, value: str) -> None:
    answer = postfleet("tenants", "set", "acme", f"--per-minute={value}")

    assert answer.code == 2
    assert "neither a positive number nor none" in answer.err


def test_help_names_every_command() -> None:
    answer = program("--help", env={})

    assert answer.code == 0
    assert all(f"  {name} " in answer.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        pytest.param(
            ("jobs", "list"), "POSTFLEET_DATABASE_URL is not set; set it in the environment", id="no settings"
        ),
        pytest.param(("jbos",), "No such command 'jbos'", id="unknown command"),
        pytest.param(("jobs", "list", "--state", "lost"), "Invalid value for '--state'", id="bad option"),
        pytest.param(("jobs", "show", "x"), "'x' is not a valid integer", id="bad argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: tuple[str, ...], line: str) -> None:
    answer = program(*args, env={})

    assert answer.code == 2
    assert answer.err.startswith("postfleet: ")
    assert line in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"POSTFLEET_DATABASE_URL": "mysql://h/d"}, "'mysql' is not PostgreSQL"),
        ({"POSTFLEET_DATABASE_URL": "nonsense"}, "POSTFLEET_DATABASE_URL: "),
        (
            {"POSTFLEET_DATABASE_URL": "postgresql://h/d", "POSTFLEET_LEASE_SECONDS": "x"},
            "POSTFLEET_LEASE_SECONDS='x': ",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_named(env: dict[str, str], line: str) -> None:
    answer = program("jobs", "list", env={"POSTFLEET_REDIS_URL": "redis://127.0.0.1:1/0", **env})

    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert line in answer.err


def test_without_postgresql_a_command_says_that_it_waits_and_then_fails() -> None:
    with socket.socket() as taken:  # bound, not listening: nobody can connect
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://postfleet@127.0.0.1:{taken.getsockname()[1]}/postfleet"

        answer = program(
            "jobs",
            "list",
            env={
                "POSTFLEET_DATABASE_URL": url,
                "POSTFLEET_REDIS_URL": "redis://127.0.0.1:1/0",
                "POSTFLEET_START_WAIT_SECONDS": "1",
            },
        )

    assert answer.code == 1
    assert answer.out == ""
    waiting, failure = answer.err.splitlines()
    assert "waiting" in waiting
    assert "PostgreSQL" in waiting
    assert failure.startswith("postfleet: PostgreSQL: ")
    assert "waited 1 s" in failure


def test_a_database_without_tables_says_what_to_do(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Command(postgres.url(), monkeypatch)("jobs", "list")

    assert answer.code == 1
    assert answer.err == "postfleet: the database has no Postfleet tables yet; run `postfleet migrate` first\n"
