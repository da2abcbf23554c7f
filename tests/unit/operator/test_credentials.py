"""Workers see the logins of their nodes as files, and only whole ones."""

from __future__ import annotations

from typing import Any

from postfleet_operator.credentials import Credentials, gather, render_secret
from postfleet_operator.spec import API_VERSION, SendingNode, parse_node
from unit.operator.building import pool


def node(name: str, secret: str | None = None, namespace: str = "default") -> SendingNode:
    smtp: dict[str, Any] = {"host": "mx"} | ({"credentialsSecretRef": {"name": secret}} if secret else {})
    metadata = {"name": name, "namespace": namespace}
    spec = {"smtp": smtp, "identity": {"domain": "example.com"}}
    return parse_node({"apiVersion": API_VERSION, "kind": "SendingNode", "metadata": metadata, "spec": spec})


def test_each_node_with_a_login_gets_two_files() -> None:
    secrets = {("default", "smtp"): {"username": "u", "password": "p", "other": "x"}}
    found = gather([node("a", "smtp"), node("b")], secrets)
    assert found == Credentials({"a.username": "u", "a.password": "p"})


def test_a_missing_secret_or_key_is_a_problem_and_gives_no_half_login() -> None:
    secrets = {("default", "half"): {"username": "u"}, ("other", "smtp"): {"username": "u", "password": "p"}}
    found = gather([node("a", "smtp"), node("b", "half")], secrets)
    assert found.files == {}
    assert found.problems == (
        "SendingNode a: spec.smtp.credentialsSecretRef: there is no Secret smtp in namespace default",
        "SendingNode b: spec.smtp.credentialsSecretRef: Secret half lacks password",
    )


def test_the_rendered_secret_is_the_one_that_the_deployment_mounts() -> None:
    secret = render_secret(pool(), Credentials({"a.username": "u"}))
    assert (secret["metadata"]["name"], secret["stringData"]) == ("email-nodes", {"a.username": "u"})


def test_credentials_do_not_show_their_values() -> None:
    assert "hidden" not in repr(Credentials({"a.password": "hidden"}))
