"""Manifests are read from files and folders, and every problem says where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.manifests import Manifests, Secret, load

POOL = "apiVersion: postfleet.io/v1alpha1\nkind: JobPool\nmetadata: {name: email}\nspec: {queues: [a]}\n"
NODE = (
    "apiVersion: postfleet.io/v1alpha1\nkind: SendingNode\nmetadata: {name: acme-1}\n"
    "spec: {smtp: {host: mx}, identity: {domain: example.com}}\n"
)
SECRET = (
    "apiVersion: v1\nkind: Secret\nmetadata: {name: smtp}\n"
    "data: {username: dXNlcg==, password: b2xk}\nstringData: {password: new}\n"
)


def read(tmp_path: Path, text: str) -> Manifests:
    (tmp_path / "m.yaml").write_text(text)
    return load([tmp_path / "m.yaml"])


def complaint(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.problems]


def test_a_file_may_hold_every_kind(tmp_path: Path) -> None:
    found = read(tmp_path, "---\n".join(["# a comment\n", POOL, NODE, SECRET]))
    assert [pool.name for pool in found.pools] == ["email"]
    assert [node.name for node in found.nodes] == ["acme-1"]
    assert found.secret("default", "smtp") == Secret("smtp", "default", {"username": "user", "password": "new"})
    assert found.secret("other", "smtp") is None


def test_a_folder_stands_for_its_yaml_files(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(NODE)
    (tmp_path / "a.yaml").write_text(POOL)
    (tmp_path / "campaign.csv").write_text("email\n")
    found = load([tmp_path])
    assert (len(found.pools), len(found.nodes)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(
            POOL.replace("queues: [a]", "queues: [a, a]"),
            ["m.yaml:4: JobPool email: spec.queues: queues must differ from each other: a is listed more than once"],
            id="bad pool",
        ),
        pytest.param(
            POOL + "---\n" + NODE.replace("example.com", "-x"),
            [
                (
                    "m.yaml:9: SendingNode acme-1: spec.identity.domain: "
                    "'-x' is not a domain name, give one like mail.example.com"
                )
            ],
            id="second document",
        ),
        pytest.param(
            POOL + "---\n" + POOL, ["m.yaml:6: JobPool email was already given in {dir}/m.yaml:1"], id="given twice"
        ),
        pytest.param(
            POOL.replace("queues: [a]", "queues: [a], queues: [b]"),
            ["m.yaml:4:21: 'queues' is given twice"],
            id="key twice",
        ),
        pytest.param("kind: [JobPool\n", ["m.yaml:2:1: expected ',' or ']', but got '<stream end>'"], id="syntax"),
        pytest.param("a: b: c\n", ["m.yaml:1:5: mapping values are not allowed here"], id="syntax 2"),
        pytest.param("b: 1\na: \x07\n", [r"m.yaml:2:4: '\x07' is not allowed in YAML"], id="control character"),
        pytest.param(
            "kind: Deployment\n",
            ["m.yaml:1: kind: 'Deployment' is not known here, give JobPool, SendingNode or Secret"],
            id="kind",
        ),
        pytest.param("a: 1\n", ["m.yaml:1: kind: is missing, give JobPool, SendingNode or Secret"], id="no kind"),
        pytest.param(
            "- 1\n", ["m.yaml:1: a manifest is a mapping with apiVersion, kind, metadata and spec, not [1]"], id="list"
        ),
        pytest.param("? [a]\n: 1\n", ["m.yaml:1:3: a key must be text"], id="key is a list"),
        pytest.param(
            SECRET.replace("dXNlcg==", "user!"),
            ["m.yaml:4: Secret smtp: data.username: is not base64 of UTF-8 text; plain text goes into stringData"],
            id="not base64",
        ),
        pytest.param(
            SECRET.replace("new", "5"),
            ["m.yaml:5: Secret smtp: stringData.password: must be text (quote it)"],
            id="number",
        ),
        pytest.param(
            SECRET + "username: x\n",
            ["m.yaml:6: Secret smtp: username: unknown field, give data or stringData"],
            id="stray",
        ),
    ],
)
def test_a_problem_says_where_it_is(tmp_path: Path, text: str, lines: list[str]) -> None:
    assert complaint(tmp_path, text) == [line.replace("{dir}", str(tmp_path)) for line in lines]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param("name: email", "name: n", "m.yaml:3: JobPool: metadata.name: YAML reads false here", id="n"),
        pytest.param("name: email", "name: yes", "m.yaml:3: JobPool: metadata.name: YAML reads true here", id="yes"),
        pytest.param("name: email", "name: 5", "m.yaml:3: JobPool: metadata.name: YAML reads 5 here", id="5"),
        pytest.param("name: email", "name: 1e3", "m.yaml:3: JobPool: metadata.name: YAML reads 1000.0 here", id="1e3"),
        pytest.param(
            "name: email", "name: email, namespace: 12", "m.yaml:3: JobPool email: metadata.namespace: YAML reads 12",
            id="namespace",
        ),
        pytest.param(
            "[a]", "[a, y]", "m.yaml:4: JobPool email: spec.queues[1]: must be text (quote it), not true", id="y"
        ),
    ],
)  # fmt: skip
def test_what_kubectl_reads_as_no_text_is_to_be_quoted(tmp_path: Path, old: str, new: str, line: str) -> None:
    [told] = complaint(tmp_path, POOL.replace(old, new))
    assert told.startswith(line)
    assert "quote it" in told
    quoted = new.replace(" y", ' "y"') if old == "[a]" else ": ".join([*new.split(": ")[:-1], f'"{new.split()[-1]}"'])
    assert read(tmp_path, POOL.replace(old, quoted)).pools


def test_a_secret_s_name_is_to_be_quoted_too(tmp_path: Path) -> None:
    assert complaint(tmp_path, SECRET.replace("smtp", "n")) == [
        "m.yaml:3: Secret: metadata.name: YAML reads false here, which is no text: quote it"
    ]


LONG = """\
# Sends the mail.
---
apiVersion: postfleet.io/v1alpha1
kind: JobPool
metadata:
  labels: {a: b}
  name: NAME
