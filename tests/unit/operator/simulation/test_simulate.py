"""`postfleet-operator simulate` as people run it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from postfleet_operator.cli import cli, main
from postfleet_operator.spec import parse_pool
from unit.operator.building import manifest

POLICIES = ["postfleet", "keda_default", "keda_tuned", "kpa"]
NUMBERS = [
    "wait_p50_seconds",
    "wait_p95_seconds",
    "wait_p99_seconds",
    "slo_miss_fraction",
    "replica_hours",
    "scale_changes",
    "max_replicas",
]
TRACE = "seconds,arrivals\n" + "".join(f"{second},{3 + 50 * (second == 60)}\n" for second in range(180))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pool and a trace, and nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTFLEET_DATABASE_URL", raising=False)
    policy = {"target": {"latencySeconds": 5}}
    Path("pool.yaml").write_text(yaml.safe_dump(manifest(autoscaling=policy, worker={"threads": 2, "processes": 2})))
    Path("trace.csv").write_text(TRACE)
    return tmp_path


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["simulate", "-f", "pool.yaml", *arguments])


def answer(*arguments: str) -> dict[str, object]:
    result = simulate("--trace", "trace.csv", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def refused(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["postfleet-operator", "simulate", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    assert (caught.value.code, told.out) == (2, "")
    assert len(told.err.splitlines()) == 1
    return told.err.rstrip("\n")


def test_the_json_has_every_number_of_every_policy(files: Path) -> None:
    found = answer()
    assert list(found["policies"]) == POLICIES  # type: ignore[call-overload]
    assert all(list(numbers) == NUMBERS for numbers in found["policies"].values())  # type: ignore[attr-defined]
    assert found["trace"] == {"name": "trace", "seconds": 180, "jobs": 590}


def test_the_table_has_a_line_for_each(files: Path) -> None:
    result = simulate("--trace", "trace.csv")
    heading, empty, columns, *lines = result.stdout.split("\n\nThat a job")[0].splitlines()
    assert heading.startswith("trace: 590 jobs in 0:03:00, each to begin within 5 s; 0 to 20 replicas of 4 threads")
    assert (empty, columns.split()[0]) == ("", "policy")
    assert [line.split()[0] for line in lines] == POLICIES
    assert result.stderr == ""


def test_what_was_assumed_and_what_explains_the_costs_is_said(files: Path) -> None:
    assert "That a job takes 1 s is an assumption" in simulate("--trace", "trace.csv").stdout
    assert "assumption" not in simulate("--trace", "trace.csv", "--service-seconds", "1").stdout
    floors = {"schedules": [{"cron": "0 0 * * *", "durationMinutes": 60, "minReplicas": 7}]}
    Path("pool.yaml").write_text(yaml.safe_dump(manifest(autoscaling=floors)))
    told = "postfleet keeps the floors of spec.autoscaling.schedules, up to 7 replicas, work or not; the others have"
    assert told in simulate("--trace", "trace.csv").stdout
    tuned = simulate("--trace", "trace.csv", "--tune", "1").stdout
    assert f"# {told}" in tuned
    assert "autoscaling" in yaml.safe_load(tuned)["spec"]


def test_the_options_shape_the_fleet(files: Path) -> None:
    found = answer(
        "--threads", "3", "--service-seconds", "0.5", "--startup-seconds", "7", "--permitted-rate", "2",
        "--slo-seconds", "9",
    )  # fmt: skip
    assert found["fleet"] == {
        "threads": 6,
        "service_seconds": 0.5,
        "startup_seconds": 7.0,
        "permitted_rate": 2.0,
        "min_replicas": 0,
        "max_replicas": 20,
    }
    assert found["slo_seconds"] == 5.0, "the pool's own target counts"


def test_twice_the_same_is_the_same(files: Path) -> None:
    assert answer() == answer()


def test_a_shipped_trace_goes_by_its_name(files: Path) -> None:
    result = simulate("--trace", "burst", "--json", "--threads", "100")
    assert json.loads(result.stdout)["trace"]["name"] == "burst"


def test_the_plot_is_drawn(files: Path) -> None:
    assert simulate("--trace", "trace.csv", "--plot", "out.svg").exit_code == 0
    assert ET.parse(files / "out.svg").getroot().tag.endswith("svg")


def test_a_proposal_is_yaml_to_paste(files: Path) -> None:
    result = simulate("--trace", "trace.csv", "--tune", "0.2")
    assert result.exit_code == 0, result.output
    proposed = yaml.safe_load(result.stdout)
    pool = parse_pool(manifest(autoscaling=proposed["spec"]["autoscaling"]))
    assert pool.spec.autoscaling.target.latency_seconds is not None


def test_a_proposal_as_json_says_whether_it_keeps_the_target(files: Path) -> None:
    found = answer("--tune", "0.2")["proposal"]
    assert found["reached"] is True  # type: ignore[index]
    assert list(found["outcome"]) == NUMBERS  # type: ignore[index]


def test_a_target_out_of_reach_is_a_failure_and_the_best_is_shown(files: Path) -> None:
    result = simulate("--trace", "trace.csv", "--tune", "0", "--service-seconds", "60", "--threads", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("no policy that was tried misses as few as 0.00 %: raise maxReplicas")
    assert "autoscaling" in yaml.safe_load(result.stdout)["spec"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "postfleet-operator: give either --trace or --from-database"),
        (("--trace", "burst", "--from-database"), "postfleet-operator: give either --trace or --from-database"),
        (("--trace", "nope.csv"), "nope.csv: no such file and no shipped trace; give a CSV file or one of burst"),
        (("--trace", "bad.csv"), "bad.csv:3: arrivals is '-1', give a whole number from 0 on"),
        (("--trace", "burst", "--plot", "no/out.svg"), "no/out.svg: cannot be written: No such file or directory"),
        (
            ("--trace", "burst", "--permitted-rate", "1e-9"),
            "--permitted-rate 1e-09: 20,156 jobs take longer than 31 days",
        ),
        (("--trace", "burst", "--window", "6h"), "postfleet-operator: --window is for --from-database"),
        (("--from-database", "--begins-at", "2026-01-01T00:00"), "postfleet-operator: --begins-at is for --trace"),
        (("--trace", "burst", "--tune", "1.5"), "postfleet-operator: Invalid value for '--tune': '1.5' is no number"),
        (("--trace", "burst", "--service-seconds", "0"), "postfleet-operator: Invalid value for '--service-seconds'"),
        (("--trace", "burst", "--service-seconds", "nan"), "postfleet-operator: Invalid value for '--service-seconds'"),
        (("--trace", "burst", "--startup-seconds", "inf"), "postfleet-operator: Invalid value for '--startup-seconds'"),
        (("--trace", "burst", "--threads", "0"), "postfleet-operator: Invalid value for '--threads'"),
        (
            ("--from-database", "--window", "1y"),
            "postfleet-operator: Invalid value for '--window': '1y' is no duration",
        ),
        (("--from-database",), "POSTFLEET_DATABASE_URL: is missing, set it in the environment"),
    ],
)
def test_bad_input_is_one_line(
    files: Path,
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("bad.csv").write_text("seconds,arrivals\n0,5\n1,-1\n")
    assert refused("-f", "pool.yaml", *arguments, capsys=capsys, monkeypatch=monkeypatch).startswith(told)


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("", 2, "POSTFLEET_DATABASE_URL: "),
        ("nonsense", 2, "POSTFLEET_DATABASE_URL: "),
        ("mysql://x/y", 2, "POSTFLEET_DATABASE_URL: "),
        ("postgresql://u@127.0.0.1:99999/d", 2, "POSTFLEET_DATABASE_URL: "),
        ("postgresql://u@127.0.0.1/d?sslmode=often", 2, "POSTFLEET_DATABASE_URL: sslmode may not have that value"),
        ("postgresql://u@127.0.0.1:1/d", 1, "postfleet-operator: PostgreSQL: connection failed: "),
    ],
)
def test_a_url_that_cannot_be_used_is_bad_input_and_a_server_that_is_away_is_none(
    files: Path,
    url: str,
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", url)
    monkeypatch.setattr(sys, "argv", ["postfleet-operator", "simulate", "-f", "pool.yaml", "--from-database"])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out, len(err.splitlines())) == (code, "", 1)
    assert err.startswith(told)


def test_the_pool_is_chosen_among_several(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("two.yaml").write_text(yaml.safe_dump_all([manifest("email"), manifest("import", queues=["import"])]))
    told = refused("-f", "two.yaml", "--trace", "burst", capsys=capsys, monkeypatch=monkeypatch)
    assert told == "two.yaml: holds 2 JobPools, choose one with --pool: email, import"
    told = refused("-f", "two.yaml", "--trace", "burst", "--pool", "x", capsys=capsys, monkeypatch=monkeypatch)
    assert told == "two.yaml: holds no JobPool x; --pool may be one of email, import"
    result = CliRunner().invoke(cli, ["simulate", "-f", "two.yaml", "--pool", "import", "--trace", "trace.csv"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("option", "told"), [((), "kpa: "), (("--tune", "1"), "policy 2, best so far ")])
def test_a_terminal_is_told_how_far_it_is(files: Path, option: tuple[str, ...], told: str) -> None:
    code = "from postfleet_operator.cli import main; main()"
    reader, terminal = os.openpty()
    command = [sys.executable, "-c", code, "simulate", "-f", "pool.yaml", "--trace", "trace.csv", *option]
    with (
        os.fdopen(reader, "rb", buffering=0) as shown,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal) as program,
    ):
        os.close(terminal)
        text = ""
        with contextlib.suppress(OSError):  # how a terminal ends whose last program is gone
            while piece := shown.read(65_536):
                text += piece.decode()
        assert program.wait(60) == 0
    assert f"\r{told}" in text
    assert text.endswith(" \r"), "nothing is left behind"


def test_nothing_but_the_answer_is_printed_without_a_terminal(files: Path) -> None:
    code = "from postfleet_operator.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "simulate", "-f", "pool.yaml", "--trace", "trace.csv", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert list(json.loads(result.stdout)["policies"]) == POLICIES
