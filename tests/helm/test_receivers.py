"""What is reached from outside, and the key that signs what leads there."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from charts import CHART, NAMESPACE, Helm, Manifest, containers, env, of_kind, one
from test_release import container, key_of, operator_settings

from postfleet_operator.deployment import SecretKey

KEY = "POSTFLEET_SECRET_KEY"
ON: dict[str, Any] = {
    "publicUrl": "https://news.example.com/",
    "web": {"enabled": True, "ingress": {"enabled": True}},
    "inbound": {"enabled": True},
}


def pod(rendered: list[Manifest], name: str) -> Manifest:
    [only] = containers(one(rendered, "Deployment", f"postfleet-{name}")["spec"]["template"])
    return only


def test_nothing_is_reached_from_outside_unasked(helm: Helm) -> None:
    rendered = helm.render("external")
    assert of_kind(rendered, "Service") == of_kind(rendered, "Ingress") == []
    assert {found["metadata"]["name"] for found in of_kind(rendered, "Deployment")} == {
        "postfleet-operator",
        "postfleet-relay",
    }


@pytest.mark.parametrize(("name", "port"), [("web", 8081), ("inbound", 2525)])
def test_a_service_leads_to_the_port_that_the_process_listens_on(helm: Helm, name: str, port: int) -> None:
    rendered = helm.render(ON)
    only = pod(rendered, name)
    variables = env(only)
    assert only["command"] == ["postfleet", name]
    assert variables[f"POSTFLEET_{name.upper()}_PORT"] == str(port)
    assert variables[f"POSTFLEET_{name.upper()}_HOST"] == "0.0.0.0"
    ports = {each["name"]: each["containerPort"] for each in only["ports"]}
    [served] = one(rendered, "Service", f"postfleet-{name}")["spec"]["ports"]
    assert ports[served["targetPort"]] == port


@pytest.mark.parametrize("name", ["web", "inbound"])
def test_what_is_reached_from_outside_knows_nothing_of_redis(helm: Helm, name: str) -> None:
    variables = env(pod(helm.render(ON), name))
    assert "POSTFLEET_DATABASE_URL" in variables
    assert "POSTFLEET_REDIS_URL" not in variables


def test_web_is_for_an_ingress_and_inbound_for_the_internet(helm: Helm) -> None:
    rendered = helm.render(ON)
    web, inbound = (one(rendered, "Service", f"postfleet-{name}")["spec"] for name in ("web", "inbound"))
    assert (web["type"], web["ports"][0]["port"], "externalTrafficPolicy" in web) == ("ClusterIP", 80, False)
    assert (inbound["type"], inbound["ports"][0]["port"]) == ("LoadBalancer", 25)
    assert inbound["externalTrafficPolicy"] == "Local"
    inside = helm.render({"inbound": {"enabled": True, "service": {"type": "ClusterIP"}}})
    assert "externalTrafficPolicy" not in one(inside, "Service", "postfleet-inbound")["spec"]


def test_inbound_reads_its_certificate_where_it_is_mounted(helm: Helm) -> None:
    rendered = helm.render("existing")
    template = one(rendered, "Deployment", "mailroom-inbound")["spec"]["template"]["spec"]
    [only] = template["containers"]
    [mount] = [each for each in only["volumeMounts"] if each["name"] == "tls"]
    assert mount["readOnly"] is True
    assert [volume["secret"]["secretName"] for volume in template["volumes"] if "secret" in volume] == ["bounces-tls"]
    assert env(only)["POSTFLEET_INBOUND_TLS_CERT"] == f"{mount['mountPath']}/tls.crt"
    assert env(only)["POSTFLEET_INBOUND_TLS_KEY"] == f"{mount['mountPath']}/tls.key"
    assert not any(name.startswith("POSTFLEET_INBOUND_TLS") for name in env(pod(helm.render(ON), "inbound")))


def test_the_ingress_is_for_the_public_url(helm: Helm) -> None:
    spec = one(helm.render("existing"), "Ingress", "mailroom-web")["spec"]
    assert (spec["ingressClassName"], spec["tls"]) == (
        "nginx",
        [{"hosts": ["news.example.com"], "secretName": "news-tls"}],
    )
    [rule] = spec["rules"]
    assert rule["host"] == "news.example.com"
    assert [path["path"] for path in rule["http"]["paths"]] == ["/u", "/c", "/o"]
    assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {"mailroom-web"}
    plain = one(helm.render({**ON, "publicUrl": "http://news.example.com:8080"}), "Ingress", "postfleet-web")["spec"]
    assert ("tls" in plain, plain["rules"][0]["host"]) == (False, "news.example.com")


def test_one_answers_while_the_other_goes(helm: Helm) -> None:
    rendered = helm.render(ON)
    for name in ("web", "inbound"):
        spec = one(rendered, "Deployment", f"postfleet-{name}")["spec"]
        assert (spec["replicas"], spec["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 0)
        [only] = containers(spec["template"])
        assert only["lifecycle"]["preStop"]
        assert one(rendered, "PodDisruptionBudget", f"postfleet-{name}")["spec"]["maxUnavailable"] == 1


def test_a_key_is_made_and_is_the_same_wherever_workers_are(helm: Helm) -> None:
    rendered = helm.render({"watchNamespaces": ["mail", "shop"]})
    found = [one(rendered, "Secret", "postfleet-secret-key", namespace) for namespace in ("mail", "shop")]
    [key] = {secret["data"][KEY] for secret in found}
    assert len(base64.b64decode(key)) == 48
    for secret in found:
        assert secret["immutable"] is True
        assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert operator_settings(rendered).render.key_secret == SecretKey("postfleet-secret-key", KEY)
    assert env(container(rendered, "relay"))[KEY] == key_of("postfleet-secret-key", KEY)


def test_a_key_of_one_s_own_goes_everywhere(helm: Helm) -> None:
    rendered = helm.render("existing")
    assert of_kind(rendered, "Secret") == []
    assert operator_settings(rendered, "mailroom").render.key_secret == SecretKey("mail-key", "key")
    for name in ("relay", "web", "inbound"):
        assert env(container(rendered, name, "mailroom"))[KEY] == key_of("mail-key", "key")


def test_the_public_url_reaches_workers_relay_and_web(helm: Helm) -> None:
    rendered = helm.render({**ON, "settings": {"POSTFLEET_LEASE_SECONDS": 90}})
    name = operator_settings(rendered).render.settings_config_map
    data = {"POSTFLEET_PUBLIC_URL": "https://news.example.com", "POSTFLEET_LEASE_SECONDS": "90"}
    assert one(rendered, "ConfigMap", name)["data"] == data
    for each in ("relay", "web", "inbound"):
        assert container(rendered, each)["envFrom"] == [{"configMapRef": {"name": name}}]
    assert operator_settings(helm.render({"publicUrl": "https://news.example.com"})).render.settings_config_map == name


def test_roles_stay_as_they_are(helm: Helm) -> None:
    def accounts(rendered: list[Manifest]) -> set[str]:
        return {found["metadata"]["name"] for found in of_kind(rendered, "ServiceAccount")}

    assert accounts(helm.render(ON)) - accounts(helm.render({})) == {"postfleet-web", "postfleet-inbound"}
    assert len(of_kind(helm.render(ON), "RoleBinding")) == len(of_kind(helm.render({}), "RoleBinding"))


def test_notes_tell_what_is_left_to_do(helm: Helm) -> None:
    done = helm.run(
        "install", "postfleet", str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client", "--hide-notes=false",
        "--set=database.url=postgresql://u:p@db/x,redis.url=redis://r,publicUrl=https://news.example.com",
        "--set=web.enabled=true,inbound.enabled=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notes = done.stdout.rpartition("NOTES:")[2]
    assert "curl --silent https://news.example.com/u/test" in notes
    assert "get service postfleet-inbound" in notes
    assert "get secret postfleet-secret-key" in notes
