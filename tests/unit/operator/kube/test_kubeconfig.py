"""What a kubeconfig says, and one line about each thing that can be wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from postfleet_operator.errors import InputError
from postfleet_operator.kube import kubeconfig
from postfleet_operator.kube.kubeconfig import access

GOOD: dict[str, Any] = {
    "current-context": "here",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "s3cret"}}],
    "contexts": [
        {"name": "here", "context": {"cluster": "c", "user": "u"}},
        {"name": "shop", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
    ],
}


def cluster(server: str, **fields: str) -> dict[str, Any]:
    return {"clusters": [{"name": "c", "cluster": {"server": server, **fields}}]}


def written(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


def test_the_current_context_is_used_unless_another_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "config")
    found = access(path)
    assert (found.configuration.host, found.source, found.namespace) == ("https://127.0.0.1:6443", str(path), "default")
    assert access(path, "shop").namespace == "shop"
    assert access(written(path, **{"current-context": "shop"})).namespace == "shop"


def test_a_context_may_be_named_where_none_is_current(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump({key: value for key, value in GOOD.items() if key != "current-context"}))
    assert access(path, "shop").namespace == "shop"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hello s3cret", "is no kubeconfig, give what `kubectl config view --raw` prints"),
        ("", "is no kubeconfig, give what `kubectl config view --raw` prints"),
        ("a: 1\nb: [s3cret", "is no YAML, give a kubeconfig"),
        ("a: 1", "has no current-context, give a kubeconfig with one"),
        (json.dumps(GOOD | {"current-context": "nowhere"}), "has no context nowhere, name one that it has"),
        (json.dumps(GOOD | {"clusters": []}), "has no cluster c, name one that it has"),
        (json.dumps(GOOD | {"clusters": "s3cret"}), "has no name, give a kubeconfig with one"),
        (json.dumps(GOOD | {"contexts": 5}), "is no kubeconfig that can be used (TypeError)"),
        (json.dumps(GOOD | {"users": [{"name": "u", "token": "s3cret"}]}), "has no user, give a kubeconfig with one"),
        (json.dumps(GOOD | cluster("s3cret")), "its server is no URL"),
        (json.dumps(GOOD | cluster("https://h", **{"certificate-authority": "/no/ca"})), "is not there: /no/ca"),
        (json.dumps(GOOD | cluster("https://h", **{"certificate-authority-data": "s3cret"})), "can be used (Error)"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file_and_no_secret(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        access(path)
    assert str(raised.value).startswith(str(path))
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^no cluster: /nonexistent: no such file$"):
        access(Path("/nonexistent"))
    with pytest.raises(InputError, match=f"^{tmp_path}: cannot be read: Is a directory$"):
        access(tmp_path)
    monkeypatch.setattr(kubeconfig, "KUBE_CONFIG_DEFAULT_LOCATION", f"/no/a{os.pathsep}/no/b")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match=r"^no cluster: /no/a and /no/b: no such file; run in a pod, or name"):
        access()


def test_several_files_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text(yaml.safe_dump({"contexts": GOOD["contexts"], "current-context": "shop"}))
    second.write_text(yaml.safe_dump({"clusters": GOOD["clusters"], "users": GOOD["users"]}))
    monkeypatch.setattr(kubeconfig, "KUBE_CONFIG_DEFAULT_LOCATION", os.pathsep.join(map(str, (first, "/no", second))))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    found = access()
    assert (found.namespace, found.source) == ("shop", f"{first} and {second}")
