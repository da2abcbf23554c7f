"""What manifests say together is told as warnings, each with its line."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from postfleet_operator.cli import cli
from postfleet_operator.coherence import errors, warnings
from postfleet_operator.errors import InvalidManifest
from postfleet_operator.manifests import Manifests, load
from postfleet_operator.spec.quantities import amount

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


def node(name: str = "n", host: str = "smtp") -> str:
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
            [
                node().replace("identity: {", "identity: {dkim: {selector: s, privateKeySecretRef: {name: login}}, "),
                SECRET,
            ],
            ["6: warning: SendingNode n: spec.identity.dkim.privateKeySecretRef.name: Secret login lacks private.key"],
            id="no key to sign with",
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


def with_spec(text: str) -> str:
    return pool() + "".join(f"  {line}\n" for line in text.splitlines())


def with_pod(text: str) -> str:
    return with_spec(f"podTemplate:\n  spec: {text}")


def told(tmp_path: Path, tell: Callable[[Manifests], list[str]], document: str) -> list[str]:
    (tmp_path / "m.yaml").write_text(document)
    return [line.removeprefix(f"{tmp_path}/m.yaml:") for line in tell(load([tmp_path]))]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        pytest.param(
            with_spec("worker:\n  env: [{name: POSTFLEET_LEASE_SECONDS, value: soon}]"),
            "7: JobPool email: spec.worker.env[0]: POSTFLEET_LEASE_SECONDS: 'soon' is not a number; "
            "the workers would not start",
            id="a setting that is no number",
        ),
        pytest.param(
            with_spec('worker: {env: [{name: POSTFLEET_RESERVED_FRACTION, value: "0.9"}]}'),
            "6: JobPool email: spec.worker.env[0]: POSTFLEET_RESERVED_FRACTION: 0.9 is out of range, "
            "give at least 0 and at most 0.5; the workers would not start",
            id="a setting out of range",
        ),
        pytest.param(
            with_pod("{containers: [{name: worker, env: [{name: POSTFLEET_LOG_LEVEL, value: info}]}]}"),
            "7: JobPool email: spec.podTemplate.spec.containers[0].env[0]: POSTFLEET_LOG_LEVEL: 'info' is not one of "
            "DEBUG, INFO, WARNING, ERROR; the workers would not start",
            id="a setting in the template",
        ),
        pytest.param(
            with_spec("worker: {image: my image}"),
            "6: JobPool email: spec.worker.image: 'my image' is no image, there is white space in it",
            id="image",
        ),
        pytest.param(
            with_spec("worker: {resources: {requests: {cpu: 1500m, memory: 1Gi}, limits: {cpu: 1, memory: 1024Mi}}}"),
            "6: JobPool email: spec.worker.resources.requests.cpu: 1500m is more than its limit, 1",
            id="requests above limits",
        ),
        pytest.param(
            with_pod("{restartPolicy: Never}"),
            "7: JobPool email: spec.podTemplate.spec.restartPolicy: 'Never' is not possible, a Deployment's pods have "
            "Always; leave it out",
            id="restartPolicy",
        ),
        pytest.param(
            with_pod("{containers: [{name: worker, ports: [{name: health, containerPort: 9000}]}]}"),
            "7: JobPool email: spec.podTemplate.spec.containers[0].ports[0].name: health is the name of the operator's "
            "own port; give another",
            id="a second port of that name",
        ),
        pytest.param(
            with_pod("{containers: [{name: proxy}], initContainers: [{name: i, image: x}]}"),
            "7: JobPool email: spec.podTemplate.spec.containers[0]: container proxy has no image",
            id="a sidecar without an image",
        ),
    ],
)
def test_what_can_never_work_is_an_error(tmp_path: Path, document: str, line: str) -> None:
    assert told(tmp_path, errors, document) == [line]
    assert told(tmp_path, warnings, document) == []


@pytest.mark.parametrize(
    ("document", "line"),
    [
        pytest.param(
            with_spec('worker: {env: [{name: POSTFLEET_SMPT_TIMEOUT_SECONDS, value: "9"}]}'),
            "6: warning: JobPool email: spec.worker.env[0]: POSTFLEET_SMPT_TIMEOUT_SECONDS is no setting of a worker, "
            "did you mean POSTFLEET_SMTP_TIMEOUT_SECONDS?",
            id="a misspelt setting",
        ),
        pytest.param(
            with_spec('worker: {env: [{name: POSTFLEET_SHUTDOWN_TIMEOUT_SECONDS, value: "600"}]}'),
            "6: warning: JobPool email: spec.worker.env[0]: POSTFLEET_SHUTDOWN_TIMEOUT_SECONDS has no effect: "
            "give spec.worker.shutdownTimeoutSeconds, the grace period follows it",
            id="the shutdown timeout beside the field",
        ),
        pytest.param(
            with_spec(
                'autoscaling: {maxReplicas: 5, schedules: [{cron: "0 8 * * *", durationMinutes: 9, minReplicas: 9}]}'
            ),
            "6: warning: JobPool email: spec.autoscaling.schedules[0].minReplicas: 9 is more than maxReplicas: "
            "the floor will be 5",
            id="a floor above the ceiling",
        ),
        pytest.param(
            node().replace("host: smtp", "host: smtp, tls: None"),
            "5: warning: SendingNode n: spec.smtp.tls: with None the login goes to smtp unencrypted: "
            "anyone on the way reads it",
            id="a login in the clear",
        ),
        pytest.param(
            node().replace("host: smtp", "host: smtp, tls: Opportunistic"),
            "5: warning: SendingNode n: spec.smtp.tls: with Opportunistic the login, if the server offers no TLS, "
            "goes to smtp unencrypted: anyone on the way reads it",
            id="a login that may be in the clear",
        ),
        pytest.param(
            node().replace("identity: {", "identity: {ipAddresses: [192.0.2.1], "),
            "6: warning: SendingNode n: spec.identity.ipAddresses: mail leaves from the addresses of smtp: these count "
            "only with host mx",
            id="addresses that are another's",
        ),
    ],
)
def test_what_hardly_means_what_it_says_is_a_warning(tmp_path: Path, document: str, line: str) -> None:
    assert told(tmp_path, warnings, document) == [line]
    assert told(tmp_path, errors, document) == []


@pytest.mark.parametrize(
    "document",
    [
        with_spec('worker: {env: [{name: POSTFLEET_LEASE_SECONDS, value: "9.5"}, {name: OWN, value: soon}]}'),
        with_spec('worker: {resources: {requests: {cpu: ".5"}, limits: {cpu: 500m, memory: 1Gi}}}'),
        with_pod("{restartPolicy: Always, containers: [{name: worker, ports: [{name: health, containerPort: 8080}]}]}"),
        node(host="127.0.0.1, tls: None"),
        node(host="sink.postfleet.svc, tls: None"),
    ],
)
def test_what_is_right_is_not_told(tmp_path: Path, document: str) -> None:
    assert told(tmp_path, errors, document) + told(tmp_path, warnings, document) == []


def test_check_ends_with_2_for_what_can_never_work(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(with_spec("worker: {image: my image}"))
    result = CliRunner().invoke(cli, ["check", "-f", str(tmp_path)])
    assert isinstance(result.exception, InvalidManifest)
    assert "is no image" in str(result.exception)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        (2, 2),
        ("500m", Decimal("0.5")),
        ("1Gi", 2**30),
        ("1e3", 1000),
        ("2E", 2 * 10**18),
        ("1.5k", 1500),
        ("-.5", Decimal("-0.5")),
    ],
)
def test_quantities_are_numbers(quantity: int | str, number: int | Decimal) -> None:
    assert amount(quantity) == number


@pytest.mark.parametrize(
    "container",
    ["{name: worker, resources: {requests: [cpu], limits: {cpu: 1}}}", "{name: worker, ports: 5}"],
    ids=["requests", "ports"],
)
def test_a_template_of_another_shape_is_left_to_the_api_server(tmp_path: Path, container: str) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(pool() + f"  podTemplate: {{spec: {{containers: [{container}]}}}}\n")
    assert errors(load([file])) == []


def test_a_setting_that_kubernetes_fills_in_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    variables = "[{name: LEVEL, value: DEBUG}, {name: POSTFLEET_LOG_LEVEL, value: $(LEVEL)}]"
    file.write_text(pool() + f"  worker: {{env: {variables}}}\n")
    assert errors(load([file])) == []
