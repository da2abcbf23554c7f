"""What nobody wants any more goes, but not before its workers had their say."""

from __future__ import annotations

import pytest

from postfleet_operator.cluster import BrokenNode, BrokenPool, Stray
from postfleet_operator.spec import Metadata
from postfleet_operator.strays import DEPLOYMENT_SECONDS, SECRET_SECONDS, Strays

WORKERS = Stray("Deployment", "default", "email-acme-1")
LOGINS = Stray("Secret", "default", "email-acme-1-nodes")


def test_workers_go_after_a_while_and_their_logins_long_after_them() -> None:
    strays = Strays()
    assert strays.due([WORKERS, LOGINS], [], 0.0, 0.0) == []
    assert strays.due([WORKERS, LOGINS], [], 0.0, DEPLOYMENT_SECONDS) == [WORKERS]
    assert strays.due([LOGINS], [], 0.0, SECRET_SECONDS - 1) == []
    assert strays.due([LOGINS], [], 0.0, SECRET_SECONDS) == [LOGINS]


def test_who_is_wanted_again_meanwhile_starts_anew() -> None:
    strays = Strays()
    strays.due([WORKERS], [], 0.0, 0.0)
    strays.due([], [], 0.0, 5.0)
    assert strays.due([WORKERS], [], 0.0, DEPLOYMENT_SECONDS) == []


def test_nothing_goes_while_the_database_still_sends_mail_there() -> None:
    strays = Strays()
    strays.due([WORKERS], [], None, 0.0)
    assert strays.due([WORKERS], [], None, 1000.0) == []
    assert strays.due([WORKERS], [], 1000.0, 1000.0 + DEPLOYMENT_SECONDS - 1) == []
    assert strays.due([WORKERS], [], 1000.0, 1000.0 + DEPLOYMENT_SECONDS) == [WORKERS]


@pytest.mark.parametrize(
    ("resource", "stays"),
    [
        pytest.param(BrokenPool(Metadata("email"), ()), True, id="its pool"),
        pytest.param(BrokenPool(Metadata("email-acme"), ()), True, id="a pool that could be its"),
        pytest.param(BrokenNode(Metadata("acme-1"), ()), True, id="its node"),
        pytest.param(BrokenPool(Metadata("other"), ()), False, id="another pool"),
        pytest.param(BrokenNode(Metadata("acme-1", "far"), ()), False, id="a node elsewhere"),
    ],
)
def test_what_may_belong_to_somebody_who_cannot_be_read_stays(resource: BrokenPool | BrokenNode, stays: bool) -> None:
    strays = Strays()
    strays.due([WORKERS, LOGINS], [resource], 0.0, 0.0)
    due = strays.due([WORKERS, LOGINS], [resource], 0.0, SECRET_SECONDS)
    assert due == ([] if stays else [WORKERS, LOGINS])
