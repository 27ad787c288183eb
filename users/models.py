"""Who uses the service: staff, projects with their keys, and the recipients of notifications."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

#: Without the scheme's own port, which browsers leave out: an origin that has it would match none.
_ORIGIN = re.compile(
    r"(?!https:.*:443$|http:.*:80$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)


class User(AbstractUser):
    """A staff account that signs in to the admin. People who get notifications are `Recipient`s."""

    #: Of these alone it sees and changes anything (users/reach.py).
    projects: models.ManyToManyField[Project, Any] = models.ManyToManyField(
        "Project",
        blank=True,
        related_name="+",
        help_text="Limits what this person sees and does to these projects. None chosen: all projects.",
    )


def validate_origin(value: str) -> None:
    """`scheme://host[:port]`, as a browser sends it (RFC 6454). Raises ValidationError."""
    if not _ORIGIN.fullmatch(value):
        raise ValidationError(
            "This is not an origin like https://app.example.com: a scheme, a host in small letters, perhaps a port that is not the scheme's own; no path, no *.",
            code="invalid_origin",
        )


class UnknownPolicy(models.TextChoices):
    """What becomes of a notification that a provider may or may not have accepted."""

    BY_PRIORITY = "", "By priority: high and normal are sent once more, low is held"
    RESEND = "resend", "Send once more: nobody goes without, somebody may get it twice"
    HOLD = "hold", "Hold for an operator: nobody gets it twice, somebody may go without"


class Project(models.Model):
    """A team's space. Everything an API key can reach belongs to its project."""

    name = models.CharField(max_length=100, unique=True)
    from_email = models.EmailField(
        blank=True, help_text="From of this project's e-mails. Empty: DEFAULT_FROM_EMAIL."
    )
    from_name = models.CharField(max_length=100, blank=True)
    reply_to = models.EmailField(blank=True)
    #: Read when a notification's review time has come, not before (notifications/sweeping.py).
    unknown_policy = models.CharField(
        "when it is unknown whether it was sent",
        max_length=6,
        choices=UnknownPolicy.choices,
        blank=True,
        default=UnknownPolicy.BY_PRIORITY,
        db_default=UnknownPolicy.BY_PRIORITY,
        help_text="The connection broke, or a worker died, while a provider had the message. A change "
        "holds for all that are not yet decided; what is held already stays held.",
    )
    #: Read with every notification that goes out, not kept with it (notifications/suppressions.py).
    mandatory_categories = ArrayField(
        models.CharField(max_length=100),
        default=list,
        db_default=[],
        blank=True,
        help_text="Separated by commas, for example: receipts, security. These go out also to who has complained or "
        "unsubscribed; a hard bounce or an SMS STOP stops them too.",
    )
    #: Asked by every call with an inbox token that comes from a page (users/inbox_access.py).
    inbox_origins = ArrayField(
        models.CharField(max_length=255, validators=[validate_origin]),
        default=list,
        db_default=[],
        blank=True,
        help_text="Separated by commas, for example: https://app.example.com. Pages of these origins, and no others, may "
        "show a person's in-app messages, with a token that your backend has made.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """A key may have several. None includes another one."""

    SEND = "send", "Send notifications, cancel them, mark them read"
    READ = "read", "Read notifications and users"
    MANAGE = "manage", "Create, change and forget users"
    INBOX = "inbox", "Make the tokens with which users read their in-app messages"


def every_scope() -> list[str]:
    return list(Scope.values)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, now: datetime) -> ApiKeyQuerySet:
        return self.filter(revoked_at=None).filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=now)
        )


class ApiKey(models.Model):
    """A project's key: `ntf_<live|test>_<prefix>_<secret>`, 256 bits of secret.

    Only the prefix (to find it) and a SHA-256 of the whole are stored. A fast hash is right for a random
    secret of this length: there is nothing to guess, so nothing that a slow hash would slow down.
    """

    class Kind(models.TextChoices):
        LIVE = "live", "Live: messages go out"
        TEST = "test", "Test: everything goes to the sandbox"

    PREFIX_LENGTH: ClassVar[int] = 8

    project = models.ForeignKey(Project, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=100, help_text="What uses it, for example 'shop backend'.")
    kind = models.CharField(max_length=4, choices=Kind.choices, default=Kind.LIVE)
    prefix = models.CharField(max_length=PREFIX_LENGTH, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope.choices), default=every_scope)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.name} (ntf_{self.kind}_{self.prefix}…)"

    @property
    def is_live(self) -> bool:
        return self.kind == self.Kind.LIVE

    def issue(self) -> str:
        """Give this unsaved key its secret and return the whole key, which is shown once and not kept."""
        self.prefix = secrets.token_hex(self.PREFIX_LENGTH // 2)
        token = f"ntf_{self.kind}_{self.prefix}_{secrets.token_urlsafe(32)}"
        self.digest = self.digest_of(token)
        return token

    def matches(self, token: str) -> bool:
        """In constant time, so that the answer's delay tells nothing about the digest."""
        return hmac.compare_digest(bytes(self.digest), self.digest_of(token))

    @staticmethod
    def digest_of(token: str) -> bytes:
        return hashlib.sha256(token.encode()).digest()

    @classmethod
    def prefix_of(cls, token: str) -> str | None:
        """The prefix inside a well-formed key, else None."""
        parts = token.split("_", 3)
        if len(parts) != 4 or parts[0] != "ntf" or parts[1] not in cls.Kind.values:
            return None
        return parts[2] if len(parts[2]) == cls.PREFIX_LENGTH else None


class Recipient(models.Model):
    """The person or system that is notified. The API calls it a user, by the caller's own `user_id`."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="recipients")
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=200, blank=True)
    locale = models.CharField(max_length=35, blank=True)
    timezone = models.CharField(max_length=64, blank=True)
    #: Made by a notification to an unknown address or user_id. POST /users may still claim it.
    provisional = models.BooleanField(default=False, editable=False)
    #: Inbox tokens hold while they name this; raising it ends all that were made.
    inbox_epoch = models.IntegerField(default=0, db_default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (
            # Also finds a user_id over all projects, which is what the admin's search asks.
            models.UniqueConstraint(fields=("user_id", "project"), name="recipient_user_id"),
        )

    def __str__(self) -> str:
        return self.name or self.user_id


class Forgetting(models.Model):
    """A person who is being forgotten: out of everybody's reach already, while what was sent is still being erased.

    See notifications/forgetting.py. It goes with the recipient.
    """

    recipient = models.OneToOneField(
        Recipient, models.CASCADE, primary_key=True, related_name="forgetting"
    )
    asked_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.recipient_id)


class Address(models.Model):
    """A recipient's e-mail address or phone number (E.164)."""

    class Channel(models.TextChoices):
        EMAIL = "email", "E-mail"
        SMS = "sms", "SMS"

    project = models.ForeignKey(Project, models.PROTECT, related_name="+")
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="addresses")
    channel = models.CharField(max_length=5, choices=Channel.choices)
    value = models.CharField(max_length=320)

    class Meta:
        verbose_name_plural = "addresses"
        constraints = (
            # Also finds an address over all projects, which is what the admin's search asks.
            models.UniqueConstraint(fields=("value", "channel", "project"), name="address_value"),
            models.UniqueConstraint(fields=("recipient", "channel"), name="address_per_channel"),
        )

    def __str__(self) -> str:
        return self.value
