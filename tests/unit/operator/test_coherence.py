"""What manifests say together is told as warnings, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from postfleet_operator.coherence import warnings
from postfleet_operator.manifests import load

POOL = """\
apiVersion: postfleet.io/v1alpha1
kind: JobPool
metadata: {name: NAME}
spec:
  queues: [QUEUES]
"""
NODE = """\
apiVersion: postfleet.io/v1alpha1
kind: SendingNode
metadata: {name: "NAME"}
spec:
  smtp: {host: HOST, credentialsSecretRef: {name: login}}
  identity: {domain: example.com}
  workers: {poolRef: {name: email}, placement: Dedicated}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {username: u, password: p}\n"


def pool(name: str = "email", queues: str = "a") -> str:
    return POOL.replace("NAME", name).replace("QUEUES", queues)


def node(name: str = "n", host: str = "mx") -> str:
    return NODE.replace("NAME", name).replace("HOST", host)


@pytest.mark.parametrize(
    ("documents", "lines"),
    [
        pytest.param([pool(), node(), SECRET], [], id="all there"),
        pytest.param([node()], [], id="a node alone: the rest may be in the cluster"),
        pytest.param(
            [pool(), pool("other", "b, a")],
            [
                (
                    "11: warning: JobPool other: spec.queues[1]: a is a queue of JobPool default/email too; "
                    "the younger of the two does not scale on it"
                )
            ],
            id="a queue in two pools",
        ),
        pytest.param(
            [pool(), pool("other", "a.n"), node()],
            [
                (
                    "15: warning: SendingNode n: metadata.name: a.n, a queue of its workers, "
                    "is a queue of JobPool default/other too; rename one of the two"
                )
            ],
            id="a queue that is a Dedicated node's",
        ),
        pytest.param(
            [pool("other"), node()],
            [
                (
                    "13: warning: SendingNode n: spec.workers.poolRef.name: "
                    "there is no JobPool email here, in namespace default"
                )
            ],
            id="no such pool",
        ),
        pytest.param(
            [node(), SECRET.replace("login", "other")],
            [
                (
                    "5: warning: SendingNode n: spec.smtp.credentialsSecretRef.name: "
                    "there is no Secret login here, in namespace default"
                )
            ],
            id="no such Secret",
        ),
        pytest.param(
            [node(), SECRET.replace("username: u, ", "")],
            ["5: warning: SendingNode n: spec.smtp.credentialsSecretRef.name: Secret login lacks username"],
            id="half a login",
        ),
        pytest.param(
            [pool(), pool("email-n", "b"), node()],
            [
                (
                    "15: warning: SendingNode n: metadata.name: the Deployment of its workers would be email-n, "
                    "and there is another of that name"
                )
            ],
            id="two Deployments of one name",
        ),
        pytest.param(
            [node(), node().replace('"n"', '"n", namespace: mail')],
            [
                (
                    "11: warning: SendingNode n: metadata.name: SendingNode default/n has this name, "
                    "and the database knows names alone: rename one of the two"
                )
            ],
            id="one name in two namespaces",
        ),
    ],
)
def test_a_warning_has_the_line_of_its_field(tmp_path: Path, documents: list[str], lines: list[str]) -> None:
    (tmp_path / "m.yaml").write_text("---\n".join(documents))
    found = [line.removeprefix(f"{tmp_path}/m.yaml:") for line in warnings(load([tmp_path]))]
    assert [line for line in found if "limits of the two add up" not in line] == lines


def test_two_nodes_with_one_account_are_told(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("---\n".join([pool(), node("a"), node("b"), SECRET]))
    [line] = warnings(load([tmp_path]))
    assert line.startswith(f"{tmp_path}/m.yaml:19: warning: SendingNode b: spec.smtp: SendingNode default/a uses the")
