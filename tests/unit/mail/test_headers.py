"""Header values are judged by the standard library's parser, not by our own idea of them."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message.headers import Address, address, parameter, unstructured

printable = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])


def read_back(found: Address) -> tuple[str, str]:
    """Name and mailbox as a parser has them.

    The name by RFC 2047: CPython 3.11's `policy.default` puts a space between adjacent encoded words of one.
    """
    raw = f"To: {found.header}\r\n\r\n".encode()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    (parsed,) = message_from_bytes(raw, policy=policy.default)["To"].addresses
    value = message_from_bytes(raw, policy=policy.compat32)["To"]
    name, _ = parseaddr(str(value).replace("\r\n", ""))
    return str(make_header(decode_header(name))), parsed.addr_spec


@pytest.mark.parametrize(
    ("sender", "name", "mailbox"),
    [
        pytest.param("news@acme.example", "", "news@acme.example", id="bare"),
        pytest.param("Acme News <news@acme.example>", "Acme News", "news@acme.example", id="atoms"),
        pytest.param('"Acme, Inc." <news@acme.example>', "Acme, Inc.", "news@acme.example", id="quoted"),
        pytest.param('"A \\"b\\" c" <a@b.example>', 'A "b" c', "a@b.example", id="quotes-inside"),
        pytest.param("Jörg Müller <j@acme.example>", "Jörg Müller", "j@acme.example", id="umlauts"),
        pytest.param(
            "山田太郎 " * 12 + "<j@acme.example>", ("山田太郎 " * 12).strip(), "j@acme.example", id="long-and-japanese"
        ),
        pytest.param("=?utf-8?q?x?= <j@acme.example>", "=?utf-8?q?x?=", "j@acme.example", id="looks-encoded"),
        pytest.param("N <j@bücher.example>", "N", "j@xn--bcher-kva.example", id="international-domain"),
        pytest.param("A" * 70 + " <j@acme.example>", "A" * 70, "j@acme.example", id="long-name"),
    ],
)
def test_names_and_addresses_survive(sender: str, name: str, mailbox: str) -> None:
    assert read_back(address(sender)) == (name, mailbox)


@given(st.text(printable, max_size=250).map(lambda name: " ".join(name.split())))
def test_any_name_survives(name: str) -> None:
    found = address("j@acme.example", name)
    assert read_back(found) == (name, "j@acme.example")
    assert max(map(len, f"Reply-To: {found.header}".split("\r\n"))) <= 76


@pytest.mark.parametrize(
    ("domain", "ascii_domain"),
    [
        pytest.param("bücher.example", "xn--bcher-kva.example", id="umlaut"),
        pytest.param("straße.example", "xn--strae-oqa.example", id="IDNA-2008-keeps-the-sharp-s"),
        pytest.param("BÜCHER.Example", "xn--bcher-kva.example", id="upper-case"),
        pytest.param("例え。テスト", "xn--r8jz45g.xn--zckzah", id="ideographic-full-stop"),
    ],
)
def test_a_domain_goes_out_in_ascii(domain: str, ascii_domain: str) -> None:
    assert address(f"a@{domain}").mailbox == f"a@{ascii_domain}"


def test_an_international_local_part_stays_utf_8_for_smtputf8() -> None:
    found = address("jörg@bücher.example", "Jörg")
    assert found.mailbox == "jörg@xn--bcher-kva.example"
    assert found.header.endswith("<jörg@xn--bcher-kva.example>")


@pytest.mark.parametrize("domain", ["ü" * 70 + ".example", "a_ü.example", "ü..example", "-ü.example"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(ComposeRefused, match=r"To: .* is not a domain"):
        address(f"a@{domain}", header="To")


@pytest.mark.parametrize(
    "bad", ["", "no-at", "a@", "@b", "a b@c.example", "a@b.example, c@d.example", "<>", "x <y>", "x: y <a@b.example>"]
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ComposeRefused, match=r"To: .* is not an email address"):
        address(bad, header="To")


@given(st.text(printable, max_size=400).map(str.strip))
def test_any_free_text_survives(text: str) -> None:
    raw = f"Subject: {unstructured(text)}\r\n\r\n".encode()
    assert raw.isascii()
    assert max([0, *(len(line) for line in raw.split(b"\r\n") if b"=?utf-8?" in line)]) <= 76
    assert message_from_bytes(raw, policy=policy.default)["Subject"] == text


@given(st.text(printable, max_size=300).map(str.strip).filter(bool))
def test_any_file_name_survives(name: str) -> None:
    raw = f"Content-Disposition: attachment;\r\n {parameter('filename', name)}\r\n\r\n".encode()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert message_from_bytes(raw, policy=policy.compat32).get_filename() == name
