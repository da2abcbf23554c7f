"""Every permission that the chart gives, as a closed table; docs/installation.md says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from charts import NAMESPACE, ROOT, Helm, Manifest, of_kind, one

OPERATOR = {
    ("postfleet.io", "jobpools"): {"list", "watch"},
    ("postfleet.io", "sendingnodes"): {"list", "watch"},
    ("postfleet.io", "jobpools/status"): {"patch"},
    ("postfleet.io", "sendingnodes/status"): {"patch"},
    ("postfleet.io", "jobpools/finalizers"): {"update"},
    ("apps", "deployments"): {"get", "list", "watch", "create", "patch", "delete"},
    ("apps", "deployments/scale"): {"patch"},
    ("", "pods"): {"list", "watch", "patch"},
    ("", "events"): {"create", "patch"},
}
SECRETS = {("", "secrets"): {"get", "list", "watch", "create", "patch", "delete"}}
LEADER = {("coordination.k8s.io", "leases"): {"create", "get", "update"}, ("", "events"): {"create", "patch"}}
VIEW = {
    ("postfleet.io", resource): {"get", "list", "watch"}
    for resource in ("jobpools", "jobpools/status", "sendingnodes", "sendingnodes/status")
}
EDIT = {
    ("postfleet.io", "jobpools"): {"create", "update", "patch", "delete", "deletecollection"},
    ("postfleet.io", "sendingnodes"): {"create", "update", "patch", "delete", "deletecollection"},
    ("postfleet.io", "jobpools/scale"): {"get", "update", "patch"},
}
Table = Mapping[tuple[str, str], set[str]]


def table(rules: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def roles(rendered: list[Manifest], kind: str) -> Iterator[tuple[str, str, Table]]:
    for role in of_kind(rendered, kind):
        yield role["metadata"]["name"], role["metadata"].get("namespace", ""), table(role["rules"])


@pytest.mark.parametrize(
    ("name", "prefix", "namespaces"),
    [("dev", "postfleet", ["mail"]), ("existing", "mailroom", ["mail", "shop"])],
)
def test_in_named_namespaces_the_operator_has_roles_there(
    helm: Helm, name: str, prefix: str, namespaces: list[str]
) -> None:
    rendered = helm.render(name)
    wanted = [(f"{prefix}-operator-leader", NAMESPACE, LEADER)]
    for namespace in namespaces:
        wanted += [(f"{prefix}-operator", namespace, OPERATOR), (f"{prefix}-operator-secrets", namespace, SECRETS)]
    assert sorted(roles(rendered, "Role"), key=str) == sorted(wanted, key=str)
    assert of_kind(rendered, "ClusterRoleBinding") == []
    assert {(role, where) for role, where, _ in wanted} == {
        (binding["roleRef"]["name"], binding["metadata"]["namespace"]) for binding in of_kind(rendered, "RoleBinding")
    }


def test_everywhere_the_operator_has_one_cluster_role(helm: Helm) -> None:
    rendered = helm.render("everywhere")
    assert list(roles(rendered, "Role")) == [("postfleet-operator-leader", NAMESPACE, LEADER)]
    assert ("mail-postfleet-operator", "", OPERATOR | SECRETS) in list(roles(rendered, "ClusterRole"))
    [binding] = of_kind(rendered, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "mail-postfleet-operator"


def test_only_the_operator_s_account_is_bound(rendered: list[Manifest]) -> None:
    bindings = [*of_kind(rendered, "RoleBinding"), *of_kind(rendered, "ClusterRoleBinding")]
    [operator] = [found for found in of_kind(rendered, "Deployment") if found["metadata"]["name"].endswith("-operator")]
    account = operator["spec"]["template"]["spec"]["serviceAccountName"]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    assert all(binding["subjects"] == [subject] for binding in bindings)


def test_only_its_own_lease_can_be_changed(helm: Helm) -> None:
    rules = one(helm.render("dev"), "Role", "postfleet-operator-leader")["rules"]
    leases = [rule for rule in rules if rule["resources"] == ["leases"]]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in leases] == [
        (["create"], None),
        (["get", "update"], ["postfleet-operator"]),
    ]


def test_people_s_roles_are_added_to_the_cluster_s(helm: Helm) -> None:
    found = {name: rules for name, _, rules in roles(helm.render("dev"), "ClusterRole")}
    assert found == {"mail-postfleet-view": VIEW, "mail-postfleet-edit": EDIT}
    labels = one(helm.render("dev"), "ClusterRole", "mail-postfleet-edit", "")["metadata"]["labels"]
    assert {name for name in labels if name.startswith("rbac.")} == {
        "rbac.authorization.k8s.io/aggregate-to-edit",
        "rbac.authorization.k8s.io/aggregate-to-admin",
    }


def test_roles_can_be_left_to_others(helm: Helm) -> None:
    rendered = helm.render({"rbac": {"create": False, "aggregate": False}})
    assert not {found["kind"] for found in rendered} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_every_rule_gives_its_reason() -> None:
    for path in ("operator/_rules.tpl", "operator/role.yaml", "access/clusterroles.yaml"):
        lines = (ROOT / "helm/postfleet/templates" / path).read_text().splitlines()
        rules = [number for number, line in enumerate(lines) if line.startswith("- apiGroups:")]
        bare = [lines[n] for n in rules if not lines[n - 1].startswith("#") and "leases" not in lines[n + 1]]
        assert bare == []


def test_the_documentation_lists_the_same() -> None:
    text = (ROOT / "docs/installation.md").read_text()
    listed: dict[tuple[str, str], set[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3 and "`" in cells[1]:
            for resource in cells[0].replace("`", "").split(", "):
                name, _, group = resource.partition(" of ")
                verbs = set(cells[1].replace("`", "").split(", "))
                listed.setdefault((group if group != "core" else "", name), set()).update(verbs)
    wanted: dict[tuple[str, str], set[str]] = {}
    for rules in (OPERATOR, SECRETS, LEADER):
        for key, verbs in rules.items():
            wanted.setdefault(key, set()).update(verbs)
    assert listed == wanted
