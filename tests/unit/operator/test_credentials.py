"""Workers see the logins of their nodes as files, only whole ones, and only those of the nodes that they serve."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.credentials import MOST_BYTES, Credentials, Keys, by_node, fit, gather, render_secret, serves
from postfleet_operator.reasons import Reason
from postfleet_operator.spec import SendingNode, parse_node
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import node_manifest, pool


def node(name: str, secret: str | None = None, namespace: str = "default", **spec: Any) -> SendingNode:
    smtp: dict[str, Any] = {"host": "smtp"} | ({"credentialsSecretRef": {"name": secret}} if secret else {})
    given = node_manifest(name, smtp=smtp, **spec)
    return parse_node({**given, "metadata": {"name": name, "namespace": namespace}})


def dedicated(name: str, of: str = "email") -> SendingNode:
    return node(name, "smtp", workers={"poolRef": {"name": of}, "placement": "Dedicated"})


def signing(name: str, secret: str | None = None, **key: str) -> SendingNode:
    reference = {"name": "dkim", **key}
    identity = {"domain": "example.com", "dkim": {"selector": "s1", "privateKeySecretRef": reference}}
    return node(name, secret, identity=identity)


def test_each_node_with_a_login_has_two_files() -> None:
    secrets = {("default", "smtp"): {"username": "u", "password": "p", "other": "x"}}
    found = gather([node("a", "smtp"), node("b")], secrets)
    assert found == Credentials({"default/a": Keys({"username": "u", "password": "p"})})
    assert fit([node("a"), node("b")], found.keys) == ({"a": {"a.username": "u", "a.password": "p"}}, [])


def test_a_node_that_signs_has_its_key_beside_its_login() -> None:
    secrets = {
        ("default", "smtp"): {"username": "u", "password": "p"},
        ("default", "dkim"): {"private.key": "pem", "other": "pem of another"},
    }
    nodes = [signing("a", "smtp"), signing("b", key="other")]
    files, _ = fit(nodes, gather(nodes, secrets).keys)
    assert files == {
        "a": {"a.username": "u", "a.password": "p", "a.dkim": "pem"},
        "b": {"b.dkim": "pem of another"},
    }


def test_without_its_dkim_key_a_node_has_no_login_either() -> None:
    secrets = {("default", "smtp"): {"username": "u", "password": "p"}, ("default", "dkim"): {"tls.key": "pem"}}
    found = gather([signing("a", "smtp")], secrets)
    assert found.keys == {}
    assert found.problems["default/a"].reason is Reason.SECRET_KEY_MISSING
    words = "spec.identity.dkim.privateKeySecretRef: Secret dkim lacks private.key, add it"
    assert found.problems["default/a"].message == words


def test_a_missing_secret_or_key_is_a_problem_and_gives_no_half_login() -> None:
    secrets = {("default", "smtp"): None, ("default", "half"): {"username": "u"}}
    found = gather([node("a", "smtp"), node("b", "half"), node("c", "shut")], secrets, {("default", "shut"): "403"})
    assert found.keys == {}
    assert {key: problem.reason for key, problem in found.problems.items()} == {
        "default/a": Reason.SECRET_MISSING,
        "default/b": Reason.SECRET_KEY_MISSING,
        "default/c": Reason.CLUSTER_UNAVAILABLE,
    }
    assert "there is no Secret smtp in namespace default" in found.problems["default/a"].message
    assert "Secret half lacks password" in found.problems["default/b"].message
    assert found.problems["default/c"].message == "Secret shut cannot be read: 403"


@pytest.mark.parametrize(
    ("workers", "served"),
    [
        pytest.param(WorkerSet(pool()), {"default/any", "default/named"}, id="shared"),
        pytest.param(WorkerSet(pool("other")), {"default/any", "default/elsewhere"}, id="shared of another pool"),
        pytest.param(WorkerSet(pool(), dedicated("own")), {"default/own"}, id="dedicated"),
    ],
)
def test_a_set_logs_in_for_the_nodes_that_it_serves(workers: WorkerSet, served: set[str]) -> None:
    nodes = [
        node("any"),
        node("named", workers={"poolRef": {"name": "email"}}),
        node("elsewhere", workers={"poolRef": {"name": "other"}}),
        dedicated("own"),
        node("any", namespace="far"),
    ]
    assert {each.key for each in nodes if serves(workers, each)} == served


def test_what_does_not_fit_into_one_secret_stays_out_and_the_older_nodes_stay_in() -> None:
    half = "x" * (MOST_BYTES // 2)
    keys = {f"default/{name}": Keys({"dkim": half}) for name in "abc"} | {"default/d": Keys({"dkim": "short"})}
    files, left_out = fit([node(name) for name in "abcd"], keys)
    assert (set(files), left_out) == ({"a", "d"}, ["default/b", "default/c"])


def test_the_rendered_secret_is_the_one_that_the_deployment_mounts() -> None:
    secret = render_secret(WorkerSet(pool(), dedicated("own")), {"own.username": "u", "own.password": "p"})
    assert secret["metadata"]["name"] == "email-own-nodes"
    assert secret["metadata"]["labels"]["postfleet.io/node"] == "own"
    assert by_node(secret["stringData"]) == {"own": {"own.username": "u", "own.password": "p"}}


def test_credentials_do_not_show_their_values() -> None:
    assert "hidden" not in repr(Credentials({"a": Keys({"password": "hidden"})}))
