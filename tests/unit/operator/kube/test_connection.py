"""kopf's watches reach the API server by the same way as the operator's own calls, and as the same user."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration
from kubernetes.config.incluster_config import InClusterConfigLoader

from postfleet_operator.handlers import connection
from postfleet_operator.kube.kubeconfig import access


def kubeconfig(folder: Path, **user: Any) -> Path:
    path = folder / "config"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def in_cluster(tmp_path: Path) -> Configuration:
    """As a pod has it."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("certificate")
    loader = InClusterConfigLoader(
        token_filename=str(tmp_path / "token"),
        cert_filename=str(tmp_path / "ca.crt"),
        environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"},
    )
    loader._token_refresh_period = timedelta(0)
    found = Configuration()
    loader.load_and_set(found)  # type: ignore[no-untyped-call]
    return found


def test_a_pod_s_token_is_used(in_cluster: Configuration) -> None:
    found = connection(in_cluster)
    assert (found.server, found.scheme, found.token) == ("https://10.0.0.1:443", "bearer", "first")


def test_a_token_that_was_renewed_is_the_one_that_is_used(in_cluster: Configuration, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("second")
    assert connection(in_cluster).token == "second"


def test_the_token_of_a_kubeconfig_is_used(tmp_path: Path) -> None:
    found = connection(access(kubeconfig(tmp_path, token="t")).configuration)
    assert (found.server, found.scheme, found.token) == ("https://api.example:6443", "Bearer", "t")


def test_without_a_token_there_is_none(tmp_path: Path) -> None:
    found = connection(access(kubeconfig(tmp_path)).configuration)
    assert (found.scheme, found.token) == (None, None)
