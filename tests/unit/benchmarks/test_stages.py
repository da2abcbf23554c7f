"""What `make bench` says of the stages of a mail: each is found, and nothing is counted twice or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from speed import fleet, stages
from speed.runs import Run, difference

RUN = Run(
    "postfleet", 1000, 500.0, 2.0,
    {"postgresql": 0.4, "valkey": 0.2, "smtp server": 0.1, "relay": 0.15, "workers": 1.1},
)  # fmt: skip
BEFORE = {"stages": {"claim": [0.5, 0.5]}, "process": 1.0, "missing": []}
AFTER = {
    "stages": {"claim": [0.6, 0.7], "load": [0.1, 0.3], "outcomes": [0.2, 0.5], "smtp": [0.3, 1.0]},
    "process": 2.1,
    "missing": [],
}
WITHIN = {"relay": 0.1, "worker": 0.2}


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, names in stages.STAGES.items() for name in names])
def test_every_function_of_a_stage_is_there(
    tmp_path: Path, stage: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "setattr", lambda *_: None, raising=False)  # nothing else here is to be measured
    meter = stages.Meter(tmp_path)
    meter.wrap(stage, name)
    assert meter.missing == []


def test_bookkeeping_is_made_of_stages() -> None:
    assert set(stages.BOOKKEEPING) <= stages.STAGES.keys()


def test_the_sums_of_all_processes_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps({"stages": {"smtp": [1, 2]}, "process": 3, "missing": ["b"]}))
    (tmp_path / "2.json").write_text(json.dumps({"stages": {"smtp": [1, 2]}, "process": 4, "missing": ["a", "b"]}))
    assert stages.read(tmp_path) == {"stages": {"smtp": [2.0, 4.0]}, "process": 7.0, "missing": ["a", "b"]}


def test_the_stages_together_are_all_the_cpu_of_a_mail() -> None:
    by_stage, missing = fleet._by_stage(RUN, WITHIN, BEFORE, AFTER)
    assert sum(by_stage.values()) == pytest.approx(RUN.cpu_us)
    assert by_stage["claim"] == pytest.approx(100)
    assert by_stage["runner, Dramatiq, rest"] == pytest.approx(1100 - 100 - 100 - 200 - 300)
    assert missing == ""


def test_what_postgresql_does_for_workers_is_split_by_how_long_each_waited() -> None:
    by_stage, _ = fleet._by_stage(RUN, WITHIN, BEFORE, AFTER)
    assert [by_stage[f"PostgreSQL for {stage}"] for stage in ("claim", "load", "outcomes")] == pytest.approx(
        [40, 60, 100]
    )


def test_bookkeeping_counts_the_servers_behind_it() -> None:
    kept = {"relay": 1.0, "claim": 1.0, "admission": 1.0, "journal": 1.0, "outcomes": 1.0, "Valkey": 1.0}
    kept |= {f"PostgreSQL for {stage}": 1.0 for stage in ("relay", "claim", "outcomes")}
    rest = {"smtp": 5.0, "render": 2.0, "PostgreSQL for load": 1.0, "SMTP server": 1.0}
    assert fleet.bookkeeping_share(kept | rest) == pytest.approx(0.5)


def test_the_cost_of_a_run_is_told_by_mail() -> None:
    assert RUN.cpu_us == pytest.approx(1950)
    told = RUN.as_json()
    assert (told["cpu_us_per_email"], told["cpu_seconds_per_1000"]["relay"]) == (1950.0, 0.15)


def test_what_was_added_is_counted_from_where_it_stood() -> None:
    assert difference({"relay": 1.5, "workers": 2.0}, {"relay": 2.0, "workers": 4.0}) == {"relay": 0.5, "workers": 2.0}
