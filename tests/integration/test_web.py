"""`postfleet web` over HTTP: unsubscribing, clicks and opens, as what asks for them really asks."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine

from command import Command, program
from fleet import Fleet
from integration.mail_steps import add_node, mail
from postfleet_workers.mail import suppressions
from postfleet_workers.mail.events import MACHINE_SECONDS, summary
from scraping import reader
from web_client import LINKS, SECRET, Web

TARGET = "https://shop.example/ö?a=1&b=%20x#frag"
ON_THE_WIRE = "https://shop.example/%C3%B6?a=1&b=%20x#frag"


@pytest.fixture
def email_id(engine: Engine, fleet: Fleet) -> int:
    """A campaign's mail that went out an hour ago."""
    add_node(engine, "n1", 2525)
    mail(engine, 1)
    fleet.execute("UPDATE emails SET status = 'sent', class = 'campaign', finished_at = now() - interval '1 hour'")
    [(found,)] = fleet.rows("SELECT id FROM emails")
    return int(found)


@pytest.fixture
def web(fleet: Fleet) -> Iterator[Web]:
    return Web(fleet)


def events(fleet: Fleet) -> list[Any]:
    return [tuple(row) for row in fleet.rows("SELECT kind, machine, url, detail FROM email_events ORDER BY id")]


def wait_for_events(fleet: Fleet, count: int) -> list[Any]:
    fleet.until(lambda: len(events(fleet)) >= count, f"{count} events")
    return events(fleet)


def suppressed(fleet: Fleet) -> list[Any]:
    return [tuple(row) for row in fleet.rows("SELECT tenant, address, reason, email_id FROM suppressions")]


def test_one_click_takes_the_recipient_off_before_it_is_answered(web: Web, fleet: Fleet, email_id: int) -> None:
    answer = web.one_click(email_id)
    address = "acme-campaign-standard-0@example.org"
    assert (answer.status, suppressed(fleet)) == (200, [("acme", address, "unsubscribe", email_id)])
    assert events(fleet) == [("unsubscribe", False, None, None)]
    assert not {"set-cookie", "location"} & answer.headers.keys()
    with fleet.engine.connect() as connection:
        wanted = [("acme", address, of) for of in ("campaign", "transactional")]
        assert [mail_class for *_, mail_class in suppressions.find(connection, wanted, None)] == ["campaign"]


def test_links_that_an_older_key_has_signed_go_on(fleet: Fleet, email_id: int) -> None:
    newer = Web(fleet, POSTFLEET_SECRET_KEY=f"{'n' * 32},{SECRET}")
    assert newer.one_click(email_id).status == 200
    assert newer.ask("GET", LINKS.open(email_id)).status == 200
    assert len(suppressed(fleet)) == 1
    alone = Web(fleet, POSTFLEET_SECRET_KEY="n" * 32)
    assert alone.one_click(email_id).status == 404


def test_one_click_may_be_repeated(web: Web, fleet: Fleet, email_id: int) -> None:
    assert [web.one_click(email_id).status for _ in range(3)] == [200] * 3
    assert len(events(fleet)) == len(suppressed(fleet)) == 1
    fleet.execute("DELETE FROM suppressions")  # the recipient was let in again, and wants out again
    assert web.one_click(email_id).status == 200
    assert len(suppressed(fleet)) == 1
    assert reader(web.process)("email_events_total", kind="unsubscribe", machine="false") == 1


def test_a_form_of_several_parts_unsubscribes_too(web: Web, fleet: Fleet, email_id: int) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert web.ask("POST", LINKS.unsubscribe(email_id), body, headers).status == 200
    assert suppressed(fleet)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_the_page_changes_nothing(web: Web, fleet: Fleet, email_id: int, method: str) -> None:
    answer = web.ask(method, LINKS.unsubscribe(email_id))
    assert answer.status == 200
    assert (b'<form method="post">' in answer.body) is (method == "GET")
    assert (events(fleet), suppressed(fleet)) == ([], [])


def test_a_mail_that_is_not_known_any_more_is_told(web: Web, fleet: Fleet, email_id: int) -> None:
    assert web.one_click(email_id + 1).status == 410
    assert web.ask("GET", LINKS.click(email_id + 1, TARGET)).status == 302
    assert web.ask("GET", LINKS.click(email_id, TARGET)).status == 302
    assert wait_for_events(fleet, 1) == [("click", False, TARGET, None)]
    assert suppressed(fleet) == []


