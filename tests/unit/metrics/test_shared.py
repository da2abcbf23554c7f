"""The folder that a worker's processes count into; what they show together is in the integration tests."""

from __future__ import annotations

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.metrics.shared import SharedMetrics


def test_without_a_temporary_folder_a_worker_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(prefix: str) -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(InputError, match="TMPDIR: no usable"):
        SharedMetrics()
