"""As many contacts as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from postfleet_local.audience import write


@pytest.mark.parametrize(
    ("count", "emails"),
    [
        (1, ["a@x"]),
        (2, ["a@x", "b@x"]),
        (5, ["a@x", "b@x", "a+1@x", "b+1@x", "a+2@x"]),
    ],
)
def test_more_people_are_made_of_the_same_ones(tmp_path: Path, count: int, emails: list[str]) -> None:
    (tmp_path / "in.csv").write_text('name,Email\n"A, Ann",a@x\nB,b@x\n')
    write(tmp_path / "in.csv", tmp_path / "out.csv", count)
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "name,Email"
    assert [line.rsplit(",", 1)[1] for line in lines] == emails
    assert lines[0] == '"A, Ann",a@x'
