"""What mails may carry, and where it goes in them."""

from __future__ import annotations

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.mail.message.attachments import MAX_BYTES, MAX_FILES, Attachment, File, check, enclosed

LOGO = Attachment("my logo.png", "image/png", "1f@postfleet", "iVBO\r\n")
TERMS = Attachment("terms.pdf", "application/pdf", "2e@postfleet", "JVBE\r\n")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param([File("a.txt", b"")] * (MAX_FILES + 1), "21 attachments; a mail carries at most 20", id="many"),
        pytest.param([File("a", b"x" * (MAX_BYTES // 2 + 1))] * 2, "attachments of 10,000,002 bytes", id="large"),
        pytest.param([File("Invoice.PDF.exe", b"")], "receivers refuse mail with .exe files", id="program"),
        pytest.param([File("a.js", b"")], "refuse mail with .js", id="script"),
        pytest.param([File("../a.txt", b"")], "give a file name", id="path"),
        pytest.param([File("", b"")], "give a file name", id="empty"),
        pytest.param([File("a" * 201, b"")], "give a file name", id="long"),
        pytest.param([File("a\r\nBcc: x", b"")], "line break or control character", id="line-break"),
        pytest.param([File("a", b"", "image")], "is no content type", id="type"),
        pytest.param([File("a", b"", "text/plain\r\nX: y")], "is no content type", id="type-with-a-line-break"),
    ],
)
def test_what_no_mail_can_carry_is_refused(files: list[File], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        check(files)


def test_ordinary_files_are_fine() -> None:
    check([File("Angebot für Jörg.xlsx", b"x" * MAX_BYTES), File("j.json", b""), File("a.b", b"", "image/svg+xml")])


def test_an_image_that_the_html_shows_by_name_gets_an_id_and_the_rest_is_attached() -> None:
    html, parts = enclosed('<img src="cid:my%20logo.png"><img src="cid:other.png">', [LOGO, TERMS])
    assert html == '<img src="cid:1f@postfleet"><img src="cid:other.png">'
    assert [part.content_id for part in parts] == ["1f@postfleet", ""]
    assert "Content-Disposition: inline" in parts[0].part
    assert "Content-Disposition: attachment" in parts[1].part


def test_without_html_every_file_is_attached() -> None:
    html, parts = enclosed(None, [LOGO])
    assert html is None
    assert parts[0].content_id == ""
