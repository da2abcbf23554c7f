from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.errors import RenderFailed, TemplateInvalid
from postfleet_workers.mail.message.template import MAX_LOOP_ITERATIONS, Template, check, compiled

KNOWN = {"first_name", "city", "tags", "favourite colour"}
GOOD = [
    pytest.param("Hello {{ contact.first_name | default: 'there' }}", id="attribute-with-default"),
    pytest.param("{{ contact.email }} {{ campaign.name }} {{ sender.domain }}", id="built-in"),
    pytest.param("{{ unsubscribe_url }} {{ message_id }}", id="scalars"),
    pytest.param("{{ contact['favourite colour'] }}", id="attribute-with-a-space"),
    pytest.param(
        "{% for t in contact.tags %}{{ t.name }}{{ forloop.index }}{% endfor %}", id="loop-variables-are-local"
    ),
    pytest.param("{% assign x = contact.city | upcase %}{{ x }}", id="assigned-variables-are-local"),
    pytest.param("{% if contact.city == 'Bonn' %}{% else %}{% endif %}", id="conditions"),
    pytest.param("no variables at all, 100 % plain { }", id="plain"),
]
BAD = [
    pytest.param("a\n{{ contact.frist_name }}", "text, line 2: unknown variable 'contact.frist_name'; did you mean "
                 "'contact.first_name'?", id="misspelt-attribute"),
    pytest.param("{{ first_name }}", "text, line 1: unknown variable 'first_name'; did you mean 'contact.first_name'?",
                 id="forgotten-contact"),
    pytest.param("{{ campaign.id }}", "text, line 1: unknown variable 'campaign.id'; did you mean 'campaign.name'?",
                 id="field-of-the-campaign"),
    pytest.param("{{ contact }}", "text, line 1: 'contact' needs an attribute, as in contact.email",
                 id="whole-contact"),
    pytest.param("{{ sender }}", "text, line 1: unknown variable 'sender'; did you mean 'sender.domain'?",
                 id="whole-sender"),
    pytest.param("{{ message_id.x }}", "text, line 1: unknown variable 'message_id.x'", id="field-of-a-scalar"),
    pytest.param("{% if contact.nope %}{% endif %}", "text, line 1: unknown variable 'contact.nope'",
                 id="in-a-condition"),
    pytest.param("\n\n{{ contact.city | upcse }}", "text, line 3: unknown filter 'upcse'; did you mean 'upcase'?",
                 id="filter"),
    pytest.param("a\nb\n{{ contact.city ", "text, line 3: expected '}}', found end of file", id="unclosed-output"),
    pytest.param("a\n{{ contact. }}", "text, line 2: expected an identifier, found end of expression",
                 id="half-a-path"),
    pytest.param("\n{% if contact.city %}\nx", "text, line 2: expected tag endif, found end of expression",
                 id="unclosed-if"),
    pytest.param("\n{% for t %}\n{% endfor %}", "text, line 2: expected in, found end of expression", id="half-a-loop"),
    pytest.param("x\n{% nope %}", "text, line 2: unexpected tag 'nope'", id="unknown-tag"),
    pytest.param("{% include 'other' %}", "text, line 1: unexpected tag 'include'", id="no-other-templates"),
]  # fmt: skip


@pytest.mark.parametrize("source", GOOD)
def test_a_template_of_known_variables_passes(source: str) -> None:
    check("Subject", source, source, KNOWN)


@pytest.mark.parametrize(("source", "message"), BAD)
def test_a_template_that_cannot_work_is_refused_with_part_line_and_reason(source: str, message: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        check("Subject", source, None, KNOWN)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["subject", "text", "html", "unsubscribe_url"])
def test_the_error_names_the_part(part: str) -> None:
    parts = {"subject": "s", "text": "t", "html": "h", "unsubscribe_url": "https://x"} | {part: "{{ nope }}"}
    url = parts.pop("unsubscribe_url")
    with pytest.raises(TemplateInvalid, match=f"^{part}, line 1: unknown variable 'nope'"):
        check(**parts, known=KNOWN, unsubscribe_url=url)


def test_any_attribute_passes_while_the_attributes_are_unknown() -> None:
    check("{{ contact.whatever }}", "x")


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(TemplateInvalid, match=r"^subject: is empty$"):
        check("  ", "x")


def test_html_values_are_escaped_and_text_values_are_not() -> None:
    variables = {"contact": {"name": "<b>&"}}
    assert compiled("html", "<p>{{ contact.name }}</p>").render(variables) == "<p>&lt;b&gt;&amp;</p>"
    assert compiled("text", "{{ contact.name }}").render(variables) == "<b>&"


def test_a_missing_attribute_renders_as_nothing() -> None:
    assert compiled("text", "Hi {{ contact.name }}!").render({"contact": {}}) == "Hi !"


def test_a_template_is_compiled_once_per_text() -> None:
    assert compiled("text", "{{ a }}") is compiled("text", "{{ a }}")
    assert compiled("text", "{{ a }}") is not compiled("html", "{{ a }}")


def test_line_breaks_in_a_subject_template_are_spaces() -> None:
    assert (
        compiled("subject", "News for\n{{ contact.city }}\n").render({"contact": {"city": "Bonn"}}) == "News for Bonn"
    )


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(f"{{% for i in (1..{MAX_LOOP_ITERATIONS + 1}) %}}x{{% endfor %}}", id="one-long-loop"),
        pytest.param("{% for i in (1..100) %}{% for j in (1..100) %}x{% endfor %}{% endfor %}", id="nested-loops"),
        pytest.param(
            "{% assign s = 'xxxxxxxx' %}{% for i in (1..40) %}{% assign s = s | append: s %}{% endfor %}{{ s }}",
            id="doubling",
        ),
        pytest.param(
            "{% assign s = 'aaaaaaaa' %}{% for i in (1..9) %}{% assign s = s | replace: 'a', s %}{% endfor %}{{ s }}",
            id="replace-bomb",
        ),
        pytest.param(
            "{% assign n = 9999 %}{% for i in (1..40) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
            id="big-number",
        ),
        pytest.param("{% for i in (1..2000) %}{{ contact.long }}{% endfor %}", id="output"),
    ],
)
def test_a_template_cannot_stall_a_worker(source: str) -> None:
    with pytest.raises(RenderFailed, match=r"^text"):
        compiled("text", source).render({"contact": {"long": "x" * 2000}})


def test_a_filter_on_data_it_was_not_made_for_fails_with_the_line() -> None:
    with pytest.raises(RenderFailed, match=r"^text, line 2: "):
        compiled("text", "\n{{ contact.n | divided_by: 0 }}").render({"contact": {"n": 3}})


# Liquid turns "\r" into "\n"; line ends are the composer's business.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}\r"), max_size=20)
values = st.one_of(words, st.integers(), st.booleans(), st.none(), st.floats(), st.lists(words, max_size=3))


@pytest.mark.parametrize("part", ["text", "html"])
@given(st.dictionaries(st.sampled_from(["name", "city"]), values), words)
def test_the_short_way_through_simple_templates_gives_what_liquid_gives(
    part: str, contact: dict[str, object], word: str
) -> None:
    source = word + "{{ contact.name }}-{{contact.city}}{{ message_id }} {{ contact.nope }}{{ nope }}"
    variables = {"contact": contact, "message_id": "<m&>"}
    simple, liquid = (Template(part, s, html=part == "html") for s in (source, source + "{% assign a = 1 %}"))
    assert simple.render(variables) == liquid.render(variables)
