"""From a notification to the message that goes out."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from notifications.rendering import first_line, html_part, render, sender


@dataclass
class Content:
    id: UUID = UUID(int=1)
    channel: str = "email"
    address: str = "ada@example.com"
    title: str = "Hello"
    message: str = "Hello there!"
    html: str = ""
    from_email: str = ""
    from_name: str = ""
    reply_to: str = ""


def test_the_subject_is_the_title():
    assert render(Content()).subject == "Hello"


def test_without_a_title_the_subject_is_the_first_line_that_says_something():
    assert render(Content(title="", message="\n\n  First. \nSecond.")).subject == "First."


def test_a_long_first_line_is_cut():
    assert first_line("word " * 100).endswith("…")
    assert len(first_line("word " * 100)) <= 120


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\u2028", "\x0b", "\x00"])
def test_no_line_break_reaches_the_subject(separator):
    subject = first_line(f"one{separator}Bcc: two@example.com")
    assert not any(not character.isprintable() for character in subject)


def test_what_the_user_wrote_is_text_in_the_html_part():
    html = html_part("<script>", "<img src=x onerror=alert(1)> & $body ${title}")
    assert "<script>" not in html
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; $body ${title}" in html


def test_paragraphs_and_lines_are_kept():
    html = html_part("t", "one\ntwo\n\nthree")
    assert "<p>one<br>\ntwo</p>" in html
    assert "<p>three</p>" in html


def test_a_link_can_be_clicked_and_cannot_break_out():
    html = html_part("t", 'See https://example.com/?a=1&b=2. Or https://x.test/"onclick=1')
    assert '<a href="https://example.com/?a=1&amp;b=2">' in html
    assert '"onclick' not in html


def test_the_callers_own_html_is_taken_as_it_stands():
    assert render(Content(html="<b>mine</b>")).html == "<b>mine</b>"


def test_the_projects_sender_comes_before_the_default():
    assert render(Content(), "default@example.com").from_email == "default@example.com"
    ours = Content(from_email="shop@example.com", from_name="Ada's Shop")
    assert render(ours, "default@example.com").from_email == "Ada's Shop <shop@example.com>"


def test_a_name_is_not_added_twice():
    assert sender("Shop", "Shop <shop@example.com>") == "Shop <shop@example.com>"


def test_an_sms_is_its_message():
    message = render(Content(channel="sms", address="+15005550006"))
    assert (message.to, message.text, message.html) == ("+15005550006", "Hello there!", "")
