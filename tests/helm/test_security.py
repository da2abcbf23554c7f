"""What runs may do nothing that it need not: the `restricted` standard, pinned images, no token without a use."""

from __future__ import annotations

import re

from charts import Helm, Manifest, containers, env, pods

from pod_security import violations

VERSION = re.compile(r"(:v?\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$")


def test_every_pod_meets_the_restricted_standard(rendered: list[Manifest]) -> None:
    assert {name: violations(pod["spec"]) for name, pod in pods(rendered)} == {name: [] for name, _ in pods(rendered)}


def test_nobody_writes_to_a_root_filesystem_or_shares_a_machine_s(rendered: list[Manifest]) -> None:
    for name, pod in pods(rendered):
        assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers(pod)), name
        assert {next(iter(volume.keys() - {"name"})) for volume in pod["spec"]["volumes"]} <= {"emptyDir", "secret"}, (
            name
        )


def test_every_image_is_one_version(rendered: list[Manifest]) -> None:
    images = {one["image"] for _, pod in pods(rendered) for one in containers(pod)}
    images |= {
        env(one)["POSTFLEET_WORKER_IMAGE"]
        for _, pod in pods(rendered)
        for one in containers(pod)
        if "POSTFLEET_WORKER_IMAGE" in env(one)
    }
    assert [image for image in images if not VERSION.search(image)] == []


def test_the_operator_alone_has_a_token(rendered: list[Manifest]) -> None:
    with_token = {name for name, pod in pods(rendered) if pod["spec"].get("automountServiceAccountToken") is not False}
    assert {name.rpartition("-")[2] for name in with_token} == {"operator"}


def test_no_service_of_the_namespace_can_change_a_setting(rendered: list[Manifest]) -> None:
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in pods(rendered))


def test_what_runs_has_bounds(rendered: list[Manifest]) -> None:
    for name, pod in pods(rendered):
        for one in containers(pod):
            assert {"cpu", "memory"} <= one["resources"]["requests"].keys(), name
            assert "memory" in one["resources"]["limits"], name


def test_passwords_are_in_secrets_only(rendered: list[Manifest]) -> None:
    for found in rendered:
        if found["kind"] != "Secret":
            assert not re.search(r"://[^/@\s]*:[^/@\s]+@", str(found)), found["metadata"]["name"]


def test_digests_go_before_tags(helm: Helm) -> None:
    digest = "sha256:" + "0" * 64
    rendered = helm.render({"image": {"registry": "r.example/", "tag": "9.9.9", "worker": {"digest": digest}}})
    images = {one["image"] for _, pod in pods(rendered) for one in containers(pod)}
    assert images == {"r.example/postfleet-operator:9.9.9", f"r.example/postfleet-worker@{digest}"}
