"""What a command imports before it runs: `postfleet worker` must be up fast, and needs nothing of the people's side."""

from __future__ import annotations

import subprocess
import sys

import pytest

PEOPLES = ("email_validator", "yaml", "postfleet_workers.contacts", "postfleet_workers.campaigns.spec")


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        pytest.param("import postfleet_workers.cli", (*PEOPLES, "sqlalchemy", "pydantic", "redis", "rich"), id="help"),
        pytest.param("import postfleet_workers.commands.processes", (*PEOPLES, "alembic"), id="worker"),
        pytest.param("import postfleet_workers.actors.campaign_expand", PEOPLES, id="campaign.expand"),
        pytest.param("import postfleet_workers.commands.contacts", ("dramatiq", "liquid", "redis"), id="contacts"),
    ],
)
def test_a_command_imports_only_what_it_needs(code: str, unwanted: tuple[str, ...]) -> None:
    check = f"{code}; import sys; print(*sorted(set({unwanted!r}) & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
