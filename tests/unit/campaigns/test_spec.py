from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from postfleet_workers.campaigns.creation import check_nodes, check_templates
from postfleet_workers.campaigns.spec import CampaignSpec, parse
from postfleet_workers.errors import InputError

QUICKSTART = Path(__file__).parents[3] / "examples/01-quickstart/campaign.yaml"
GOOD = {
    "name": "spring",
    "tenant": "acme",
    "list": "customers",
    "from": "Acme <news@acme.example>",
    "nodes": ["acme-1"],
    "subject": "Hello {{ contact.first_name }}",
    "text": "Hi",
}


def spec(**changes: object) -> CampaignSpec:
    return parse(yaml.safe_dump({**GOOD, **changes}))


def test_a_small_campaign_gets_its_defaults() -> None:
    campaign = spec()

    assert (campaign.queue, campaign.html, campaign.reply_to, campaign.unsubscribe_url) == (
        "campaign-standard",
        None,
        None,
        None,
    )
    assert (campaign.list_name, campaign.sender) == ("customers", "Acme <news@acme.example>")


def test_what_its_mails_carry_and_tell_is_read() -> None:
    campaign = parse(
        yaml.safe_dump(
            {**{k: v for k, v in GOOD.items() if k != "text"}, "html": "<p>Hi", "oneClick": True, "trackOpens": True,
             "trackClicks": True, "perMinute": 60, "attachments": ["terms.pdf"]}
        )
    )  # fmt: skip

    assert (campaign.text, campaign.one_click, campaign.track_opens, campaign.track_clicks) == ("", True, True, True)
    assert (campaign.per_minute, campaign.attachments) == (60, ["terms.pdf"])


def test_the_quickstart_reads() -> None:
    campaign = parse(QUICKSTART.read_text(encoding="utf-8"))

    check_nodes(campaign, {"acme-1": []})
    check_templates(campaign, {"first_name", "company", "city", "plan"})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"bcc": "x"}, "bcc: unknown field; known are name, tenant, list, from", id="unknown field"),
        pytest.param({"list_name": "x"}, "list_name: unknown field", id="the Python name is no field"),
        pytest.param({"name": "spring sale"}, "name: 'spring sale' is no name", id="name"),
        pytest.param({"nodes": []}, "nodes: name at least one sending node", id="no node"),
        pytest.param({"nodes": ["a", "a"]}, "nodes: 'a' is named twice", id="a node twice"),
        pytest.param({"nodes": ["ok", "not ok"]}, "nodes[1]: 'not ok' is no name", id="path into a list"),
        pytest.param({"nodes": "acme-1"}, "nodes: Input should be a valid list", id="no list"),
        pytest.param(
            {"from": "Acme"}, "from: 'Acme' is no address; write news@example.org or", id="from without an address"
        ),
        pytest.param({"from": "a@localhost"}, "from: 'a@localhost':", id="from that cannot get replies"),
        pytest.param({"from": "a@x.org\nBcc: b@x.org"}, "from: holds a line break", id="header injection in from"),
        pytest.param({"from": "Acme: News <a@x.org>"}, "from: 'Acme: News <a@x.org>' is no", id="a name half lost"),
        pytest.param({"from": "a@x.org, b@x.org"}, "from: ", id="two senders"),
        pytest.param({"replyTo": "nobody"}, "replyTo: 'nobody' is no address", id="reply-to"),
        pytest.param({"subject": "a\nBcc: b@x.org"}, "subject: must be one line", id="header injection in subject"),
        pytest.param({"subject": ""}, "subject: String should have at least 1 character", id="empty subject"),
        pytest.param({"perMinute": 0}, "perMinute: Input should be greater than or equal to 1", id="limit"),
        pytest.param({"attachments": ["a", "a"]}, "attachments: 'a' is named twice", id="an attachment twice"),
        pytest.param({"text": 7}, "text: Input should be a valid string", id="type"),
    ],
)
def test_a_mistake_is_one_line_with_the_fields_path(changes: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as caught:
        spec(**changes)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_missing_fields_are_counted() -> None:
    with pytest.raises(InputError, match=r"^name: is missing \(and 5 more\)$"):
        parse("{}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: [", "line 1, column 8: "),
        ("name: a\nname: b\n", "line 2, column 1: 'name' stands here twice"),
        ("- a\n", "is no mapping of fields"),
        ("", "is no mapping of fields"),
        ("name: !!python/object:os.system x", "line 1, column 7: could not determine a constructor"),
    ],
)
def test_what_is_no_campaign_is_one_line(text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("nodes", "tenants", "line"),
    [
        (["acme-1"], {"acme-2": []}, "nodes[0]: no sending node 'acme-1'; known are acme-2"),
        (["acme-1"], {}, "nodes[0]: no sending node 'acme-1'; known are none yet (apply a SendingNode)"),
        (["a", "b"], {"a": [], "b": ["x", "y"]}, "nodes[1]: 'b' does not serve tenant 'acme', only x, y"),
    ],
)
def test_a_node_must_be_there_and_serve_the_tenant(nodes: list[str], tenants: dict[str, list[str]], line: str) -> None:
    with pytest.raises(InputError) as caught:
        check_nodes(spec(nodes=nodes), tenants)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"text": ""}, r"text: is empty, and there is no html"),
        ({"text": "Hi\n{{ contact.first_nmae }}"}, r"text, line 2: unknown variable 'contact.first_nmae'.*first_name"),
        ({"html": "<p>{{ contact.first_name"}, r"html, line 1: "),
        ({"subject": "{% if %}"}, r"subject, line 1: "),
        ({"unsubscribeUrl": "https://x.example/{{ token }}"}, r"unsubscribe_url, line 1: unknown variable 'token'"),
    ],
)
def test_a_template_is_checked_before_there_is_any_mail(changes: dict[str, object], line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        check_templates(spec(**changes), {"first_name"})
    assert "\n" not in str(caught.value)
