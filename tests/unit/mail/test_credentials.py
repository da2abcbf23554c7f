"""Keys in a folder, as Kubernetes mounts and swaps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.errors import DkimMissing
from postfleet_workers.mail.message.dkim import PrivateKey, record
from postfleet_workers.mail.node import Dkim

DKIM = Dkim("s1", "acme.example")
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def put(folder: Path, key: PrivateKey, node: str = "n1") -> None:
    """As a kubelet does: a new file takes the old one's place."""
    new = folder / "new"
    new.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    new.rename(folder / f"{node}.dkim")


def test_a_key_is_read_once_and_the_log_says_what_dns_must_hold(tmp_path: Path) -> None:
    put(tmp_path, KEY)
    credentials = Credentials(tmp_path)
    with capture_logs() as logs:
        signer = credentials.signer("n1", DKIM)
        assert credentials.signer("n1", DKIM) is signer
    assert logs == [
        {
            "event": "dkim_key_read", "log_level": "info", "node": "n1", "dns_name": "s1._domainkey.acme.example",
            "record": record(KEY),
        }
    ]  # fmt: skip


def test_a_changed_key_or_selector_is_taken_up_at_once(tmp_path: Path) -> None:
    put(tmp_path, KEY)
    credentials = Credentials(tmp_path)
    first = credentials.signer("n1", DKIM)
    put(tmp_path, OTHER)
    second = credentials.signer("n1", DKIM)
    third = credentials.signer("n1", Dkim("s2", "acme.example"))
    messages = [signer.sign(b"From: a@acme.example\r\n\r\n", 0) for signer in (first, second, third)]
    assert len(set(messages)) == 3
    assert b"s=s2;" in messages[2]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"rubbish", "n1.dkim is no private key in PEM", id="broken"),
    ],
)
def test_without_a_key_that_works_nothing_is_signed_and_the_log_says_so_once(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "n1.dkim").write_bytes(content)
    credentials = Credentials(tmp_path)
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(DkimMissing, match=complaint):
                credentials.signer("n1", DKIM)
        put(tmp_path, KEY)
        credentials.signer("n1", DKIM)
        (tmp_path / "n1.dkim").unlink()
        with pytest.raises(DkimMissing):
            credentials.signer("n1", DKIM)
    assert [entry["event"] for entry in logs] == ["dkim_key_missing", "dkim_key_read", "dkim_key_missing"]


def test_without_a_folder_the_setting_is_named() -> None:
    with pytest.raises(DkimMissing, match="node n1 cannot sign its mail: POSTFLEET_CREDENTIALS_DIR is not set"):
        Credentials(None).signer("n1", DKIM)


def test_a_weak_key_signs_with_a_warning(tmp_path: Path) -> None:
    put(tmp_path, rsa.generate_private_key(public_exponent=65537, key_size=1024))
    with capture_logs() as logs:
        Credentials(tmp_path).signer("n1", DKIM)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("dkim_key_weak", "warning")]
