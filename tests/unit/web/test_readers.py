"""Who asks: a reader, or a machine that looks into mail before one does."""

from __future__ import annotations

import pytest

from postfleet_workers.web.readers import Reader, who_reads

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
OUTLOOK = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; Microsoft Outlook 16.0.17628)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.10.1"
CUBOT = (
    "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
)
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_AHEAD = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"


@pytest.mark.parametrize("agent", [CHROME, IPHONE, OUTLOOK, THUNDERBIRD, CUBOT])
def test_programs_that_people_read_with_are_people(agent: str) -> None:
    assert who_reads("GET", {"user-agent": agent}) == Reader()


@pytest.mark.parametrize(
    ("agent", "how"),
    [
        pytest.param("", "no agent", id="nameless"),
        pytest.param("Mozilla/5.0", "apple privacy", id="Apple Mail Privacy Protection"),
        pytest.param(GMAIL_AHEAD, "gmail ahead", id="what Gmail loads ahead"),
        pytest.param(f"{CHROME} BingPreview/1.0b", "scanner", id="Microsoft's preview"),
        pytest.param("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "scanner", id="bot"),
        pytest.param("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "scanner", id="Slack"),
        pytest.param("Barracuda Sentinel (EE)", "scanner", id="Barracuda"),
        pytest.param("python-requests/2.32.3", "scanner", id="a program"),
        pytest.param("curl/8.5.0", "scanner", id="curl"),
        pytest.param("Go-http-client/2.0", "scanner", id="Go"),
        pytest.param(f"{CHROME} HeadlessChrome/126.0", "scanner", id="a sandbox"),
    ],
)
def test_machines_are_told_by_what_they_call_themselves(agent: str, how: str) -> None:
    assert who_reads("GET", {"user-agent": agent}) == Reader(machine=True, how=how)


@pytest.mark.parametrize(("agent", "how"), [(GMAIL, "gmail proxy"), (YAHOO, "yahoo proxy")])
def test_proxies_that_load_when_a_mail_is_opened_are_people_s_and_named(agent: str, how: str) -> None:
    assert who_reads("GET", {"user-agent": agent}) == Reader(how=how)


def test_a_look_at_the_head_alone_is_a_machine_s() -> None:
    assert who_reads("HEAD", {"user-agent": CHROME}) == Reader(machine=True, how="head")


@pytest.mark.parametrize("name", ["purpose", "sec-purpose", "x-moz"])
def test_what_a_browser_loads_ahead_is_a_machine_s(name: str) -> None:
    assert who_reads("GET", {"user-agent": CHROME, name: "prefetch"}) == Reader(machine=True, how="prefetch")
