"""Templates: strict, and over within a second."""

from __future__ import annotations

import time

import pytest

from notifications.bulk.templating import TemplateProblem, Templates


def test_values_are_put_in_and_escaped_in_html_alone() -> None:
    content = Templates("Hi {{ n }}", "{{ n }}", "<p>{{ n }}</p>").render({"n": "<b>{{ x }}"})
    assert content.message == "<b>{{ x }}"
    assert content.html == "<p>&lt;b&gt;{{ x }}</p>"


def test_a_missing_variable_is_an_error_but_before_default_and_in_a_condition() -> None:
    lenient = Templates("", "{{ n | default: 'friend' }}{% if n %}!{% endif %}", "")
    assert lenient.render({}).message == "friend"
    with pytest.raises(TemplateProblem, match="n") as caught:
        Templates("", "{{ n }}", "").render({})
    assert (caught.value.field, caught.value.code) == ("message", "missing_variable")


@pytest.mark.parametrize(
    "template", ["{{ n | nofilter }}", "{% include 'x' %}", "{% render 'x' %}", "{% if %}", "{{ n"]
)
def test_what_cannot_be_rendered_is_refused_before_a_row_is_read(template: str) -> None:
    with pytest.raises(TemplateProblem):
        Templates("", template, "")


@pytest.mark.parametrize(
    "bomb",
    [
        "{% for i in (1..1000000000) %}x{% endfor %}",
        "{% for i in (1..9999) %}{% for j in (1..9999) %}x{% endfor %}{% endfor %}",
        "{% assign x = 'aaaaaaaa' %}" + "{% assign x = x | append: x %}" * 40 + "{{ x }}",
        "{% assign x = 'aaaaaaaa' %}" + "{% assign x = x | replace: 'a', x %}" * 9 + "{{ x }}",
        "{{ (1..1000000000) | join: 'x' }}",
        "{{ n | divided_by: 0 }}",
    ],
)
def test_a_template_bomb_ends_within_a_second(bomb: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateProblem):
        Templates("", bomb, "").render({"n": 1})
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("value", ["<i>", "&lt;i&gt;", "%3Ci%3E"])
@pytest.mark.parametrize(
    "filters", ["upcase", "append: '!'", "split: ',' | join: ''", "strip_newlines"]
)
def test_no_value_writes_its_own_html(value: str, filters: str) -> None:
    assert (
        "<i"
        not in Templates("", "x", "{{ n | " + filters + " }}").render({"n": value}).html.lower()
    )


@pytest.mark.parametrize(
    "values",
    [
        {"name": "Ada", "order": "1"},
        {"name": "<b>&'\"", "order": "{{ name }}"},
        {"name": "Zoë\n", "order": 1},
        {"name": True, "order": None},
        {"name": ["a", "<"], "order": 1.5},
    ],
)
def test_the_short_cut_says_what_liquid_says(values):
    text = "Hello {{ name }}, your {{order}} is {{- name -}} !\n"
    templates = Templates(text, text, text)
    for part, shown in zip(("title", "message", "html"), _rendered(templates, values), strict=True):
        assert shown == templates._parts[part].render(**values)


def _rendered(templates, values):
    content = templates.render(values)
    return content.title, content.message, content.html