def test_a_click_leads_to_the_signed_address(web: Web, fleet: Fleet, email_id: int) -> None:
    answer = web.ask("GET", LINKS.click(email_id, TARGET))
    assert (answer.status, answer.headers["location"], answer.body) == (302, ON_THE_WIRE, b"")
    assert wait_for_events(fleet, 1) == [("click", False, TARGET, None)]


def test_no_token_of_others_leads_anywhere(web: Web, fleet: Fleet, email_id: int) -> None:
    good = urlsplit(LINKS.click(email_id, TARGET)).path
    wrong = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good[:-4],
        good.replace("/c/", "/u/"),
        urlsplit(LINKS.unsubscribe(email_id)).path.replace("/u/", "/c/"),
        urlsplit(LINKS.open(email_id)).path.replace("/o/", "/c/").removesuffix(".gif"),
        "/c/https://evil.example/",
        "/c/%2F%2Fevil.example",
        "/c/",
        "/",
        "/c/" + "x" * 15_000,
    ]
    for path in wrong:
        answer = web.ask("GET", path)
        assert (answer.status, answer.headers.get("location")) == (404, None), path
        assert b"evil" not in answer.body
    assert web.ask("GET", LINKS.click(email_id, "javascript:alert(1)")).status == 404
    assert web.ask("POST", good.replace("/c/", "/u/")).status == 404
    assert events(fleet) == []


def test_a_link_that_no_parser_takes_leads_where_its_author_wrote(web: Web, fleet: Fleet, email_id: int) -> None:
    answer = web.ask("GET", LINKS.click(email_id, "HTTPS://[shop.example/?a"))
    assert (answer.status, answer.headers["location"]) == (302, "HTTPS://[shop.example/?a")
    assert "Traceback" not in web.process.log.read_text()


def test_no_address_in_a_token_ends_a_header(web: Web, email_id: int) -> None:
    answer = web.ask("GET", LINKS.click(email_id, "https://shop.example/\r\nSet-Cookie: a=b"))
    assert answer.headers["location"] == "https://shop.example/%0D%0ASet-Cookie:%20a=b"
    assert "set-cookie" not in answer.headers


def test_a_connection_serves_for_as_long_as_it_is_used(web: Web, fleet: Fleet, email_id: int) -> None:
    path = urlsplit(LINKS.unsubscribe(email_id)).path
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with connected(web) as busy, connected(web) as silent, connected(web) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(request * 5_000)
        answers = busy.makefile("rb")
        rounds = 0
        silent.settimeout(1)
        while True:
            busy.sendall(request)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            answers.read(length)
            rounds += 1
            try:
                assert silent.recv(10) == b""
            except TimeoutError:
                continue
            break
        busy.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n", "older than a silent one may get, and not sent away"
        assert rounds > 1
        descriptors = reader(web.process)
        fleet.until(lambda: descriptors("process_open_fds") < 60, "the deaf one is gone")
    assert suppressed(fleet)


def test_an_open_is_a_picture_that_nobody_keeps(web: Web, fleet: Fleet, email_id: int) -> None:
    answer = web.ask("GET", LINKS.open(email_id))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.body.startswith(b"GIF89a")
    assert answer.headers["cache-control"] == "no-store"
    assert wait_for_events(fleet, 1) == [("open", False, None, None)]


def test_machines_are_told_apart_and_kept(web: Web, fleet: Fleet, email_id: int) -> None:
    web.ask("GET", LINKS.open(email_id), headers={"User-Agent": "Mozilla/5.0"})
    web.ask("HEAD", LINKS.click(email_id, TARGET))
    web.ask("GET", LINKS.click(email_id, TARGET))
    assert sorted(wait_for_events(fleet, 3)) == [
        ("click", False, TARGET, None),
        ("click", True, TARGET, "head"),
        ("open", True, None, "apple privacy"),
    ]
    page = reader(web.process)
    fleet.until(lambda: page("email_events_total", kind="click", machine="true") == 1, "the count of machines")
    assert page("email_events_total", kind="open", machine="true") == 1
    assert page("email_events_total", kind="open", machine="false") == 0


