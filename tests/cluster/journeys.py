"""A release of the charts from the first command to the last, with mail and jobs that go through it."""

from __future__ import annotations

import base64
import re
import time
import urllib.request
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

from cluster_worlds import World
from operators import eventually, node, pool
from releases import CRDS, Release, newer, replicas_told
from shops import Shop

from mail_lab import Lab
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.tokens import Key, read_stamp

MAILS, JOBS = 150, 400
PUBLIC_URL = "https://news.example.com"
UPGRADE = ("--reset-then-reuse-values", "--wait", "--timeout=90s")
LOGIN = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "login"},
    "stringData": {"username": "acme", "password": "p"},
}


@dataclass(slots=True)
class Journey:
    """One release, from the first command to the last."""

    release: Release
    shop: Shop
    lab: Lab

    @property
    def world(self) -> World:
        return self.release.world

    def install(self) -> float:
        """As the documents say; the seconds until everything was ready."""
        began = time.monotonic()
        self.release.helm("install", "postfleet-crds", CRDS)
        urls = (f"--from-literal=database={self.world.database_url}", f"--from-literal=redis={self.world.redis_url}")
        self.world.kubectl("create", "secret", "generic", "urls", *urls)
        values = {
            "database": {"url": "", "existingSecret": {"name": "urls", "key": "database"}},
            "redis": {"url": "", "existingSecret": {"name": "urls", "key": "redis"}},
            "settings": {"POSTFLEET_JOB_MODULES": "probe_jobs"},
            "publicUrl": PUBLIC_URL,
            "web": {"enabled": True},
            "inbound": {"enabled": True, "service": {"type": "ClusterIP"}},
        }
        notes = self.release.install(values, "--wait")
        took = time.monotonic() - began
        assert "helm test postfleet" in notes
        assert [self.release.agent.exits[name][0].code for name in self.migrations()] == [0]
        for component in ("operator", "relay", "web", "inbound"):
            assert len(self.release.pods(component)) == 2, component
        return took

    def migrations(self) -> list[str]:
        return [name for name in self.release.agent.exits if name.startswith("postfleet-migrations-")]

    def first_mail(self) -> float:
        """Through a node with a login; the seconds until the pool asked for workers."""
        began = time.monotonic()
        smtp = {"host": "127.0.0.1", "port": self.lab.port, "tls": "None", "credentialsSecretRef": {"name": "login"}}
        self.world.apply(LOGIN, node(smtp=smtp, workers={"poolRef": {"name": "email"}}))
        self.shop.fleet.execute("INSERT INTO tenants (name) VALUES ('acme')")
        eventually(lambda: self.world.status("acme-1", "sendingnode").get("phase"), lambda found: found == "Active")
        with self.shop.fleet.engine.begin() as connection:
            for number in range(MAILS):
                to = f"{number}@example.org"
                send_email(connection, NewEmail("acme", to, "acme-1", "s", text="t", sender="a@a.example"))
        eventually(self.world.replicas, lambda found: (found or 0) > 0)
        took = time.monotonic() - began
        eventually(self.shop.left, lambda left: left == 0, seconds=60)
        assert sorted(mail.recipient for mail in self.lab.accepted) == sorted(f"{n}@example.org" for n in range(MAILS))
        assert set(self.lab.logins) == {"acme"}
        return took

    def key(self) -> Key:
        """What the chart has made to sign links with."""
        secret = self.world.get("secret", "postfleet-secret-key") or {}
        return Key(base64.b64decode(secret["data"]["POSTFLEET_SECRET_KEY"]))

    def unsubscribe(self) -> None:
        """By the link of a mail that went out: workers sign with the key that web reads."""
        key = self.key()
        mail = self.lab.accepted[0]
        stamp = message_from_bytes(mail.data)["X-Postfleet-Email"]
        assert read_stamp(key, stamp) == mail.email_id
        for pod in self.release.pods("web"):
            [port] = re.findall(r'"port": (\d+), "event": "web"', self.release.agent.log(pod))
            link = Links(f"http://127.0.0.1:{port}", key).unsubscribe(mail.email_id)
            with urllib.request.urlopen(link, b"List-Unsubscribe=One-Click", timeout=20) as answer:
                assert answer.status == 200
        found = self.shop.fleet.rows("SELECT tenant, address, reason FROM suppressions")
        assert [tuple(row) for row in found] == [("acme", mail.recipient, "unsubscribe")]

    def work(self) -> None:
        """A pool of the user's own beside the release's, with two workers that have enough to do."""
        autoscaling = {"minReplicas": 2, "maxReplicas": 6, "target": {"backlogPerReplica": 10_000}}
        worker = {"threads": 4, "shutdownTimeoutSeconds": 10}
        self.world.apply(pool("own", queues=["probe"], worker=worker, autoscaling=autoscaling))
        self.shop.ready(2, "own")
        self.shop.jobs(JOBS, 0.5)

    def images(self, *components: str) -> set[str]:
        """Tags of what runs."""
        pods = [pod for component in components for pod in self.release.pods(component).values()]
        pods += self.world.items("pod", labelSelector="postfleet.io/pool=own")
        live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {pod["spec"]["containers"][0]["image"].partition(":")[2] for pod in live}

    def there_and_back(self, directory: Path) -> None:
        """To the next version and back, under work that must not notice."""
        older, key = self.images("operator", "relay"), self.key()
        with replicas_told(self.world) as seen:
            self.release.helm("upgrade", "postfleet", newer(directory), *UPGRADE)
            assert len(self.migrations()) == 2
            eventually(lambda: self.images("operator", "relay"), lambda found: found == {"99.0.0"})
            assert self.maximum() == 17
            self.release.helm("rollback", "postfleet", "1", "--wait", "--timeout=90s")
            eventually(lambda: self.images("operator", "relay"), lambda found: found == older)
            assert self.maximum() == 20
            assert self.key() == key
            eventually(self.shop.left, lambda left: left == 0, seconds=60)
        assert seen["own"] == seen["postfleet-operator"] == seen["postfleet-relay"] == [2]
        assert seen["email"] == sorted(seen["email"], reverse=True), "at most the end of the mail before"
        assert self.shop.runs() == {1}
        assert self.shop.fleet.rows("SELECT id FROM jobs WHERE attempt <> 1 OR strikes <> 0") == []
        assert self.killed() == ""

    def killed(self) -> str:
        """The last words of pods that did not end by themselves; before a worker has begun, 1 and 143 are ends too."""
        return self.shop.ended_otherwise(0, 1, 143)

    def maximum(self) -> int:
        return int((self.world.get("jobpool", "email") or {})["spec"]["autoscaling"]["maxReplicas"])

    def leave(self) -> None:
        """What goes, and what stays."""
        self.release.helm("uninstall", "postfleet", "--wait", "--timeout=60s")
        self.release.helm("uninstall", "postfleet-crds", "--wait")
        mail = {"labelSelector": "postfleet.io/pool=email"}
        eventually(lambda: self.world.items("pod", **mail), lambda found: not found, seconds=90)
        assert self.killed() == ""
        eventually(lambda: self.release.pods("operator") | self.release.pods("relay"), lambda found: not found)
        kinds = (
            "deployments,jobs,secrets,configmaps,serviceaccounts,roles,rolebindings,leases,pdb,jobpools,sendingnodes"
        )
        left = set(self.world.kubectl("get", kinds, "-o", "name").split())
        assert left == {
            "configmap/kube-root-ca.crt",
            "deployment.apps/own",
            "jobpool.postfleet.io/own",
            "lease.coordination.k8s.io/postfleet-operator",
            "secret/login",
            "secret/postfleet-secret-key",
            "secret/urls",
            "sendingnode.postfleet.io/acme-1",
            "serviceaccount/default",
        }
        assert "postfleet" not in self.world.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
        assert self.world.replicas("own") == 2
        assert len(self.shop.fleet.rows("SELECT id FROM jobs")) > MAILS + JOBS
        self.world.kubectl("delete", "crd", "jobpools.postfleet.io", "sendingnodes.postfleet.io")
        eventually(lambda: self.world.get("deployment", "own"), lambda found: found is None)
