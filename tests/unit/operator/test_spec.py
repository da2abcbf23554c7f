"""What a manifest may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.spec import API_VERSION, Mode, parse_node, parse_pool
from unit.operator.building import manifest

WORKER = "JobPool email: spec.worker"
QUEUE = "is not a queue name, give lower-case letters, digits, '-' and '.', beginning with a letter"


def node(name: str = "acme-1", **spec: Any) -> dict[str, Any]:
    given = {"smtp": {"host": "mx.example.com"}, "identity": {"domain": "example.com"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "SendingNode", "metadata": {"name": name}, "spec": given}


def problems(parse: Any, given: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        parse(given)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        pytest.param(
            {"worker": {"threads": 500}}, f"{WORKER}.threads: 500 is out of range, give 1 to 256", id="too many"
        ),
        pytest.param({"worker": {"threads": 0}}, f"{WORKER}.threads: 0 is out of range, give 1 to 256", id="too few"),
        pytest.param(
            {"worker": {"thread": 5}}, f"{WORKER}.thread: unknown field, did you mean threads?", id="misspelt"
        ),
        pytest.param(
            {"worker": {"shutdown_timeout_seconds": 5}},
            f"{WORKER}.shutdown_timeout_seconds: unknown field, did you mean shutdownTimeoutSeconds?",
            id="snake case",
        ),
        pytest.param(
            {"colour": "red"},
            "JobPool email: spec.colour: unknown field; "
            "known here are queues, worker, mode, paused, replicas, autoscaling, podTemplate",
            id="nothing near",
        ),
        pytest.param(
            {"queues": ["a", "b", "a"]},
            "JobPool email: spec.queues: queues must differ from each other: a is listed more than once",
            id="duplicate queues",
        ),
        pytest.param({"queues": []}, "JobPool email: spec.queues: is empty, give at least 1 entry", id="no queues"),
        pytest.param({"queues": None}, "JobPool email: spec.queues: is missing, give it a value", id="null queues"),
        pytest.param({"queues": "a"}, "JobPool email: spec.queues: must be a list, not 'a'", id="one queue as text"),
        pytest.param({"queues": ["A b"]}, f"JobPool email: spec.queues[0]: 'A b' {QUEUE}", id="bad queue name"),
        pytest.param(
            {"queues": ["q" * 64]},
            "JobPool email: spec.queues[0]: has 64 characters, at most 63 are allowed",
            id="long queue name",
        ),
        pytest.param(
            {"queues": [f"q{n}" for n in range(17)]},
            "JobPool email: spec.queues: has 17 entries, at most 16 are allowed",
            id="many queues",
        ),
        pytest.param(
            {"queues": ["a.msgs"]},
            "JobPool email: spec.queues: a.msgs: a queue may not end in .msgs: "
            "Dramatiq keeps the messages of a queue under that name",
            id="Dramatiq's own name",
        ),
        pytest.param(
            {"mode": "auto"},
            "JobPool email: spec.mode: 'auto' is not one of Auto, Recommend, Manual, External",
            id="bad mode",
        ),
        pytest.param(
            {"paused": "yes"}, "JobPool email: spec.paused: must be true or false, not 'yes'", id="text as bool"
        ),
        pytest.param(
            {"replicas": "3"}, "JobPool email: spec.replicas: must be a whole number, not '3'", id="text as number"
        ),
        pytest.param(
            {"replicas": 1.5}, "JobPool email: spec.replicas: must be a whole number, not 1.5", id="half a worker"
        ),
        pytest.param({"replicas": True}, "JobPool email: spec.replicas: must be a whole number, not true", id="a bool"),
        pytest.param(
            {"replicas": -1}, "JobPool email: spec.replicas: -1 is out of range, give 0 to 1000", id="negative"
        ),
        pytest.param({"worker": 5}, f"{WORKER}: must be a mapping of fields, not 5", id="no mapping"),
        pytest.param(
            {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}},
            "JobPool email: spec.autoscaling: minReplicas must not exceed maxReplicas: 5 > 2",
            id="min above max",
        ),
        pytest.param(
            {"autoscaling": {"minReplicas": 21}},
            "JobPool email: spec.autoscaling: minReplicas must not exceed maxReplicas: 21 > 20",
            id="min above the default max",
        ),
        pytest.param(
            {"worker": {"resources": {"limits": {"cpu": 1.5}}}},
            f'{WORKER}.resources.limits.cpu: 1.5 is not a quantity, give one like 2, "500m" or "1Gi"',
            id="unquoted quantity",
        ),
        pytest.param(
            {"worker": {"env": [{"name": "1A"}]}},
            f"{WORKER}.env[0].name: '1A' is not the name of an environment variable, "
            "give letters, digits, '_', '-' and '.', no digit first",
            id="bad variable",
        ),
    ],
)
def test_a_mistake_is_one_line_with_field_value_and_remedy(spec: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(**spec)) == [line]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(
            {"apiVersion": "v1"}, "JobPool email: apiVersion: 'v1' is not known, give postfleet.io/v1alpha1", id="v"
        ),
        pytest.param({"kind": "Pool"}, "JobPool email: kind: 'Pool' is not JobPool", id="kind"),
        pytest.param({"metadata": {}}, "JobPool: metadata.name: is missing, give the resource a name", id="no name"),
        pytest.param(
            {"metadata": None}, "JobPool: metadata.name: is missing, give the resource a name", id="no metadata"
        ),
        pytest.param({"spec": None}, "JobPool email: spec: is missing", id="no spec"),
        pytest.param({"spec": []}, "JobPool email: spec: must be a mapping of fields, not []", id="spec is a list"),
        pytest.param(
            {"specs": {}},
            "JobPool email: specs: unknown field; a resource has apiVersion, kind, metadata and spec",
            id="unknown part",
        ),
        *(
            pytest.param(
                {"metadata": {"name": name}},
                f"JobPool {name}: metadata.name must be at most 50 lower-case letters, digits or '-', "
                "not '-' at an end",
                id=f"name {name[:8]}",
            )
            for name in ("Email", "a.b", "-a", "a-", "x" * 51)
        ),
    ],
)
def test_what_surrounds_the_spec_is_checked_too(change: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest() | change) == [line]


def test_every_mistake_is_told_at_once() -> None:
    given = manifest(queues=["A"], worker={"threads": 0, "env": [{"value": "x"}]}, mode="Off") | {"apiVersion": "v0"}
    assert len(problems(parse_pool, given)) == 5


@pytest.mark.parametrize("field", ["username", "password", "auth"])
def test_who_looks_for_the_login_is_told_where_it_goes(field: str) -> None:
    [line] = problems(parse_node, node(smtp={"host": "h", field: "x"}))
    assert line == (
        f"SendingNode acme-1: spec.smtp.{field}: unknown field, the login is in a Secret with the keys username and "
        "password: name it in credentialsSecretRef"
    )


AUTOSCALING = "JobPool email: spec.autoscaling"
CRON = "is not a cron expression, give five fields: minute hour day month weekday"


def scheduled(**fields: Any) -> dict[str, Any]:
    return {"schedules": [{"cron": "0 8 * * 1-5", "durationMinutes": 60, "minReplicas": 2, **fields}]}


@pytest.mark.parametrize(
    ("autoscaling", "line"),
    [
        pytest.param(
            {"target": {}}, ".target: give exactly one of latencySeconds and backlogPerReplica", id="no target"
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "backlogPerReplica": 5}},
            ".target: give exactly one of latencySeconds and backlogPerReplica",
            id="two targets",
        ),
        pytest.param(
            {"target": {"backlogPerReplica": 5, "queues": [{"name": "retry", "latencySeconds": 1}]}},
            ".target: target.queues needs target.latencySeconds: a backlog is not counted by queue",
            id="a queue's latency beside a backlog",
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "queues": [{"name": "other", "latencySeconds": 1}]}},
            ".target.queues: other: target.queues may name only queues of spec.queues",
            id="a queue of another pool",
        ),
        pytest.param(
            {"shadow": {"target": {"latencySeconds": 5, "queues": [{"name": "other", "latencySeconds": 1}]}}},
            ".shadow.target.queues: other: in the shadow too, target.queues may name only queues of spec.queues",
            id="a queue of another pool in the shadow",
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "queues": [{"name": "retry", "latencySeconds": n} for n in (1, 2)]}},
            ".target: each queue may have one target",
            id="a queue twice",
        ),
        pytest.param(
            {"shadow": {"minReplicas": 30}},
            ".shadow: minReplicas must not exceed maxReplicas, in the shadow neither: 30 > 20",
            id="the shadow's min above the pool's max",
        ),
        pytest.param(
            {"scaleUp": {"policies": [{"type": "Pod", "value": 4, "periodSeconds": 15}]}},
            ".scaleUp.policies[0].type: 'Pod' is not one of Pods, Percent",
            id="kind of policy",
        ),
        pytest.param(
            {"scaleDown": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 3600}]}},
            ".scaleDown.policies[0].periodSeconds: 3600 is out of range, give 1 to 1800",
            id="long period",
        ),
        pytest.param(
            {"scaleDown": {"stabilizationWindowSeconds": 3601}},
            ".scaleDown.stabilizationWindowSeconds: 3601 is out of range, give 0 to 3600",
            id="long window",
        ),
        pytest.param({"tolerance": 0.1}, ".tolerance: must be text (quote it), not 0.1", id="an unquoted tolerance"),
        pytest.param(
            {"tolerance": "1"},
            """.tolerance: '1' is not a fraction below 1, give one like "0.1" (quote it)""",
            id="tolerance",
        ),
        pytest.param(scheduled(cron="0 8 * *"), f".schedules[0].cron: '0 8 * *' {CRON}", id="four fields"),
        pytest.param(scheduled(cron="0 0 8 * * *"), f".schedules[0].cron: '0 0 8 * * *' {CRON}", id="six fields"),
        pytest.param(scheduled(cron="0 25 * * *"), f".schedules[0].cron: '0 25 * * *' {CRON} (Bad hour)", id="hour 25"),
        pytest.param(scheduled(cron=""), ".schedules[0].cron: is empty, give it a value", id="no cron"),
        pytest.param(
            scheduled(timezone="Berlin"),
            ".schedules[0].timezone: 'Berlin' is not a time zone, give an IANA name such as Europe/Berlin",
            id="time zone",
        ),
        pytest.param(
            scheduled(timezone="../etc/passwd"),
            ".schedules[0].timezone: '../etc/passwd' is not a time zone, give an IANA name such as Europe/Berlin",
            id="a path as time zone",
        ),
        pytest.param(
            scheduled(durationMinutes=0),
            ".schedules[0].durationMinutes: 0 is out of range, give 1 to 10080",
            id="no time",
        ),
    ],
)
def test_a_mistake_in_the_policy_is_one_line_too(autoscaling: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(autoscaling=autoscaling)) == [AUTOSCALING + line]


TEMPLATE = "JobPool email: spec.podTemplate"
CREDENTIALS = (
    "the volume node-credentials, mounted at /var/run/postfleet/nodes, is the operator's; give another name and path"
)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        pytest.param({"specs": {}}, ".specs: unknown field, did you mean spec?", id="misspelt"),
        pytest.param(
            {"metadata": {"name": "x"}}, ".metadata.name: unknown field; known here are labels, annotations", id="name"
        ),
        pytest.param(
            {"metadata": {"labels": {"postfleet.io/node": "x"}}},
            ".metadata.labels: postfleet.io/node: labels that begin with postfleet.io/ are the operator's: "
            "they tell which workers are whose; leave them out",
            id="selector",
        ),
        pytest.param(
            {"spec": {"terminationGracePeriodSeconds": 74}},
            ".spec.terminationGracePeriodSeconds: 74 is less than 75: terminationGracePeriodSeconds must be at least "
            "spec.worker.shutdownTimeoutSeconds + 15, or workers are killed within their jobs: "
            "leave it out, and the operator sets it so",
            id="grace",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "proxy"}, {"name": "worker", "env": [{"name": "POSTFLEET_NODE"}]}]}},
            ".spec.containers[1].env: POSTFLEET_NODE: the operator sets POSTFLEET_POOL, _NODE, _REPLICA, "
            "_CREDENTIALS_DIR, _HEALTH_HOST and _HEALTH_PORT itself",
            id="reserved variable",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "worker", "args": ["--queues=x"]}]}},
            ".spec.containers[0].args: the operator makes the args of the container worker from spec.queues and "
            "spec.worker; leave them out",
            id="args",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/var/run/postfleet/nodes"}]}]}},
            f".spec.containers[0].volumeMounts: {CREDENTIALS}",
            id="credentials' mount",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "node-credentials", "emptyDir": {}}]}},
            f".spec.volumes: {CREDENTIALS}",
            id="credentials' volume",
        ),
        pytest.param(
            {"spec": {"initContainers": [{"name": "a"}, {"name": "a"}]}},
            ".spec.initContainers: a is given twice, merge the two",
            id="twice",
        ),
        pytest.param(
            {"spec": {"containers": [{"image": "x"}]}},
            ".spec.containers[0].name: is missing, give it a value",
            id="nameless",
        ),
        pytest.param(
            {"spec": {"affinity": {"$patch": "delete"}}},
            ".spec.affinity.$patch: is no field; podTemplate is laid over the operator's template, "
            "and directives are not read",
            id="directive",
        ),
    ],
)
def test_a_pod_template_leaves_what_is_the_operator_s(template: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(podTemplate=template)) == [TEMPLATE + line]


def test_a_pod_template_may_hold_anything_else_and_is_kept_as_it_was_given() -> None:
    given = {
        "metadata": {"labels": {"team": "mail"}},
        "spec": {
            "terminationGracePeriodSeconds": 75,
            "tolerations": [{"key": "spot", "tolerationSeconds": 5}],
            "containers": [
                {"name": "worker", "env": [{"name": "A", "value": ""}], "resources": {"limits": {"cpu": 1.5}}},
                {"name": "proxy", "args": ["-v"], "env": [{"name": "POSTFLEET_NODE", "value": "x"}]},
            ],
        },
    }
    assert parse_pool(manifest(podTemplate=given)).spec.pod_template.overlay == given
    assert parse_pool(manifest()).spec.pod_template.overlay == {}


def test_a_queue_s_own_target_comes_before_the_pool_s() -> None:
    given = {"latencySeconds": 60, "queues": [{"name": "priority-high", "latencySeconds": 2}]}
    target = parse_pool(manifest(autoscaling={"target": given})).spec.autoscaling.target
    assert [target.latency_for(queue) for queue in ("priority-high", "retry")] == [2, 60]


def test_a_shadow_is_the_pool_with_another_policy() -> None:
    shadow = {"target": {"latencySeconds": 2}, "maxReplicas": 50, "scaleDown": {"selectPolicy": "Disabled"}}
    given = {"target": {"latencySeconds": 9}, "minReplicas": 1, "cooldownSeconds": 7, "shadow": shadow}
    spec = parse_pool(manifest(autoscaling=given)).spec
    other = spec.shadow_spec()
    assert other is not None
    assert (other.queues, other.worker, other.autoscaling.shadow) == (spec.queues, spec.worker, None)
    assert other.autoscaling.target.latency_seconds == 2
    assert (other.autoscaling.min_replicas, other.autoscaling.max_replicas) == (1, 50)
    assert (other.autoscaling.cooldown_seconds, other.autoscaling.scale_down.select_policy) == (7, "Disabled")
    assert parse_pool(manifest()).spec.shadow_spec() is None


def test_a_minimal_pool_gets_the_documented_defaults() -> None:
    spec = parse_pool({**manifest(), "spec": {"queues": ["a"]}}).spec
    assert (spec.mode, spec.paused, spec.replicas) == (Mode.AUTO, False, 1)
    assert (spec.worker.processes, spec.worker.threads, spec.worker.shutdown_timeout_seconds) == (1, 64, 60)
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) == (0, 20)
    assert (spec.autoscaling.polling_interval_seconds, spec.autoscaling.cooldown_seconds) == (2, 60)
    assert (spec.autoscaling.activation_backlog, spec.autoscaling.target.latency_seconds) == (1, 5)
    assert spec.autoscaling.scale_up.stabilization_window_seconds == 0
    assert spec.autoscaling.scale_down.stabilization_window_seconds == 120
    assert (spec.autoscaling.tolerance_fraction, spec.autoscaling.schedules, spec.autoscaling.shadow) == (0.1, (), None)


def test_null_means_absent_as_it_does_for_the_api_server() -> None:
    assert parse_pool(manifest(worker=None, replicas=None, mode=None)) == parse_pool(manifest())


def test_a_pool_from_the_api_keeps_its_identity_and_status() -> None:
    metadata = {"name": "email", "namespace": "mail", "uid": "u-1", "generation": 7, "managedFields": [{}]}
    pool = parse_pool(manifest() | {"metadata": metadata, "status": {"replicas": 2}})
    assert (pool.key, pool.metadata.uid, pool.metadata.generation, pool.status) == (
        "mail/email",
        "u-1",
        7,
        {"replicas": 2},
    )


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_pool(manifest()).spec.replicas = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param(
            node(smtp={"host": "mx.example.com:25"}),
            "SendingNode acme-1: spec.smtp.host: 'mx.example.com:25' is not a host, "
            "give a host name or an IP address without brackets or port",
            id="host with port",
        ),
        pytest.param(node(smtp={}), "SendingNode acme-1: spec.smtp.host: is missing, give it a value", id="no host"),
        pytest.param(
            node(smtp={"host": "h", "tls": "STARTTLS"}),
            "SendingNode acme-1: spec.smtp.tls: 'STARTTLS' is not one of StartTLS, Opportunistic, Implicit, None",
            id="tls",
        ),
        pytest.param(
            node(limits={"perMinute": 0}),
            "SendingNode acme-1: spec.limits.perMinute: 0 is out of range, give 1 to 10000000",
            id="zero limit",
        ),
        pytest.param(
            node(identity={"domain": "-x.com"}),
            "SendingNode acme-1: spec.identity.domain: '-x.com' is not a domain name, give one like mail.example.com",
            id="domain",
        ),
        pytest.param(
            node(tenants=["a", "a"]),
            "SendingNode acme-1: spec.tenants: tenants must differ from each other: a is listed more than once",
            id="tenants",
        ),
        *(
            pytest.param(
                node(name),
                f"SendingNode {name}: metadata.name: a node may not be named msgs "
                "(Dramatiq keeps messages under that name) or shared (it names the pool's own workers)",
                id=name,
            )
            for name in ("msgs", "shared")
        ),
    ],
)
def test_a_mistake_in_a_node_is_one_line(given: dict[str, Any], line: str) -> None:
    assert problems(parse_node, given) == [line]


@pytest.mark.parametrize("host", ["mx.example.com", "10.0.0.1", "::1", "localhost"])
def test_hosts_are_names_or_addresses(host: str) -> None:
    assert parse_node(node(smtp={"host": host})).spec.smtp.host == host


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        pytest.param(
            {"placement": "Dedicated"},
            ": placement Dedicated needs poolRef: the pool whose template and policy its workers have",
            id="dedicated to nobody",
        ),
        pytest.param(
            {"nodeSelector": {"a": "b"}},
            ": nodeSelector and tolerations need placement Dedicated: shared workers are placed by their pool",
            id="a place for shared workers",
        ),
        pytest.param({"poolRef": {}}, ".poolRef.name: is missing, give it a value", id="no name"),
        pytest.param(
            {"placement": "Dedicated", "poolRef": {"name": "p"}, "tolerations": [{"operator": "Is"}]},
            ".tolerations[0].operator: 'Is' is not one of Exists, Equal",
            id="operator",
        ),
    ],
)
def test_a_mistake_in_a_node_s_workers_is_one_line(workers: dict[str, Any], line: str) -> None:
    assert problems(parse_node, node(workers=workers)) == [f"SendingNode acme-1: spec.workers{line}"]


def test_a_node_dumps_what_the_workers_read() -> None:
    assert parse_node(node(limits={"perMinute": 100})).spec.dump() == {
        "smtp": {
            "host": "mx.example.com",
            "port": 587,
            "tls": "StartTLS",
            "heloName": None,
            "credentialsSecretRef": None,
        },
        "identity": {"domain": "example.com", "ipAddresses": [], "returnPathDomain": None, "dkim": None},
        "limits": {
            "perMinute": 100,
            "perHour": None,
            "perDay": None,
            "maxConnections": 20,
            "messagesPerConnection": 100,
            "sites": [],
        },
        "warmup": None,
        "workers": {"poolRef": None, "placement": "Shared", "nodeSelector": {}, "tolerations": []},
        "tenants": [],
        "paused": False,
    }


def test_a_node_that_delivers_directly_has_the_ports_and_manners_of_servers() -> None:
    dump = parse_node(node(smtp={"host": "mx"})).spec.dump()
    assert (dump["smtp"]["port"], dump["smtp"]["tls"]) == (25, "Opportunistic")
    required = parse_node(node(smtp={"host": "mx", "port": 2525, "tls": "StartTLS"})).spec.dump()
    assert (required["smtp"]["port"], required["smtp"]["tls"]) == (2525, "StartTLS")


def test_a_node_dumps_its_sites_its_key_and_its_warmup() -> None:
    dkim = {"selector": "s1", "privateKeySecretRef": {"name": "keys"}}
    dump = parse_node(
        node(
            identity={"domain": "example.com", "ipAddresses": ["192.0.2.1", "2001:db8::1"], "dkim": dkim},
            limits={"sites": [{"name": "gmail", "perMinute": 60}]},
            warmup={"startDate": "2026-03-01"},
        )
    ).spec.dump()
    assert dump["identity"]["ipAddresses"] == ["192.0.2.1", "2001:db8::1"]
    assert dump["identity"]["dkim"] == {
        "selector": "s1",
        "domain": None,
        "privateKeySecretRef": {"name": "keys", "key": "private.key"},
    }
    (site,) = dump["limits"]["sites"]
    assert {key: value for key, value in site.items() if value is not None} == {"name": "gmail", "perMinute": 60}
    assert dump["warmup"] == {
        "enabled": True,
        "startDate": "2026-03-01",
        "initialPerDay": 50,
        "growthFactor": "1.3",
        "targetPerDay": 50_000,
        "days": [],
    }


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        pytest.param(
            {"smtp": {"host": "mx", "credentialsSecretRef": {"name": "s"}}},
            "smtp: host mx is the recipients' own servers, which know no login of ours: leave credentialsSecretRef out",
            id="login for everybody",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "ipAddresses": ["1:2:3"]}},
            "identity.ipAddresses[0]: '1:2:3' is not an IP address, give one like 192.0.2.1 or 2001:db8::1",
            id="half an address",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "ipAddresses": ["192.0.2.1", "192.0.2.1"]}},
            "identity.ipAddresses: addresses must differ from each other: 192.0.2.1 is listed more than once",
            id="one address twice",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "dkim": {"selector": "s1"}}},
            "identity.dkim.privateKeySecretRef: is missing, give it a value",
            id="no key",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmial", "perMinute": 1}]}},
            "limits.sites[0].name: 'gmial' is not a site, give apple, comcast, gmail, gmx, orange, outlook, qq, yahoo, "
            "default (each other one by itself) or a domain in lower case like example.org",
            id="no such site",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmail", "perMinute": 1}, {"name": "gmail", "perDay": 1}]}},
            "limits.sites: sites must differ from each other: gmail is listed more than once",
            id="one site twice",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmail"}]}},
            "limits.sites[0]: give at least one of perMinute, perHour, perDay, maxConnections and "
            "messagesPerConnection, or leave the site out",
            id="a site without a limit",
        ),
        pytest.param(
            {"warmup": {"initialPerDay": 50}},
            "warmup: an enabled warmup needs startDate, the first day of its plan",
            id="no start",
        ),
        pytest.param(
            {"warmup": {"startDate": "2027-02-29"}},
            "warmup.startDate: '2027-02-29' is not a date, give one like \"2026-11-24\" (quote it)",
            id="no such day",
        ),
        pytest.param(
            {"warmup": {"startDate": "tomorrow"}},
            "warmup.startDate: 'tomorrow' is not a date, give one like \"2026-11-24\" (quote it)",
            id="no date",
        ),
        pytest.param(
            {"warmup": {"startDate": "2026-03-01", "growthFactor": "1.0"}},
            'warmup.growthFactor: \'1.0\' is not a growth factor, give one from "1.01" to "10" (quote it)',
            id="no growth",
        ),
    ],
)
def test_a_mistake_in_what_limits_a_sender_is_one_line(spec: dict[str, Any], line: str) -> None:
    assert problems(parse_node, node(**spec)) == [f"SendingNode acme-1: spec.{line}"]


@pytest.mark.parametrize("name", ["gmail", "default", "partner.example", "mx1.a-b.example.org"])
def test_a_site_is_the_tables_or_a_domain(name: str) -> None:
    (site,) = parse_node(node(limits={"sites": [{"name": name, "perMinute": 1}]})).spec.limits.sites
    assert site.name == name


@pytest.mark.parametrize("factor", ["1.01", "1.3", "1.1234", "2", "2.5", "10"])
def test_a_growth_factor_is_a_decimal_in_quotes(factor: str) -> None:
    plan = parse_node(node(warmup={"startDate": "2026-03-01", "growthFactor": factor})).spec.warmup
    assert plan is not None
    assert plan.growth_factor == factor