@pytest.mark.parametrize(
    ("finished", "machine"),
    [
        pytest.param("now() + interval '1 second'", True, id="within seconds of delivery"),
        pytest.param("NULL", True, id="before its server has answered"),
        pytest.param(f"now() - interval '{MACHINE_SECONDS + 1} seconds'", False, id="later"),
    ],
)
def test_what_is_opened_at_once_was_opened_by_a_machine(
    web: Web, fleet: Fleet, email_id: int, finished: str, machine: bool
) -> None:
    fleet.execute(f"UPDATE emails SET finished_at = {finished}")
    web.ask("GET", LINKS.open(email_id))
    [(_, found, _, _)] = wait_for_events(fleet, 1)
    assert found is machine


def test_what_is_asked_again_and_again_counts_once(web: Web, fleet: Fleet, email_id: int) -> None:
    for _ in range(20):
        web.ask("GET", LINKS.open(email_id))
        web.ask("GET", LINKS.click(email_id, TARGET))
    web.ask("GET", LINKS.click(email_id, "https://shop.example/last"))
    fleet.until(lambda: any(url == "https://shop.example/last" for _, _, url, _ in events(fleet)), "the last click")
    assert len(events(fleet)) in (3, 5)  # 5 when an hour ended meanwhile


def test_answers_can_neither_be_framed_nor_kept_nor_run(web: Web, email_id: int) -> None:
    for answer in (
        web.ask("GET", LINKS.unsubscribe(email_id)),
        web.one_click(email_id),
        web.ask("GET", LINKS.click(email_id, TARGET)),
        web.ask("GET", LINKS.open(email_id)),
        web.ask("GET", "/nothing"),
        web.ask("DELETE", LINKS.unsubscribe(email_id)),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert not {"set-cookie", "server"} & answer.headers.keys()


def test_other_methods_and_large_bodies_are_refused(web: Web, fleet: Fleet, email_id: int) -> None:
    answer = web.ask("DELETE", LINKS.unsubscribe(email_id))
    assert (answer.status, sorted(answer.headers["allow"].split(", "))) == (405, ["GET", "HEAD", "POST"])
    assert web.ask("POST", LINKS.click(email_id, TARGET)).status == 405
    assert web.ask("POST", LINKS.unsubscribe(email_id), b"x" * 9_000).status == 413
    assert suppressed(fleet) == []


def connected(web: Web) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=40)


def test_who_says_nothing_or_too_little_is_sent_away(web: Web, fleet: Fleet, email_id: int) -> None:
    path = urlsplit(LINKS.unsubscribe(email_id)).path
    with connected(web) as silent, connected(web) as half, connected(web) as slow:
        half.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Y:".encode())
        slow.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList-".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        assert (silent.recv(100), half.recv(100)) == (b"", b"")
    assert suppressed(fleet) == []


def test_no_token_comes_into_the_log(fleet: Fleet, email_id: int) -> None:
    web = Web(fleet, POSTFLEET_LOG_LEVEL="DEBUG")
    links = [LINKS.unsubscribe(email_id), LINKS.open(email_id), LINKS.click(email_id, TARGET)]
    for link in links:
        web.ask("GET", link)
    web.one_click(email_id)
    web.ask("GET", "/c/1notours")
    web.process.stop()
    log = web.process.log.read_text()
    assert '"endpoint": "click", "method": "GET", "status": 302' in log
    assert not any(urlsplit(link).path[3:].removesuffix(".gif") in log for link in links)
    assert "notours" not in log


def test_requests_are_counted_by_what_they_were_for(web: Web, email_id: int) -> None:
    web.ask("GET", LINKS.unsubscribe(email_id))
    web.ask("GET", "/c/wrong")
    web.ask("GET", "/favicon.ico")
    page = reader(web.process)
    assert page("web_requests_total", endpoint="unsubscribe", status="200") == 1
    assert page("web_requests_total", endpoint="click", status="404") == 1
    assert page("web_requests_total", endpoint="other", status="404") == 1