spec:
  queues:
    - a
    - B
  worker:
    threads: 3200
    env:
      - name: A
        value: x
      -
        name: B
        value: 5
    podTemplate:
"""


@pytest.mark.parametrize(
    ("old", "new", "starts"),
    [
        pytest.param(
            "B\n  worker",
            "B\n  worker",
            [
                "11: JobPool email: spec.queues[1]",
                "13: JobPool email: spec.worker.threads",
                "19: JobPool email: spec.wo",
            ],
            id="fields and entries",
        ),
        pytest.param("    - B\n", "", ["12: ", "18: "], id="lines above count"),
        pytest.param("NAME", "E", ["7: JobPool E: metadata.name must"], id="name"),
        pytest.param("  name: NAME\n", "", ["5: JobPool: metadata.name: is missing"], id="missing: where it belongs"),
        pytest.param(
            "      - name: A\n        v", "      - v", ["15: JobPool email: spec.worker.env[0].name"], id="in a list"
        ),
        pytest.param("spec:\n", "more.of it: 1\nspec:\n", ["8: JobPool email: more.of it: unknown"], id="odd key"),
        pytest.param(
            "spec:\n", "sepc:\n", ["8: JobPool email: sepc: unk", "3: JobPool email: spec: is m"], id="no spec"
        ),
    ],
)
def test_a_problem_has_the_line_of_its_field(tmp_path: Path, old: str, new: str, starts: list[str]) -> None:
    text = LONG.replace(old, new).replace("NAME", "email")
    lines = sorted(complaint(tmp_path, text))
    for start in starts:
        assert any(line.startswith(f"m.yaml:{start}") for line in lines), lines


def test_what_holds_itself_has_a_line_too(tmp_path: Path) -> None:
    assert complaint(tmp_path, "kind: X\nspec: &a {b: *a}\n")[0].startswith("m.yaml:1: kind: 'X'")


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n---\n"])
def test_what_is_given_must_hold_a_manifest(tmp_path: Path, text: str) -> None:
    assert complaint(tmp_path, text) == ["m.yaml: holds no manifest"]
    (tmp_path / "campaign.yaml").write_text("name: spring\n")
    with pytest.raises(InvalidManifest) as caught:
        load([tmp_path])
    assert caught.value.problems == (f"{tmp_path}: holds no manifest",)


def test_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: X\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidManifest) as caught:
        load([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "gone.yaml", tmp_path / "empty"])
    assert [line.split(": ", 1)[1] for line in caught.value.problems] == [
        "kind: 'X' is not known here, give JobPool, SendingNode or Secret",
        "is not UTF-8 (byte 0); save it as UTF-8",
        "cannot be read: No such file or directory",
        "holds no .yaml, .yml or .json file",
    ]


def test_other_yaml_in_a_folder_is_skipped_and_said(tmp_path: Path) -> None:
    (tmp_path / "campaign.yaml").write_text("name: spring\n---\nname: summer\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "nothing.yaml").write_text("# a comment\n")
    (tmp_path / "pool.yaml").write_text(POOL)
    found = load([tmp_path])
    assert [pool.name for pool in found.pools] == ["email"]
    assert found.skipped == tuple(
        f"skipped {tmp_path}/{name}: no apiVersion and kind" for name in ("campaign.yaml", "list.json")
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("kind: JobPol\n", "'JobPol' is not known here", id="another kind"),
        pytest.param(POOL + "---\nspec: {}\n", "m.yaml:6: kind: is missing", id="beside a manifest"),
        pytest.param("name: [spring\n", "m.yaml:2:1: ", id="broken"),
    ],
)
def test_what_may_be_a_manifest_is_not_skipped(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InvalidManifest) as caught:
        load([tmp_path])
    assert problem in caught.value.problems[0]


def test_a_byte_order_mark_and_dates_are_no_problem(tmp_path: Path) -> None:
    text = POOL.replace("spec:", "status: {at: 2026-01-01}\nspec:").replace(
        "name: email", "name: email, labels: {since: 2026-01-01}"
    )
    (tmp_path / "m.yaml").write_text("\ufeff" + text, encoding="utf-8")
    [pool] = load([tmp_path / "m.yaml"]).pools
    assert pool.metadata.labels == {"since": "2026-01-01"}


def test_secrets_do_not_show_their_values() -> None:
    assert "hidden" not in repr(Secret("smtp", "default", {"password": "hidden"}))
