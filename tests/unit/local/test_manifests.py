"""Which files are manifests, and where their nodes deliver in a local fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from postfleet_local import sources
from postfleet_local.errors import ManifestError
from postfleet_local.home import quickstart
from postfleet_local.routing import Endpoint, kept_here, login_of, parse_endpoint, to_server, to_sink
from postfleet_operator.manifests import Manifests
from postfleet_operator.reachability import on_loopback
from postfleet_operator.spec.node import Tls

POOL = "apiVersion: postfleet.io/v1alpha1\nkind: JobPool\nmetadata: {name: NAME}\nspec: {queues: [a]}\n"
NODE = """apiVersion: postfleet.io/v1alpha1
kind: SendingNode
metadata: {name: acme-1}
spec:
  smtp: {host: HOST, port: 587, credentialsSecretRef: {name: login}}
  identity: {domain: acme.example}
"""
SINK = Endpoint("127.0.0.1", 4711)


def manifests(tmp_path: Path, host: str = "smtp.acme.example") -> Manifests:
    (tmp_path / "all.yaml").write_text(POOL.replace("NAME", "email") + "---\n" + NODE.replace("HOST", host))
    return sources.read([tmp_path / "all.yaml"])


def test_the_quickstart_is_found_and_leaves_its_campaign_out() -> None:
    found = sources.read([quickstart()])
    assert (found.pools[0].name, len(found.nodes), len(found.secrets)) == ("email", 1, 1)
    assert found.skipped == (f"skipped {quickstart()}/campaign.yaml: no apiVersion and kind",)


def test_a_file_that_is_named_must_be_a_manifest() -> None:
    with pytest.raises(ManifestError, match=r"campaign\.yaml:3: kind: is missing"):
        sources.read([quickstart() / "campaign.yaml"])


def test_broken_yaml_in_a_folder_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text("kind: [JobPool")
    with pytest.raises(ManifestError, match=r"pool\.yaml:1:15: expected"):
        sources.read([tmp_path])


def test_an_unknown_field_is_one_line_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL.replace("NAME", "email").replace("queues: [a]", "queues: [a], qeues: [b]"))
    with pytest.raises(ManifestError) as caught:
        sources.read([tmp_path])
    (line,) = str(caught.value).splitlines()
    assert "pool.yaml:4: JobPool email: spec.qeues: unknown field" in line


def test_a_fleet_without_a_pool_has_nothing_to_run(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(NODE.replace("HOST", "localhost"))
    with pytest.raises(ManifestError, match="holds no JobPool"):
        sources.read([tmp_path])


def test_the_local_fleet_has_one_namespace(tmp_path: Path) -> None:
    other = POOL.replace("NAME", "email, namespace: other")
    (tmp_path / "pool.yaml").write_text(POOL.replace("NAME", "email") + "---\n" + other)
    with pytest.raises(ManifestError, match="JobPool email is given in two namespaces"):
        sources.read([tmp_path])


def test_the_fingerprint_changes_with_an_edit_and_with_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text("a")
    first = sources.fingerprint([tmp_path])
    (tmp_path / "pool.yaml").write_text("ab")
    second = sources.fingerprint([tmp_path])
    (tmp_path / "node.yaml").write_text("")
    assert len({first, second, sources.fingerprint([tmp_path])}) == 3


def test_a_given_server_takes_all_mail_in_the_clear(tmp_path: Path) -> None:
    (node,) = to_server(manifests(tmp_path), Endpoint("mail.test", 25)).nodes
    smtp = node.spec.smtp
    assert (smtp.host, smtp.port, smtp.tls, smtp.credentials_secret_ref) == ("mail.test", 25, Tls.NONE, None)


@pytest.mark.parametrize("given", [True, False])
def test_mail_is_signed_where_the_key_was_given(tmp_path: Path, given: bool) -> None:
    key = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {private.key: PEM}\n" if given else ""
    node = NODE.replace("identity: {", "identity: {dkim: {selector: s1, privateKeySecretRef: {name: key}}, ")
    (tmp_path / "all.yaml").write_text(
        POOL.replace("NAME", "email") + "---\n" + node.replace("HOST", "mx.example") + key
    )
    found = sources.read([tmp_path / "all.yaml"])
    for turned in (to_server(found, SINK), kept_here(found, SINK)):
        assert (turned.nodes[0].spec.identity.dkim is not None) is given


def test_a_node_that_delivers_directly_is_turned_to_the_sink_too(tmp_path: Path) -> None:
    text = NODE.replace("HOST", "mx").replace(", port: 587, credentialsSecretRef: {name: login}", "")
    (tmp_path / "all.yaml").write_text(POOL.replace("NAME", "email") + "---\n" + text)
    (node,) = kept_here(sources.read([tmp_path / "all.yaml"]), SINK).nodes
    assert (node.spec.smtp.host, node.spec.smtp.port) == ("127.0.0.1", 4711)


def test_the_sink_of_a_demo_gets_the_node_s_login(tmp_path: Path) -> None:
    (node,) = to_sink(manifests(tmp_path), SINK).nodes
    assert node.spec.smtp.port == 4711
    assert node.spec.smtp.credentials_secret_ref is not None


def test_a_fleet_sends_nothing_off_this_machine(tmp_path: Path) -> None:
    (node,) = kept_here(manifests(tmp_path), SINK).nodes
    assert (node.spec.smtp.host, node.spec.smtp.port, node.spec.smtp.credentials_secret_ref) == (
        "127.0.0.1",
        4711,
        None,
    )


def test_a_server_on_this_machine_is_used_as_written(tmp_path: Path) -> None:
    given = manifests(tmp_path, "127.0.0.2")
    assert kept_here(given, SINK) == given


def test_the_login_is_the_first_node_s_secret() -> None:
    secret = login_of(sources.read([quickstart()]))
    assert secret is not None
    assert secret.data["username"] == "acme"


def test_sources_are_read_again_once_they_stand_still(tmp_path: Path) -> None:
    def look() -> bool:
        return watch.changed(sources.fingerprint([tmp_path]))

    file = tmp_path / "pool.yaml"
    file.write_text("old")
    watch = sources.Watch(sources.fingerprint([tmp_path]))
    assert not look()
    file.write_text("")
    assert not look(), "it is being written"
    file.write_text("newer")
    assert not look()
    assert look()
    assert not look(), "once"
    file.unlink()
    assert [look(), look(), look()] == [False, True, False]


def test_sources_that_are_as_before_are_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    watch = sources.Watch(sources.fingerprint([tmp_path]))
    file.write_text("")
    assert not watch.changed(sources.fingerprint([tmp_path]))
    file.unlink()
    assert not watch.changed(sources.fingerprint([tmp_path]))
    assert not watch.changed(sources.fingerprint([tmp_path]))


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("mail.localhost", True), ("10.0.0.1", False)],
)
def test_loopback(host: str, here: bool) -> None:
    assert on_loopback(host) is here


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:25", Endpoint("127.0.0.1", 25)),
        ("mail.test:2525", Endpoint("mail.test", 2525)),
        ("[::1]:25", Endpoint("::1", 25)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize("text", ["", "25", "host", ":25", "host:", "host:0", "host:65536", "host:smtp", "::1:25"])
def test_what_is_no_endpoint_says_so(text: str) -> None:
    with pytest.raises(ManifestError, match="HOST:PORT"):
        parse_endpoint(text)
