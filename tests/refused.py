"""What each CEL rule of the CRDs refuses: for the parser (contract tests) and a real API server (cluster)."""

from __future__ import annotations

from typing import Any

from postfleet_operator.spec import API_VERSION

MINIMAL: dict[str, dict[str, Any]] = {
    "JobPool": {"queues": ["a"]},
    "SendingNode": {"smtp": {"host": "mx.example.com"}, "identity": {"domain": "example.com"}},
}
FLOOR = {"cron": "0 8 * * 1-5", "durationMinutes": 60, "minReplicas": 2}
STRANGER = {"latencySeconds": 5, "queues": [{"name": "b", "latencySeconds": 1}]}
TWICE = {"latencySeconds": 5, "queues": [{"name": "a", "latencySeconds": n} for n in (1, 2)]}
BESIDE = {"backlogPerReplica": 5, "queues": [{"name": "a", "latencySeconds": 1}]}

ENV = "JobPool.spec.worker.env"
POLICY = "JobPool.spec.autoscaling"
TEMPLATE = "JobPool.spec.podTemplate"
CONTAINER = f"{TEMPLATE}.spec.containers[]"
IDENTITY = "SendingNode.spec.identity"
SITES = "SendingNode.spec.limits.sites[]"
WARMUP = "SendingNode.spec.warmup"
DKIM: dict[str, Any] = {"selector": "s1", "privateKeySecretRef": {"name": "s"}}


def pool(**spec: Any) -> dict[str, Any]:
    return {"spec": {"queues": ["a"], **spec}}


def policy(**autoscaling: Any) -> dict[str, Any]:
    return pool(autoscaling=autoscaling)


def worker(**fields: Any) -> dict[str, Any]:
    return pool(podTemplate={"spec": {"containers": [{"name": "worker", **fields}]}})


def misspelt(queue: str) -> dict[str, Any]:
    return {"latencySeconds": 5, "queues": [{"name": queue, "latencySeconds": 1}]}


def sender(**fields: Any) -> dict[str, Any]:
    return {"spec": {**MINIMAL["SendingNode"], **fields}}


def identity(**fields: Any) -> dict[str, Any]:
    return sender(identity={"domain": "example.com", **fields})


def node(**workers: Any) -> dict[str, Any]:
    return {"spec": {**MINIMAL["SendingNode"], "workers": workers}}


