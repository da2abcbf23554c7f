from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.contacts.addresses import BadAddress, is_address, normalized


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("ada@example.org", "ada@example.org", id="as it is"),
        pytest.param("  Ada.Lovelace+News@Example.ORG ", "ada.lovelace+news@example.org", id="lower case, trimmed"),
        pytest.param("ada@Bücher.example.org", "ada@xn--bcher-kva.example.org", id="domain in ASCII"),
        pytest.param("o'brien@example.net", "o'brien@example.net", id="an apostrophe is an atom"),
        pytest.param("ada@lab.test", "ada@lab.test", id="the test domain of RFC 6761"),
    ],
)
def test_an_address_is_kept_in_one_form(text: str, kept: str) -> None:
    assert normalized(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada@localhost",
        "ada@nowhere.invalid",
        "ada@example..org",
        "ada@-example.org",
        "ada.@example.org",
        ".ada@example.org",
        "a da@example.org",
        "ada@exam ple.org",
        "ada@example.org,eve@example.org",
        "Ada <ada@example.org>",
        "ädä@example.org",
        "ada@example.org\r\nBcc: eve@example.org",
        f"{'a' * 65}@example.org",
        f"ada@{'a' * 64}.org",
        f"{'a' * 64}@{'b' * 62}.{'c' * 62}.{'d' * 62}.example.org",
    ],
)
def test_what_cannot_receive_mail_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadAddress, match=r"\w"):
        normalized(text)
    assert not is_address(text)


@given(st.text(max_size=40), st.sampled_from(["example.org", "Example.ORG", "x", "a..b", "bücher.example"]))
def test_normalizing_is_idempotent_and_never_leaves_a_control_character(local: str, domain: str) -> None:
    try:
        once = normalized(f"{local}@{domain}")
    except BadAddress:
        return
    assert normalized(once) == once
    assert once.isascii()
    assert once.isprintable()
