"""Fixtures of the suite that runs against a real API server: `make test-cluster`.

The control plane is started once for a test session; every test has a namespace of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import redis

sys.path.insert(0, str(Path(__file__).resolve().parent))

from assets import AssetsError, folder
from cluster_worlds import World
from nodeagent import Agent
from servers import ControlPlane

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the project's CRDs."""
    try:
        assets = folder()
    except AssetsError as error:
        pytest.fail(str(error), pytrace=False)
    plane = ControlPlane(assets, tmp_path_factory.mktemp("plane"))
    try:
        plane.start()
        plane.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards."""
    name = f"test-{uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def world(
    plane: ControlPlane,
    namespace: str,
    redis_client: redis.Redis,
    redis_url: str,
    database_url: str,
    tmp_path: Path,
) -> Iterator[World]:
    """The test's own namespace, Redis, database and operators."""
    with ExitStack() as exits:
        yield World(plane, namespace, redis_client, redis_url, database_url, tmp_path, exits)


@pytest.fixture
def agent(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Agent]:
    """A Node for the test's namespace: its pods run as processes."""
    agent = Agent(plane, namespace, tmp_path / "pods")
    try:
        agent.start()
        yield agent
    finally:
        agent.close()