# What breaks each rule, by the rule's place in the schema and the start of its message.
BROKEN: dict[tuple[str, str], dict[str, Any]] = {
    ("JobPool", "metadata.name must be"): {"metadata": {"name": "x" * 51}},
    ("JobPool.spec.queues[]", "not a queue name"): pool(queues=["Upper_1"]),
    ("JobPool.spec.queues", "queues must differ"): pool(queues=["a", "a"]),
    ("JobPool.spec.queues", "a queue may not end in .msgs"): pool(queues=["a.msgs"]),
    (ENV, "the operator sets POSTFLEET_POOL"): pool(worker={"env": [{"name": "POSTFLEET_NODE", "value": "x"}]}),
    ("JobPool.spec.worker.resources.requests{}", "not a quantity"): pool(
        worker={"resources": {"requests": {"cpu": "two"}}}
    ),
    ("JobPool.spec.worker.resources.limits{}", "not a quantity"): pool(
        worker={"resources": {"limits": {"memory": "1 Gi"}}}
    ),
    (f"{ENV}[].name", "not the name of an environment variable"): pool(worker={"env": [{"name": "1A"}]}),
    (f"{ENV}[]", "give value or valueFrom"): pool(
        worker={"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}
    ),
    (f"{ENV}[].valueFrom", "give exactly one of"): pool(worker={"env": [{"name": "A", "valueFrom": {}}]}),
    ("JobPool.spec.worker.envFrom[]", "give exactly one of"): pool(worker={"envFrom": [{}]}),
    (POLICY, "minReplicas must not exceed maxReplicas"): policy(minReplicas=21),
    (POLICY, "minReplicas must not exceed maxReplicas, in the shadow neither"): policy(shadow={"minReplicas": 21}),
    ("JobPool.spec", "target.queues may name only"): policy(target=STRANGER),
    ("JobPool.spec", "in the shadow too, target.queues"): policy(shadow={"target": STRANGER}),
    (f"{POLICY}.target", "give exactly one of"): policy(target={"latencySeconds": 5, "backlogPerReplica": 5}),
    (f"{POLICY}.target", "target.queues needs"): policy(target=BESIDE),
    (f"{POLICY}.target", "each queue may have one target"): policy(target=TWICE),
    (f"{POLICY}.target.queues[].name", "not a queue name"): policy(target=misspelt("B")),
    (f"{POLICY}.shadow.target.queues[].name", "not a queue name"): policy(shadow={"target": misspelt("a-")}),
    (f"{POLICY}.tolerance", "not a fraction"): policy(tolerance="10%"),
    (f"{POLICY}.shadow.tolerance", "not a fraction"): policy(shadow={"tolerance": "1"}),
    (f"{POLICY}.shadow.target", "give exactly one of"): policy(shadow={"target": {}}),
    (f"{POLICY}.shadow.target", "target.queues needs"): policy(shadow={"target": BESIDE}),
    (f"{POLICY}.shadow.target", "each queue may have one target"): policy(shadow={"target": TWICE}),
    (f"{POLICY}.schedules[].cron", "not a cron"): policy(schedules=[{**FLOOR, "cron": "0 25 * * *"}]),
    (f"{POLICY}.schedules[].timezone", "not a time zone"): policy(schedules=[{**FLOOR, "timezone": "Berlin/Mitte"}]),
    (f"{POLICY}.shadow.schedules[].cron", "not a cron"): policy(shadow={"schedules": [{**FLOOR, "cron": "0 8 * *"}]}),
    (f"{POLICY}.shadow.schedules[].timezone", "not a time zone"): policy(
        shadow={"schedules": [{**FLOOR, "timezone": "CEST"}]}
    ),
    ("JobPool.spec", "terminationGracePeriodSeconds must be at least"): pool(
        podTemplate={"spec": {"terminationGracePeriodSeconds": 74}}
    ),
    (f"{TEMPLATE}.metadata.labels", "labels that begin with postfleet.io/"): pool(
        podTemplate={"metadata": {"labels": {"postfleet.io/pool": "other"}}}
    ),
    (f"{TEMPLATE}.spec.volumes", "the volume node-credentials"): pool(
        podTemplate={"spec": {"volumes": [{"name": "node-credentials", "emptyDir": {}}]}}
    ),
    (f"{CONTAINER}.env[].name", "not the name of an environment variable"): worker(env=[{"name": "a b"}]),
    (f"{TEMPLATE}.spec.initContainers[].env[].name", "not the name of an environment variable"): pool(
        podTemplate={"spec": {"initContainers": [{"name": "i", "env": [{"name": "1A"}]}]}}
    ),
    (CONTAINER, "the operator makes the args"): worker(args=["--queues=b"]),
    (CONTAINER, "the operator sets POSTFLEET_POOL"): worker(env=[{"name": "POSTFLEET_POOL", "value": "b"}]),
    (CONTAINER, "the volume node-credentials"): worker(
        volumeMounts=[{"mountPath": "/var/run/postfleet/nodes", "name": "tmp"}]
    ),
    ("SendingNode", "metadata.name must be"): {"metadata": {"name": "x.y"}},
    ("SendingNode", "a node may not be named"): {"metadata": {"name": "msgs"}},
    ("SendingNode.spec.smtp.host", "not a host"): sender(smtp={"host": "smtp://h"}),
    ("SendingNode.spec.smtp.heloName", "not a domain name"): sender(smtp={"host": "h", "heloName": "a_b"}),
    ("SendingNode.spec.identity.domain", "not a domain name"): sender(identity={"domain": "me@example.com"}),
    ("SendingNode.spec.smtp", "host mx is the recipients' own servers, which know no login"): sender(
        smtp={"host": "mx", "credentialsSecretRef": {"name": "s"}}
    ),
    ("SendingNode.spec.smtp", "host mx is the recipients' own servers, which take no implicit"): sender(
        smtp={"host": "mx", "tls": "Implicit"}
    ),
    (f"{IDENTITY}.ipAddresses[]", "not an IP address"): identity(ipAddresses=["192.0.2.256"]),
    (f"{IDENTITY}.returnPathDomain", "not a domain with a dot"): identity(returnPathDomain="localhost"),
    (f"{IDENTITY}.dkim.selector", "not a selector"): identity(dkim={**DKIM, "selector": "s1._domainkey"}),
    (f"{IDENTITY}.dkim.domain", "not a domain name"): identity(dkim={**DKIM, "domain": "a_b"}),
    (f"{IDENTITY}.dkim.privateKeySecretRef.key", "not a key of a Secret"): identity(
        dkim={**DKIM, "privateKeySecretRef": {"name": "s", "key": "a/b"}}
    ),
    (SITES, "give at least one of perMinute"): sender(limits={"sites": [{"name": "gmail"}]}),
    (f"{SITES}.name", "not a site"): sender(limits={"sites": [{"name": "gmial", "perMinute": 1}]}),
    (WARMUP, "an enabled warmup needs"): sender(warmup={}),
    (f"{WARMUP}.startDate", "not a date"): sender(warmup={"startDate": "2026-04-31"}),
    (f"{WARMUP}.growthFactor", "not a growth factor"): sender(
        warmup={"startDate": "2026-04-01", "growthFactor": "0.9"}
    ),
    ("SendingNode.spec.workers", "placement Dedicated needs"): node(placement="Dedicated"),
    ("SendingNode.spec.workers", "nodeSelector and tolerations need"): node(nodeSelector={"a": "b"}),
}


# Cron expressions, and whether they are taken.
CRONS: dict[str, bool] = {
    **dict.fromkeys(
        [
            "* * * * *",
            "0 8 * * 1-5",
            "*/10 0-23/2 1,15 JAN-mar mon,WED",
            "59 23 31 12 7",
            "05 08 01 02 0",
            "0 0 L * *",
            "0 0 LW * *",
            "0 9 * * 1#2,5L",
            "0  8  *  *  *",
            "5-5,7-9/010 */1 * Jan-Dec SUN-sat",
            "0 8 * * 5-7",
        ],
        True,
    ),
    **dict.fromkeys(
        [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "* * * *",
            "0 * * * * *",
            "@daily",
            "a * * * *",
            "1,,2 * * * *",
            "1, * * * *",
            "-5 * * * *",
            "* * * * 1#6",
            "*/0 * * * *",
            "0 0-23/00 * * *",
            "0 5-1 * * *",
            "1-2,9-08 * * * *",
            "0 8 * DEC-JAN *",
            "0 8 * * FRI-mon",
            "0 8 * MON *",
            "0 8 * * abc",
        ],
        False,
    ),
}


def manifest(kind: str, broken: dict[str, Any]) -> dict[str, Any]:
    """A minimal resource with the broken part in it."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": MINIMAL[kind], **broken}
