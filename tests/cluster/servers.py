"""A Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager as child processes.

No kubelet and no scheduler: pods stay Pending until an agent of the suite takes them (`nodeagent`). Certificates are
made by trustme; the administrator is a client certificate of group system:masters. Each process dies with this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

START_SECONDS = 60.0
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def lasting_port() -> int:
    """A free port that no outgoing connection is given, so that a server can be started on it again."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _die_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True)
class Program:
    """One server process; `command` is what starts it again after a kill."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; readiness is the caller's business."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.env,
                preexec_fn=_die_with_parent,
            )

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Signal it: SIGSTOP and SIGCONT for a server that hangs."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it, politely at first."""
        if self.alive() and self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


@dataclass(slots=True)
class ControlPlane:
    """The three servers.

    Attributes:
        assets: the folder with the programs.
        directory: data, certificates and logs.
        url: where the API server answers.
        kubeconfig: of the administrator.
    """

    assets: Path
    directory: Path
    url: str = ""
    kubeconfig: Path = Path()
    etcd: Program = field(init=False)
    apiserver: Program = field(init=False)
    controllers: Program = field(init=False)
    port: int = 0

    def start(self) -> None:
        """Start all of them and wait until the API answers that it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        etcd_port, peer_port, self.port = lasting_port(), lasting_port(), lasting_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = self.write_kubeconfig("admin", self.url)
        etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        self.etcd = self._program(
            "etcd",
            "--unsafe-no-fsync",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
        )
        self.apiserver = self._program(
            "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.directory / 'run'}",
            f"--tls-cert-file={self.directory / 'server.pem'}",
            f"--tls-private-key-file={self.directory / 'server.key'}",
            f"--client-ca-file={self.directory / 'ca.pem'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-key-file={self.directory / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.directory / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            # Blocking owners as on OpenShift: whoever names one needs the right to its finalizers.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--disable-admission-plugins=TaintNodesByCondition",
            f"--audit-policy-file={self._audit_policy()}",
            f"--audit-log-path={self.audit_log}",
            "--profiling=false",
            "--v=0",
        )
        self.controllers = self._program(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--root-ca-file={self.directory / 'ca.pem'}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=400",
            "--kube-api-burst=800",
            "--concurrent-deployment-syncs=10",
            "--concurrent-replicaset-syncs=10",
        )
        self.etcd.start()
        self.apiserver.start()
        self.wait_ready()
        self.controllers.start()

    def stop(self) -> None:
        """End all of them; there is nothing to save, and an API server takes ten seconds to end in peace."""
        for program in (self.controllers, self.apiserver, self.etcd):
            program.kill()

    def restart_apiserver(self) -> None:
        """Start the API server again, on the same port and data."""
        self.apiserver.start()
        self.wait_ready()

    @property
    def audit_log(self) -> Path:
        """What ServiceAccounts asked for and were answered, an event a line."""
        return self.directory / "audit.log"

    def wait_ready(self) -> None:
        """Wait until /readyz says yes."""
        context = self.client_context()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for program in (self.etcd, self.apiserver):
                if not program.alive():
                    raise RuntimeError(f"{program.name} ended: {program.tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)  # between two questions to a server that cannot say when it will be up
        raise RuntimeError(f"kube-apiserver is not ready: {self.apiserver.tail()}")

    def client_context(self) -> ssl.SSLContext:
        """TLS as the administrator."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(self.directory / "admin.pem", self.directory / "admin.key")
        return context

    def write_kubeconfig(self, name: str, url: str, namespace: str = "default") -> Path:
        """A kubeconfig of the administrator for the API at `url`, which may be a proxy in front of it."""
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "suite",
            "contexts": [{"name": "suite", "context": {"cluster": "suite", "user": "admin", "namespace": namespace}}],
            "clusters": [
                {
                    "name": "suite",
                    "cluster": {"server": url, "certificate-authority": str(self.directory / "ca.pem")},
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate": str(self.directory / "admin.pem"),
                        "client-key": str(self.directory / "admin.key"),
                    },
                }
            ],
        }
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def kubectl(self, *arguments: str, namespace: str = "default", given: Any = None, check: bool = True) -> str:
        """Run kubectl as the administrator; `given` is applied from standard input. Its output, both streams."""
        text = None
        if given is not None:
            documents = given if isinstance(given, list) else [given]
            text = yaml.safe_dump_all(documents) if not isinstance(given, str) else given
        done = subprocess.run(
            [self.assets / "kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "HOME": str(self.directory)},
        )
        output = done.stdout + done.stderr
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {output}")
        return output

    def _audit_policy(self) -> Path:
        rules = [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        path = self.directory / "audit-policy.json"
        path.write_text(json.dumps(policy))
        return path

    def _program(self, name: str, *arguments: str) -> Program:
        return Program(name, [str(self.assets / name), *arguments], self.directory / f"{name}.log")

    def _make_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        certificates = {
            "server": authority.issue_cert("127.0.0.1", "localhost", "kubernetes.default.svc"),
            "admin": authority.issue_cert("admin", common_name="admin", organization_name="system:masters"),
        }
        for name, certificate in certificates.items():
            (self.directory / f"{name}.pem").write_bytes(b"".join(p.bytes() for p in certificate.cert_chain_pems))
            certificate.private_key_pem.write_to_path(str(self.directory / f"{name}.key"))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "accounts.key").write_bytes(private)
        (self.directory / "accounts.pub").write_bytes(public)
