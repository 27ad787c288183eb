from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from notifications import providers
from notifications.providers import smtp
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Temporary,
)
from notifications.providers.deadline import Deadline
from tests.providers.contract import SHORT, VendorContract, configure, ends_within, overriding
from tests.providers.vendors import DELAY, DRIP, HANG, RESET, SLOW, Authority, FakeSmtp


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class SmtpContract(VendorContract):
    name = "smtp"
    channel = "email"
    address = "ann@example.com"
    secret = FakeSmtp.password

    def make_refuse_for_now(self, vendor: FakeSmtp) -> None:
        vendor.next("RCPT", "451 4.7.1 Greylisted, try again later")

    def make_refuse_for_good(self, vendor: FakeSmtp) -> None:
        vendor.next("RCPT", "550 5.1.1 No such user")

    def make_refuse_us(self, vendor: FakeSmtp) -> None:
        vendor.next("MAIL", "530 5.7.0 Authentication required")

    def make_vanish_after_the_message(self, vendor: FakeSmtp) -> None:
        vendor.next("DOT", RESET)

    def make_hang_after_the_message(self, vendor: FakeSmtp) -> None:
        vendor.next("DOT", HANG)

    def make_drip(self, vendor: FakeSmtp) -> None:
        vendor.next("DOT", DRIP)


