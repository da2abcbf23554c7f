from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.replies.reply import NO_ANSWER, Phase, Reply, from_detail, parse, to_detail


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        pytest.param(250, b"2.0.0 Ok: queued as 4F", Reply(250, "2.0.0", "Ok: queued as 4F"), id="postfix"),
        pytest.param(250, b"OK", Reply(250, "", "OK"), id="without-enhanced-code"),
        pytest.param(
            550,
            b"5.1.1 The email account that you tried to reach does not exist.\n5.1.1 Please try\n5.1.1 double-checking",
            Reply(550, "5.1.1", "The email account that you tried to reach does not exist. Please try double-checking"),
            id="gmail-repeats-it-on-every-line",
        ),
        pytest.param(250, b"2.0.0", Reply(250, "2.0.0", ""), id="nothing-but-the-code"),
        pytest.param(550, "caf\xe9".encode("latin-1"), Reply(550, "", "caf�"), id="not-utf-8"),
        pytest.param(550, b"a\x1b[31mb\x00", Reply(550, "", "a [31mb"), id="control-characters"),
    ],
)
def test_an_answer_is_taken_apart(code: int, text: bytes, expected: Reply) -> None:
    assert parse(code, text) == expected


@given(st.sampled_from(Phase), st.integers(-1, 599), st.text(max_size=700))
def test_the_journal_gives_back_what_it_was_given(phase: Phase, code: int, text: str) -> None:
    reply = parse(code, text)
    assert from_detail(to_detail(phase, reply)) == (phase, reply)


def test_what_ended_without_an_answer_has_none() -> None:
    assert from_detail(NO_ANSWER) is None


@pytest.mark.parametrize("detail", ["gibberish", "", "lunch 250 - ok"])
def test_a_detail_that_nobody_wrote_proves_nothing(detail: str) -> None:
    found = from_detail(detail)
    assert found is not None
    assert (found[0], found[1].code) == (Phase.DOT, -1)