@pytest.mark.faults
def test_killed_between_commit_and_reply_a_repeat_changes_nothing(fleet: Fleet, email_id: int) -> None:
    web = Web(fleet)
    with socket.create_connection(("127.0.0.1", web.port)) as client:
        path = urlsplit(LINKS.unsubscribe(email_id)).path
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        fleet.until(lambda: suppressed(fleet), "the commit")
        web.process.kill()  # whatever it answered, nobody has read it
    before = (events(fleet), suppressed(fleet))
    assert Web(fleet).one_click(email_id).status == 200
    assert (events(fleet), suppressed(fleet)) == before


@pytest.mark.faults
def test_what_was_noted_is_written_before_the_end(fleet: Fleet, email_id: int) -> None:
    web = Web(fleet)
    with fleet.engine.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE email_events IN ACCESS EXCLUSIVE MODE")
        for number in range(50):
            assert web.ask("GET", LINKS.click(email_id, f"https://shop.example/{number}")).status == 302
        assert reader(web.process)("web_events_waiting") == 50
        web.process.signal(signal.SIGTERM)
    assert web.process.popen.wait(20) == 0
    assert len(events(fleet)) == 50


def test_a_campaign_s_mails_count_once_each_and_machines_apart(
    web: Web, fleet: Fleet, engine: Engine, postfleet: Command
) -> None:
    add_node(engine, "n1", 2525)
    mail(engine, 4)
    fleet.execute("INSERT INTO contact_lists (tenant, name) VALUES ('acme', 'all')")
    fleet.execute(
        "INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text)"
        " SELECT 'acme', 'news', id, 'a@b.example', '{n1}', 's', 't' FROM contact_lists"
    )
    fleet.execute(
        "UPDATE emails SET campaign_id = (SELECT id FROM campaigns), class = 'campaign', contact_id = id,"
        " finished_at = now() - interval '1 hour'"
    )
    first, second, third, _ = [number for (number,) in fleet.rows("SELECT id FROM emails ORDER BY id")]
    web.ask("GET", LINKS.open(first))
    web.ask("GET", LINKS.open(first), headers={"User-Agent": "Mozilla/5.0"})
    web.ask("GET", LINKS.open(second), headers={"User-Agent": "Mozilla/5.0"})
    web.ask("GET", LINKS.click(first, TARGET))
    web.ask("GET", LINKS.click(first, "https://shop.example/other"))
    web.ask("GET", LINKS.click(third, TARGET), headers={"User-Agent": "Barracuda"})
    web.one_click(second)
    fleet.execute("INSERT INTO email_events (email_id, kind, unique_key) VALUES (:id, 'complaint', 'x')", id=third)
    wait_for_events(fleet, 8)
    [(campaign_id,)] = fleet.rows("SELECT id FROM campaigns")
    with fleet.engine.connect() as connection:
        assert summary(connection, campaign_id) == {
            "opens": 1, "opens_machine": 1, "clicks": 1, "clicks_machine": 1, "unsubscribes": 1, "bounces": 0,
            "complaints": 1,
        }  # fmt: skip
        assert summary(connection, campaign_id + 1)["opens"] == 0
    assert "  clicks_machine  1" in postfleet("campaigns", "status", "news").out


def test_without_a_key_or_with_a_short_one_it_says_what_to_do(database_url: str) -> None:
    urls = {"POSTFLEET_DATABASE_URL": database_url}
    done = program("web", env=urls)
    assert (done.code, "POSTFLEET_SECRET_KEY is not set" in done.err) == (2, True)
    done = program("web", env={**urls, "POSTFLEET_SECRET_KEY": "short"})
    assert (done.code, "POSTFLEET_SECRET_KEY has 5 characters" in done.err) == (2, True)


def test_a_public_url_that_is_none_is_told(database_url: str) -> None:
    urls = {"POSTFLEET_DATABASE_URL": database_url}
    done = program("web", env={**urls, "POSTFLEET_SECRET_KEY": "k" * 32, "POSTFLEET_PUBLIC_URL": "ftp://x"})
    assert (done.code, "POSTFLEET_PUBLIC_URL 'ftp://x' is no URL" in done.err) == (2, True)


def test_a_port_that_is_taken_is_told(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {
            "POSTFLEET_DATABASE_URL": database_url,
            "POSTFLEET_SECRET_KEY": SECRET, "POSTFLEET_WEB_PORT": port,
        }  # fmt: skip
        done = program("web", env=env)
    assert (done.code, f"POSTFLEET_WEB_PORT={port}: cannot be listened on" in done.err) == (2, True)