class TestSmtp(SmtpContract):
    @pytest.fixture(params=[False, True], ids=["one-by-one", "pipelining"])
    def vendor(self, request: Any) -> Iterator[FakeSmtp]:
        with FakeSmtp(pipelining=request.param) as server:
            yield server

    # --- the answers, by where they fall

    @pytest.mark.parametrize(
        ("stage", "reply", "of_the_recipient"),
        [
            ("RCPT", "451 4.7.1 Greylisted", True),
            ("RCPT", "452 4.2.2 Mailbox full", True),
            ("RCPT", "421 4.3.2 Closing", False),
            ("MAIL", "451 4.3.0 Disk full", False),
            ("DOT", "451 4.3.0 Queue is full", False),
        ],
    )
    def test_a_refusal_of_one_recipient_is_told_from_one_of_all(
        self, provider: Provider, vendor: FakeSmtp, stage: str, reply: str, of_the_recipient: bool
    ) -> None:
        vendor.next(stage, reply)
        with pytest.raises(Temporary) as caught:
            self.send(provider)
        assert caught.value.recipient_only is of_the_recipient

    @pytest.mark.parametrize(
        ("stage", "reply", "too_fast"),
        [
            ("MAIL", "421 4.7.28 Our system has detected an unusual rate of mail", True),
            ("MAIL", "450 4.7.1 Error: too much mail from 192.0.2.1", True),
            ("GREETING", "421 4.7.0 Error: too many connections from 192.0.2.1", True),
            ("DOT", "454 Throttling failure: Maximum sending rate exceeded.", True),
            ("RCPT", "451 4.7.500 Server busy. Please try again later", True),
            ("RCPT", "451 4.7.1 Greylisted, please try again", False),
            ("RCPT", "452 4.5.3 Too many recipients", False),
            ("RCPT", "452 4.2.2 Mailbox full", False),
            ("MAIL", "421 4.3.2 Closing", False),
        ],
    )
    def test_a_server_that_says_we_are_too_fast_is_told_from_one_that_greylists(
        self, provider: Provider, vendor: FakeSmtp, stage: str, reply: str, too_fast: bool
    ) -> None:
        vendor.next(stage, reply)
        with pytest.raises(Temporary) as caught:
            self.send(provider)
        assert caught.value.throttled is too_fast
        assert not (too_fast and caught.value.recipient_only)

    @pytest.mark.parametrize(
        ("stage", "reply", "meaning"),
        [
            ("GREETING", "421 4.3.2 Too busy", Temporary),
            ("GREETING", "554 5.7.1 Your address is blocked", Misconfigured),
            ("MAIL", "421 4.3.2 Closing", Temporary),
            ("MAIL", "451 4.3.0 Disk full", Temporary),
            ("MAIL", "550 5.7.1 Sender not allowed", Misconfigured),
            ("MAIL", "552 5.3.4 Message too large", Permanent),
            ("RCPT", "421 4.3.2 Closing", Temporary),
            ("RCPT", "452 4.2.2 Mailbox full", Temporary),
            ("RCPT", "550 5.1.1 No such user", Permanent),
            ("RCPT", "530 5.7.0 Authentication required", Misconfigured),
            ("DATA", "451 4.3.0 Not now", Temporary),
            ("DATA", "554 5.5.1 No valid recipients", Permanent),
            ("DOT", "421 4.3.2 Closing", Temporary),
            ("DOT", "451 4.3.0 Queue is full", Temporary),
            ("DOT", "554 5.7.1 Spam", Permanent),
            ("DOT", "552 5.3.4 Too large", Permanent),
        ],
    )
    def test_an_answer_means_what_the_table_says(
        self,
        provider: Provider,
        vendor: FakeSmtp,
        stage: str,
        reply: str,
        meaning: type[ProviderError],
    ) -> None:
        vendor.next(stage, reply)
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert refused.value.code == f"smtp_{reply[:3]}"
        assert refused.value.detail == reply
        assert vendor.accepted == []

    @pytest.mark.parametrize(
        ("stage", "answer", "is_dead"),
        [
            ("RCPT", "550 5.1.1 No such user", True),
            ("RCPT", "550 5.1.2 No such domain", True),
            ("RCPT", "556 5.1.10 Takes no mail", True),
            ("RCPT", "550 5.1.0 Address rejected", False),
            ("RCPT", "550 5.7.1 Relaying denied", False),
            ("RCPT", "550 5.2.1 Mailbox disabled for a while", False),
            ("RCPT", "554 5.1.8 Bad sender", False),
            ("RCPT", "550 Blocked, see example.com/5.1.1", False),
            ("DOT", "550 5.1.1 No such user", False),
        ],
    )
    def test_only_a_mailbox_that_does_not_exist_is_to_be_suppressed(
        self, provider: Provider, vendor: FakeSmtp, stage: str, answer: str, is_dead: bool
    ) -> None:
        vendor.next(stage, answer)
        with pytest.raises(Permanent) as refused:
            self.send(provider)
        assert (refused.value.reject_reason == "invalid") == is_dead

    @pytest.mark.parametrize("stage", ["GREETING", "MAIL", "RCPT", "DATA"])
    def test_a_connection_lost_before_the_message_is_temporary(
        self, provider: Provider, vendor: FakeSmtp, stage: str
    ) -> None:
        vendor.next(stage, RESET)
        with pytest.raises(Temporary) as lost:
            self.send(provider)
        assert lost.value.code == "connection_lost"

    @pytest.mark.parametrize("stage", ["GREETING", "MAIL", "RCPT", "DATA"])
    @pytest.mark.parametrize("how", [HANG, DRIP])
    def test_no_answer_before_the_message_is_temporary(
        self, provider: Provider, vendor: FakeSmtp, stage: str, how: Any
    ) -> None:
        vendor.next(stage, how)
        with ends_within(SHORT + 0.3), pytest.raises(Temporary) as failed:
            self.send(provider, deadline=SHORT)
        assert failed.value.code == "timed_out"

    def test_nonsense_instead_of_the_last_answer_is_ambiguous(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("DOT", "HTTP/1.1 400 Bad Request")
        with pytest.raises(Ambiguous):
            self.send(provider)

    def test_an_endless_last_answer_is_ambiguous(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("DOT", "250 " + "x" * 10_000)
        with pytest.raises(Ambiguous):
            self.send(provider)

    def test_a_slow_last_answer_is_waited_for(self, vendor: FakeSmtp, settings: Any) -> None:
        configure(settings, vendor.settings | {"EMAIL_TIMEOUT": DELAY / 3})
        vendor.next("DOT", SLOW)
        self.send(providers.get("smtp"))
        assert len(vendor.accepted) == 1

    # --- the kept connection

    @pytest.mark.parametrize("end", [RESET, "421 4.4.2 Idle for too long"])
    def test_a_kept_connection_that_dies_in_use_costs_no_attempt(
        self, provider: Provider, vendor: FakeSmtp, end: Any
    ) -> None:
        self.send(provider)
        vendor.next("MAIL", end)
        self.send(provider)
        assert (len(vendor.accepted), vendor.connections) == (2, 2)

    def test_an_old_connection_is_not_trusted(
        self, provider: Provider, vendor: FakeSmtp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(smtp, "IDLE_LIMIT", 0.0)
        self.send(provider)
        self.send(provider)
        assert vendor.connections == 2

    def test_a_refused_message_does_not_close_the_connection(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("RCPT", "550 5.1.1 No such user")
        with pytest.raises(Permanent):
            self.send(provider)
        self.send(provider)
        assert vendor.connections == 1

    # --- the message

    def test_it_arrives_as_text_and_html(self, provider: Provider, vendor: FakeSmtp) -> None:
        self.send(provider, subject="Grüße", text="Hallo, Jörg\n.\nEnde", html="<p>Hallo</p>")
        mail = vendor.accepted[0].parsed
        assert mail["Subject"] == "Grüße"
        assert mail["To"] == self.address
        assert mail["Date"]
        text, html = (part.get_content() for part in mail.iter_parts())
        assert text.splitlines() == ["Hallo, Jörg", ".", "Ende"]
        assert html.strip() == "<p>Hallo</p>"

    def test_without_html_it_is_text_only(self, provider: Provider, vendor: FakeSmtp) -> None:
        self.send(provider)
        assert vendor.accepted[0].parsed.get_content_type() == "text/plain"

    def test_the_sender_is_the_projects(self, provider: Provider, vendor: FakeSmtp) -> None:
        self.send(provider, from_email="Shop <shop@example.com>", reply_to="help@example.com")
        mail = vendor.accepted[0]
        assert mail.sender == "shop@example.com"
        assert mail.parsed["From"] == "Shop <shop@example.com>"
        assert mail.parsed["Reply-To"] == "help@example.com"

    def test_without_a_sender_it_is_the_default(
        self, provider: Provider, vendor: FakeSmtp, settings: Any
    ) -> None:
        settings.DEFAULT_FROM_EMAIL = "Example <notifications@example.com>"
        self.send(provider)
        assert vendor.accepted[0].sender == "notifications@example.com"

    def test_every_attempt_has_the_same_message_id(
        self, provider: Provider, vendor: FakeSmtp, settings: Any
    ) -> None:
        """Also when the project's From has changed meanwhile."""
        settings.DEFAULT_FROM_EMAIL = "Example <notifications@example.com>"
        notification_id = UUID("01890000-0000-7000-8000-000000000001")
        vendor.next("DOT", "451 4.3.0 Not now")
        with pytest.raises(Temporary):
            self.send(provider, notification_id=notification_id, from_email="shop@shop.test")
        sent = self.send(provider, notification_id=notification_id, from_email="shop@example.com")
        mail = vendor.accepted[0].parsed
        assert mail["Message-ID"] == sent.provider_message_id == f"<{notification_id}@example.com>"
        assert mail["X-Notification-Id"] == str(notification_id)

    def test_the_servers_words_are_kept(self, provider: Provider) -> None:
        assert self.send(provider).detail == "250 2.0.0 Ok: queued as EXAMPLE"

    @pytest.mark.parametrize("field", ["subject", "to", "from_email", "reply_to"])
    @pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0"])
    def test_a_line_break_in_a_header_is_refused(
        self, provider: Provider, vendor: FakeSmtp, field: str, end: str
    ) -> None:
        with pytest.raises(Permanent) as refused:
            self.send(provider, **overriding(field, f"a@example.com{end}Bcc: eve@example.com"))
        assert refused.value.code == "invalid_header"
        assert vendor.connections == 0

    @pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x85", "\u2028"])
    def test_an_unusual_line_break_in_a_subject_becomes_a_space(
        self, provider: Provider, vendor: FakeSmtp, end: str
    ) -> None:
        self.send(provider, subject=f"Hello{end}Bcc: eve@example.com")
        mail = vendor.accepted[0].parsed
        assert mail["Subject"] == "Hello Bcc: eve@example.com"
        assert mail["Bcc"] is None

    @pytest.mark.parametrize(
        "to", ["", "ann", "ann@", "a@example.com, b@example.com", "jörg@example.com"]
    )
    def test_what_is_not_one_address_is_refused(
        self, provider: Provider, vendor: FakeSmtp, to: str
    ) -> None:
        with pytest.raises(Permanent) as refused:
            self.send(provider, to=to)
        assert refused.value.code == "invalid_address"
        assert vendor.connections == 0

    def test_a_domain_in_other_letters_is_sent_in_ascii(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        self.send(provider, to="ann@bücher.example")
        assert vendor.accepted[0].recipients == ["ann@xn--bcher-kva.example"]

    def test_a_sender_that_is_no_address_is_a_misconfiguration(self, provider: Provider) -> None:
        with pytest.raises(Misconfigured) as refused:
            self.send(provider, from_email="Shop")
        assert refused.value.code == "invalid_sender"

    def test_a_kept_connection_carries_on_in_the_next_call_after_a_cut_one(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        self.send(provider, deadline=SHORT)
        with ends_within(2):
            for _ in range(10):
                self.send(provider)
        assert vendor.connections == 1


class TestSmtpWithTlsAndLogIn(SmtpContract):
    @pytest.fixture
    def vendor(
        self, authority: Authority, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[FakeSmtp]:
        monkeypatch.setenv("SSL_CERT_FILE", authority.write(tmp_path / "authority.pem"))
        with FakeSmtp(tls=authority.server_context(), log_in=True) as server:
            yield server

    def test_a_wrong_password_is_a_misconfiguration(self, vendor: FakeSmtp, settings: Any) -> None:
        configure(settings, vendor.settings | {"EMAIL_HOST_PASSWORD": "wrong-example"})
        with pytest.raises(Misconfigured) as refused:
            self.send(providers.get("smtp"))
        assert refused.value.code == "smtp_535"
        assert "wrong-example" not in refused.value.detail

    def test_asking_logs_in_and_says_when_the_password_is_wrong(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        assert "with TLS and takes the log-in" in provider.verify(Deadline(5.0))
        for _mechanism in ("PLAIN", "LOGIN"):
            vendor.next("AUTH", "535 5.7.8 Authentication failed")
        with pytest.raises(Misconfigured, match="smtp_535"):
            provider.verify(Deadline(5.0))

    def test_asking_one_that_does_not_answer_ends_at_the_deadline(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("GREETING", HANG)
        with ends_within(SHORT + 0.3), pytest.raises(Temporary):
            provider.verify(Deadline(SHORT))

    def test_a_temporary_failure_of_the_log_in_is_temporary(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        for _mechanism in ("PLAIN", "LOGIN"):
            vendor.next("AUTH", "454 4.7.0 Temporary authentication failure")
        with pytest.raises(Temporary):
            self.send(provider)

    def test_a_log_in_that_drips_ends_at_the_deadline(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("AUTH", DRIP)
        with ends_within(SHORT + 0.3), pytest.raises(Temporary):
            self.send(provider, deadline=SHORT)

    def test_a_certificate_of_nobody_is_a_misconfiguration(
        self, provider: Provider, vendor: FakeSmtp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Misconfigured) as refused:
            self.send(provider)
        assert refused.value.code == "tls_certificate"

    def test_starttls_refused_for_now_is_temporary(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("STARTTLS", "454 4.7.0 TLS not available")
        with pytest.raises(Temporary):
            self.send(provider)

    def test_a_handshake_that_never_ends_ends_at_the_deadline(
        self, provider: Provider, vendor: FakeSmtp
    ) -> None:
        vendor.next("STARTTLS", "220 2.0.0 Go ahead, but there is nobody")
        with ends_within(SHORT + 0.3), pytest.raises(Temporary):
            self.send(provider, deadline=SHORT)


class TestSmtpOverTls(SmtpContract):
    @pytest.fixture
    def vendor(
        self, authority: Authority, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[FakeSmtp]:
        monkeypatch.setenv("SSL_CERT_FILE", authority.write(tmp_path / "authority.pem"))
        with FakeSmtp(smtps=authority.server_context()) as server:
            yield server

    def test_a_certificate_of_nobody_is_a_misconfiguration(
        self, provider: Provider, vendor: FakeSmtp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Misconfigured):
            self.send(provider)


class TestSmtpWithoutWhatWeNeed:
    @pytest.mark.parametrize(
        "needed",
        [
            {"EMAIL_USE_TLS": True},
            {"EMAIL_HOST_USER": "mailer", "EMAIL_HOST_PASSWORD": "password-example"},
        ],
    )
    def test_a_server_without_starttls_or_auth_is_a_misconfiguration(
        self, settings: Any, needed: dict[str, Any]
    ) -> None:
        with FakeSmtp() as server:
            configure(settings, server.settings | needed)
            with pytest.raises(Misconfigured) as refused:
                TestSmtp().send(providers.get("smtp"))
        assert refused.value.code == "smtp_not_supported"

    def test_a_name_that_nobody_knows_is_temporary(self, settings: Any) -> None:
        with FakeSmtp() as server:
            configure(settings, server.settings | {"EMAIL_HOST": "nobody.invalid"})
            with pytest.raises(Temporary) as failed:
                TestSmtp().send(providers.get("smtp"))
        assert failed.value.code == "connection_failed"
