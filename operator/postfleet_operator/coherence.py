"""What manifests that the API would take say together: a pool that nobody has, a queue in two pools. Pure.

Most are warnings: what is missing here may be in the cluster, and the operator says the same in conditions. Whoever
keeps all manifests in one folder learns it before. Errors are what can never work, see `doubts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from postfleet_operator import doubts, rivals
from postfleet_operator.credentials import references
from postfleet_operator.manifests import Manifests
from postfleet_operator.reachability import on_loopback
from postfleet_operator.spec import JobPool, SendingNode
from postfleet_operator.spec.node import Tls
from postfleet_operator.workerset import worker_sets

Finding = tuple[JobPool | SendingNode, str, str]
"""The resource, the path of its field, and what is wrong with it."""


def errors(manifests: Manifests) -> list[str]:
    """One line each: `pool.yaml:13: JobPool email: spec.worker.image: …`."""
    found = ((pool, path, problem) for pool in manifests.pools for path, problem in doubts.mistakes(pool))
    return [f"{manifests.place(resource, path)}: {_line(resource, path, problem)}" for resource, path, problem in found]


def warnings(manifests: Manifests) -> list[str]:
    """One line each: `pool.yaml:13: warning: JobPool email: spec.queues: …`."""
    found = [
        *_queues(manifests), *_doubts(manifests), *_pools(manifests), *_logins(manifests), *_open_logins(manifests),
        *_addresses(manifests), *_names(manifests), *_rivals(manifests),
    ]  # fmt: skip
    return [
        f"{manifests.place(resource, path)}: warning: {_line(resource, path, problem)}"
        for resource, path, problem in found
    ]


def _line(resource: JobPool | SendingNode, path: str, problem: str) -> str:
    return f"{type(resource).__name__} {resource.name}: {path}: {problem}"


def _doubts(manifests: Manifests) -> Iterator[Finding]:
    for pool in manifests.pools:
        for path, problem in doubts.doubts(pool):
            yield pool, path, problem


def _open_logins(manifests: Manifests) -> Iterator[Finding]:
    for node in manifests.nodes:
        smtp = node.spec.smtp
        bare = smtp.tls_used in (Tls.NONE, Tls.OPPORTUNISTIC)
        if bare and smtp.credentials_secret_ref is not None and not _near(smtp.host):
            how = "" if smtp.tls_used is Tls.NONE else ", if the server offers no TLS,"
            yield (
                node,
                "spec.smtp.tls",
                f"with {smtp.tls_used} the login{how} goes to {smtp.host} unencrypted: anyone on the way reads it",
            )


def _addresses(manifests: Manifests) -> Iterator[Finding]:
    for node in manifests.nodes:
        if node.spec.identity.ip_addresses and not node.spec.smtp.direct:
            words = f"mail leaves from the addresses of {node.spec.smtp.host}: these count only with host mx"
            yield node, "spec.identity.ipAddresses", words


def _queues(manifests: Manifests) -> Iterator[Finding]:
    owners: dict[str, JobPool] = {}
    for pool in manifests.pools:
        for number, queue in enumerate(pool.spec.queues):
            owner = owners.setdefault(queue, pool)
            if owner is not pool:
                problem = f"{queue} is a queue of JobPool {owner.key} too; the younger of the two does not scale on it"
                yield pool, f"spec.queues[{number}]", problem
    for workers in worker_sets(manifests.pools, manifests.nodes):
        if workers.node is None:
            continue
        for queue in sorted(owners.keys() & set(workers.queues)):
            other = owners[queue].key
            problem = f"{queue}, a queue of its workers, is a queue of JobPool {other} too; rename one of the two"
            yield workers.node, "metadata.name", problem


def _near(host: str) -> bool:
    """Whether a host is this one, or a Service of the cluster."""
    return on_loopback(host) or host.endswith((".svc", ".svc.cluster.local"))


def _pools(manifests: Manifests) -> Iterator[Finding]:
    known = {pool.key for pool in manifests.pools}
    for node in manifests.nodes if known else ():
        reference = node.spec.workers.pool_ref
        if reference and f"{node.metadata.namespace}/{reference.name}" not in known:
            problem = f"there is no JobPool {reference.name} here, in namespace {node.metadata.namespace}"
            yield node, "spec.workers.poolRef.name", problem


def _logins(manifests: Manifests) -> Iterator[Finding]:
    for node in manifests.nodes if manifests.secrets else ():
        for reference in references(node):
            path, secret = f"{reference.field}.name", manifests.secret(*reference.place)
            if secret is None:
                yield node, path, f"there is no Secret {reference.name} here, in namespace {reference.namespace}"
            elif lacking := [key for key in reference.parts.values() if key not in secret.data]:
                yield node, path, f"Secret {reference.name} lacks {' and '.join(lacking)}"


def _names(manifests: Manifests) -> Iterator[Finding]:
    sets = worker_sets(manifests.pools, manifests.nodes)
    deployments = Counter((workers.namespace, workers.name) for workers in sets)
    for workers in sets:
        if workers.node is not None and deployments[workers.namespace, workers.name] > 1:
            problem = f"the Deployment of its workers would be {workers.name}, and there is another of that name"
            yield workers.node, "metadata.name", problem


def _rivals(manifests: Manifests) -> Iterator[Finding]:
    nodes = {node.key: node for node in manifests.nodes}
    logins = {
        node.key: secret.data["username"]
        for node in manifests.nodes
        if (reference := node.spec.smtp.credentials_secret_ref)
        and (secret := manifests.secret(node.metadata.namespace, reference.name))
        and "username" in secret.data
    }
    for key, problem in rivals.namesakes(nodes.values()).items():
        yield nodes[key], "metadata.name", problem.message
    for key, problem in rivals.doubles(nodes.values(), logins).items():
        yield nodes[key], "spec.smtp", problem.message
