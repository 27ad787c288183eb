"""The ledger: batches, flows, pauses, circuits, notifications, attempts, receipts, suppressions; what is counted of
them, and what operators do to many. PostgreSQL is the queue.

A `Notification` with status `pending` and `due_at` in the past IS the queue entry. Models decide about
themselves; they never enqueue or send: no signals, no side effects in `save()`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now

from users.models import Address, ApiKey, Project, Recipient, User


class Channel(models.TextChoices):
    EMAIL = "email", "E-mail"
    SMS = "sms", "SMS"
    IN_APP = "in_app", "In-app"


class Priority(models.TextChoices):
    HIGH = "high", "High"
    NORMAL = "normal", "Normal"
    LOW = "low", "Low"


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    SENDING = "sending", "Sending"
    SENT = "sent", "Sent"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"
    UNKNOWN = "unknown", "Unknown"


class FailureKind(models.TextChoices):
    TEMPORARY = "temporary", "Temporary: tried until its time or its attempts were over"
    PERMANENT = "permanent", "Permanent: the provider refused it"
    TECHNICAL = "technical", "Technical: our own fault"


#: The failure's code of an `unknown` one that an operator gave up.
GIVEN_UP = "given_up"

#: Everything that goes to the sandbox has one lane of its own, so that tests never delay the real.
SANDBOX_LANE = "sandbox"


def lane_of(channel: str, priority: str) -> str:
    """The lane of live notifications, for example `email.high`."""
    return f"{channel}.{priority}"


LANES = (
    *(lane_of(channel, priority) for priority in Priority.values for channel in Channel.values),
    SANDBOX_LANE,
)


def queue_of(lane: str) -> str:
    """The Celery queue through which a lane is woken: its priority; the sandbox's is `normal`."""
    return Priority.NORMAL.value if lane == SANDBOX_LANE else lane.rpartition(".")[2]


class Batch(models.Model):
    """One message to many: what is to be said, to whom, and how far it has come. See notifications/bulk/.

    Its rows are notifications of a flow of its own: what holds for a flow (a pause, a rate) holds for the batch.
    """

    class Status(models.TextChoices):
        LOADING = "loading", "Loading: its rows are being stored; nothing goes out"
        READY = "ready", "Ready: waits for its time, or for somebody to start it"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        COMPLETED = "completed", "Completed: nothing of it moves by itself any more"
        CANCELLED = "cancelled", "Cancelled"

    class Source(models.TextChoices):
        FILE = "file", "A file"
        RECIPIENTS = "recipients", "All recipients of the project"

    id = models.UUIDField(primary_key=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="batches", db_index=False)
    name = models.CharField(max_length=255)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.LOADING)
    #: Why it is paused, cancelled by itself or not sent at all; empty where a person has said so.
    reason = models.TextField(blank=True)

    channel = models.CharField(max_length=6, choices=Channel.choices)
    priority = models.CharField(max_length=6, choices=Priority.choices, default=Priority.LOW)
    live = models.BooleanField(help_text="Else everything goes to the sandbox.")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, related_name="+", db_index=False, verbose_name="API key"
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    #: Liquid templates; the columns of the source are their variables.
    title = models.TextField(blank=True)
    message = models.TextField()
    html = models.TextField(blank=True)
    url = models.TextField(blank=True)
    category = models.CharField(max_length=100, blank=True)

    source = models.CharField(max_length=10, choices=Source.choices, default=Source.FILE)
    file_name = models.CharField(max_length=255, blank=True)
    #: SHA-256 of the file: the same name with another file is an error, not a second batch.
    digest = models.BinaryField(max_length=32)
    #: Of all recipients: the newest that is meant, so that going on means the same people.
    last_recipient_id = models.BigIntegerField(null=True, blank=True)
    #: Python's name of the file's encoding.
    encoding = models.CharField(max_length=40, blank=True)
    skip_invalid = models.BooleanField(default=False)
    once_per_address = models.BooleanField(default=True)

    #: The number of the last row that was looked at. Moved in the transaction that stores the rows up to it.
    cursor = models.BigIntegerField(default=0)
    #: Rows stored as notifications, and rows left out as invalid, up to the cursor.
    loaded = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    #: What the check of the whole source found (bulk/checking.py): counts, the first errors, rendered examples.
    report = models.JSONField(default=dict, blank=True)
    #: Until when a worker loads it; NULL where a command does, or nobody.
    leased_until = models.DateTimeField(null=True, blank=True)

    #: It starts by itself once loaded (at `scheduled_for`, else at once), or when somebody says so.
    starts_by_itself = models.BooleanField(default=True)
    scheduled_for = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    #: Share of its last 1,000 calls that may fail before it pauses itself; 1 for never.
    failure_limit = models.FloatField(default=0.2)

    created_at = models.DateTimeField(db_default=Now())
    loaded_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    #: When it last began to move: calls before that do not count against it.
    resumed_at = models.DateTimeField(null=True, blank=True)
    #: When nothing of it moved by itself any more.
    finished_at = models.DateTimeField(null=True, blank=True)

    #: These move by themselves, to the next or to their end.
    OPEN: ClassVar[frozenset[str]] = frozenset(
        {Status.LOADING, Status.READY, Status.RUNNING, Status.PAUSED}
    )

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "batches"
        permissions = (
            ("send_batch", "Can send a batch, pause, resume and cancel it"),
            ("download_batch", "Can download who got a batch, with their addresses"),
        )
        constraints = (
            models.UniqueConstraint(fields=("project", "name"), name="batch_name"),
            models.CheckConstraint(
                condition=Q(
                    status__in=("loading", "ready", "running", "paused", "completed", "cancelled")
                ),
                name="batch_status_known",
            ),
        )
        indexes = (
            # GET /batches, newest first (ids are time-ordered).
            models.Index(fields=("project", "id"), name="batch_project"),
            # batches.tend(): what starts, ends or has to be looked after.
            models.Index(
                fields=("status",), name="batch_unfinished", condition=Q(finished_at=None)
            ),
        )

    def __str__(self) -> str:
        return self.name


class StagedPart(models.Model):
    """A piece of a file that was uploaded for a batch, kept until a worker has loaded it."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="parts", db_index=False)
    number = models.IntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = (
            # Also the order in which they are read.
            models.UniqueConstraint(fields=("batch", "number"), name="staged_part_number"),
        )

    def __str__(self) -> str:
        return f"{self.batch_id}: {self.number}"


class Flow(models.Model):
    """A queue inside a lane: one for each project, and one for each batch. A claim takes a few rows from each in turn."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="flows")
    lane = models.CharField(max_length=20, choices=[(lane, lane) for lane in LANES])
    batch = models.OneToOneField(
        Batch, models.PROTECT, null=True, blank=True, editable=False, related_name="flow"
    )
    paused = models.BooleanField(default=False, help_text="Nothing of it is claimed while set.")
    rate = models.FloatField(
        null=True,
        blank=True,
        help_text="At most so many a second, over all workers. Empty: as fast as it goes.",
    )
    #: The next moment at which one of it may begin, where it has a rate. Each claim takes the next ones (pace.py).
    next_slot_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("lane", "project"), name="flow_of_project", condition=Q(batch=None)
            ),
            models.CheckConstraint(
                condition=Q(rate=None) | Q(rate__gt=0), name="flow_rate_positive"
            ),
        )
        # queue.CLAIM: finished batches leave paused flows behind, which it need not look at.
        indexes = (models.Index(fields=("lane",), name="flow_moving", condition=Q(paused=False)),)

    def __str__(self) -> str:
        return f"{self.project} · {self.lane}"


class Pace(models.Model):
    """How fast a provider is called, over all workers. See pace.py. A row exists from the first need on."""

    provider = models.CharField(max_length=50, primary_key=True)
    #: The next moment at which a call may begin. Each claim takes the next ones.
    next_slot_at = models.DateTimeField(db_default=Now())
    #: Calls a second that were left when the provider last said "too many"; grows again with time.
    lowered_to = models.FloatField(null=True, blank=True)
    lowered_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.provider


class Pause(models.Model):
    """A lane or a provider of which nothing is claimed or begun until somebody resumes it. See pausing.py."""

    #: A lane (`sms.high`) or a provider (`twilio`). The sandbox is both, and the same.
    target = models.CharField(max_length=50, primary_key=True)
    reason = models.TextField(blank=True)
    paused_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    paused_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        permissions = (("pause_delivery", "Can pause and resume a lane, a flow or a provider"),)

    def __str__(self) -> str:
        return self.target


class Circuit(models.Model):
    """Whether a provider may be called for a sender, shared by all workers. See circuits.py.

    A row exists from the first trouble on. Nothing of an open circuit is claimed, so that a password which was
    changed, or a server that is down, costs what waits no attempt.
    """

    class Cause(models.TextChoices):
        REFUSED = "refused", "It refuses our account or this sender"
        THROTTLED = "throttled", "It asked for a pause"
        UNREACHABLE = "unreachable", "No connection"
        FAILING = "failing", "Too many calls failed"

    provider = models.CharField(max_length=50)
    sender = models.CharField(
        max_length=320,
        blank=True,
        help_text="A project's own From address; empty for the service's.",
    )
    #: NULL: closed. Ahead: open, nothing is claimed. Past: one notification is to find out.
    open_until = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    #: Probes that failed since it opened; each doubles the wait.
    trips = models.SmallIntegerField(default=0)
    #: What opened it last, and the provider's words.
    cause = models.CharField(max_length=11, choices=Cause.choices, blank=True)
    code = models.CharField(max_length=100, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        constraints = (
            # Also the index by which a claim asks.
            models.UniqueConstraint(fields=("provider", "sender"), name="circuit_of_sender"),
        )

    def __str__(self) -> str:
        return f"{self.provider} · {self.sender or 'own sender'}"


class NotificationQuerySet(models.QuerySet["Notification"]):
    def of_project(self, project_id: int) -> NotificationQuerySet:
        return self.filter(project_id=project_id)

    def cancellable(self) -> NotificationQuerySet:
        """Nothing of it has left: a claimed row is too, since BEGIN asks for `pending` once more."""
        return self.filter(status=Status.PENDING)

    def of_inbox(self, recipient_id: int, live: bool) -> NotificationQuerySet:
        """What has arrived there, also what is archived."""
        return self.filter(recipient_id=recipient_id, live=live, inbox_position__isnull=False)

    def not_in_inbox(self) -> NotificationQuerySet:
        """Delivered in-app, and not taken into its inbox."""
        return self.filter(
            channel=Channel.IN_APP,
            status=Status.DELIVERED,
            inbox_position=None,
            recipient__isnull=False,
        )

    def held(self) -> NotificationQuerySet:
        """Nobody knows whether they were sent, no policy decides any more, and no operator has yet."""
        return self.filter(status=Status.UNKNOWN, review_at=None, settled_by_hand=False)


class Notification(models.Model):
    """One message on one channel to one recipient."""

    id = models.UUIDField(primary_key=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="+", db_index=False)
    flow = models.ForeignKey(Flow, models.PROTECT, related_name="+", db_index=False)
    #: Empty once the person is forgotten; `user_id` stays for the ledger.
    recipient = models.ForeignKey(
        Recipient, models.SET_NULL, null=True, related_name="notifications", db_index=False
    )
    user_id = models.CharField(max_length=255)
    channel = models.CharField(max_length=6, choices=Channel.choices)
    priority = models.CharField(max_length=6, choices=Priority.choices)
    live = models.BooleanField(help_text="Sent with a live key; else it goes to the sandbox.")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, related_name="+", db_index=False, verbose_name="API key"
    )

    #: Which row of its batch's source it is (of `--all-recipients`: the recipient's id). NULL: it is of no batch.
    row_number = models.BigIntegerField(null=True, blank=True, editable=False)
    #: Its batch writes to each address once.
    once_per_address = models.BooleanField(default=False, db_default=False, editable=False)

    #: Where it goes: an e-mail address, a phone number (E.164) or, in-app, the user id.
    address = models.CharField(max_length=320)
    title = models.TextField(blank=True)
    message = models.TextField()
    html = models.TextField(blank=True)
    url = models.TextField(blank=True)
    category = models.CharField(max_length=100, blank=True)
    reference = models.CharField(max_length=255, blank=True)
    metadata = models.JSONField(default=dict, blank=True)

    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    failure_kind = models.CharField(max_length=9, choices=FailureKind.choices, blank=True)
    failure_code = models.CharField(max_length=100, blank=True)
    failure_detail = models.TextField(blank=True)
    #: The last provider it was given to, and that provider's own id of it.
    provider = models.CharField(max_length=50, blank=True)
    provider_message_id = models.CharField(max_length=255, blank=True)

    created_at = models.DateTimeField(db_default=Now())
    scheduled_for = models.DateTimeField(null=True, blank=True)
    #: When it should go. Moved only by schedule, retry and rate, never by a claim.
    due_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    #: In-app: by which change of its inbox it arrived there; NULL where it has not. See inbox/numbering.py.
    inbox_position = models.BigIntegerField(null=True, blank=True, editable=False)
    #: In-app: when the person put it away.
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: When the person was forgotten: address and content are gone, it can never be sent again.
    erased_at = models.DateTimeField(null=True, blank=True)

    #: Until when a worker has it; NULL when free.
    leased_until = models.DateTimeField(null=True, blank=True)
    #: Raised by every claim. Who holds an older one can no longer change the row.
    fence = models.IntegerField(default=0)
    attempt_count = models.SmallIntegerField(default=0)
    #: Claims of it that ended without a begin or a give-back: the worker died. See sweeping.py.
    lapses = models.SmallIntegerField(default=0)
    #: When the policy decides about an `unknown`; NULL: an operator does.
    review_at = models.DateTimeField(null=True, blank=True)
    #: How often the policy sent it again from `unknown`.
    resends = models.SmallIntegerField(default=0)
    #: An operator has said what no provider did about an `unknown` one: it arrived, it is given up, or a newer
    #: one takes its place. So a `sent` one may have no accepted attempt.
    settled_by_hand = models.BooleanField(default=False, db_default=False, editable=False)
    resend_of = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="resent_as"
    )

    objects = NotificationQuerySet.as_manager()

    CANCELLABLE: ClassVar[frozenset[str]] = frozenset({Status.PENDING})
    #: What an operator may send once more, as a new notification.
    RESENDABLE: ClassVar[frozenset[str]] = frozenset(
        {
            Status.SENT,
            Status.DELIVERED,
            Status.FAILED,
            Status.CANCELLED,
            Status.EXPIRED,
            Status.UNKNOWN,
        }
    )
    FINISHED: ClassVar[frozenset[str]] = RESENDABLE - {Status.UNKNOWN}

    class Meta:
        ordering = ("-id",)
        # What an operator may do in the admin; users/groups.py gives them out.
        permissions = (
            ("resend_notification", "Can send a notification once more"),
            ("retry_notification", "Can have a waiting notification tried now"),
            ("cancel_notification", "Can cancel a waiting notification"),
            ("settle_notification", "Can say what became of an unknown notification"),
            ("export_notification", "Can download notifications, with their addresses"),
        )
        indexes = (
            # queue.CLAIM: the next due rows of one flow.
            models.Index(
                fields=("flow", "due_at"),
                name="notification_claim",
                condition=Q(status=Status.PENDING, leased_until=None),
            ),
            # queue.CLAIM_SUSPECT: nearly always empty, and asked for all the time.
            models.Index(
                fields=("flow", "due_at"),
                name="notification_suspect",
                condition=Q(status=Status.PENDING, leased_until=None, lapses__gt=0),
            ),
            # sweeping.sweep(): leases that ran out.
            models.Index(
                fields=("leased_until",),
                name="notification_lease",
                condition=Q(leased_until__isnull=False),
            ),
            # sweeping.sweep(): waiting rows past their time.
            models.Index(
                fields=("expires_at",),
                name="notification_expiry",
                condition=Q(status=Status.PENDING, expires_at__isnull=False),
            ),
            # sweeping.sweep(): unknown rows whose policy is to decide.
            models.Index(
                fields=("review_at",),
                name="notification_review",
                condition=Q(review_at__isnull=False),
            ),
            # The console's list by status, over all projects; only those that went wrong are in it.
            models.Index(
                fields=("status", "id"),
                name="notification_trouble",
                condition=Q(status__in=("failed", "unknown", "expired", "cancelled")),
            ),
            # The console's list by failure code.
            models.Index(
                fields=("failure_code", "id"),
                name="notification_failure",
                condition=~Q(failure_code=""),
            ),
            # The console: unknown rows that wait for an operator's word.
            models.Index(
                fields=("id",),
                name="notification_held",
                condition=Q(status=Status.UNKNOWN, review_at=None, settled_by_hand=False),
            ),
            # GET /notifications and the admin's list, newest first (ids are time-ordered).
            models.Index(fields=("project", "id"), name="notification_project"),
            # The same with ?status= for the rare ones; sent and delivered are found by the one above.
            models.Index(
                fields=("project", "status", "id"),
                name="notification_status",
                condition=~Q(status__in=(Status.SENT, Status.DELIVERED)),
            ),
            # GET /users/{user_id}/notifications and ?user_id=.
            models.Index(fields=("recipient", "id"), name="notification_recipient"),
            # ?reference= and the admin's search.
            models.Index(
                fields=("reference", "id"),
                name="notification_reference",
                condition=~Q(reference=""),
            ),
            # The admin's search by address.
            models.Index(
                fields=("address", "id"), name="notification_address", condition=~Q(address="")
            ),
            # A receipt finds its notification.
            models.Index(
                fields=("provider_message_id",),
                name="notification_provider_id",
                condition=~Q(provider_message_id=""),
            ),
            # GET /inbox, newest first.
            models.Index(
                fields=("recipient", "live", "inbox_position"),
                name="notification_inbox",
                condition=Q(inbox_position__isnull=False),
            ),
            # GET /inbox?unread=true, and inbox.marking.read_all().
            models.Index(
                fields=("recipient", "live", "inbox_position"),
                name="notification_unread",
                condition=Q(inbox_position__isnull=False, read_at=None, archived_at=None),
            ),
            # inbox.numbering.take_in_what_was_left(): nearly always empty.
            models.Index(
                fields=("id",),
                name="notification_not_in_inbox",
                condition=Q(
                    channel=Channel.IN_APP,
                    status=Status.DELIVERED,
                    inbox_position=None,
                    recipient__isnull=False,
                ),
            ),
            # GET /notifications?batch= and the batch's counts.
            models.Index(
                fields=("flow", "id"),
                name="notification_batch",
                condition=Q(row_number__isnull=False),
            ),
        )
        constraints = (
            # However often a batch is loaded, each row is there once.
            models.UniqueConstraint(
                fields=("flow", "row_number"),
                name="notification_row_of_batch",
                condition=Q(row_number__isnull=False),
            ),
            models.UniqueConstraint(
                "flow",
                Lower("address"),
                name="notification_once_per_address",
                condition=Q(once_per_address=True) & ~Q(address=""),
            ),
            models.CheckConstraint(
                condition=Q(status__in=Status.values), name="notification_status_known"
            ),
            # A worker's lease ends with its work: only what waits or is being sent can be leased.
            models.CheckConstraint(
                condition=Q(leased_until=None) | Q(status__in=(Status.PENDING, Status.SENDING)),
                name="notification_lease_of_open",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.SENDING) | Q(leased_until__isnull=False),
                name="notification_sending_leased",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.FAILED) | ~Q(failure_kind=""),
                name="notification_failure_named",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=(Status.SENT, Status.DELIVERED)) | Q(sent_at__isnull=False),
                name="notification_sent_at",
            ),
        )

    def __str__(self) -> str:
        return str(self.id)

    @property
    def failure(self) -> dict[str, str] | None:
        """`{kind, code, detail}` of a failed one, else None."""
        if not self.failure_kind:
            return None
        return {
            "kind": self.failure_kind,
            "code": self.failure_code,
            "detail": self.failure_detail,
        }

    @property
    def is_unread(self) -> bool:
        """Whether its inbox counts it: it has arrived there, and is neither read nor archived."""
        arrived = self.inbox_position is not None
        return arrived and self.read_at is None and self.archived_at is None

    @property
    def next_attempt_at(self) -> datetime | None:
        """When a waiting one is due; None where nothing more happens by itself."""
        return self.due_at if self.status == Status.PENDING else None


class Inbox(models.Model):
    """What one person has in-app: of live keys, or of test keys. Counts its changes; see inbox/numbering.py.

    A row exists from the first arrival on. It is locked by every change of the inbox, after the notifications that
    change, so that the numbers have no gap and the count is exact.
    """

    #: Without a reference in the database, which would lock the recipient after the notification; whoever forgets a
    #: person locks them in the other order.
    recipient = models.ForeignKey(
        Recipient, models.CASCADE, related_name="inboxes", db_constraint=False, db_index=False
    )
    live = models.BooleanField()
    #: The number of its last change.
    position = models.BigIntegerField(default=0, db_default=0)
    #: How many are neither read nor archived.
    unread = models.IntegerField(default=0, db_default=0)

    class Meta:
        verbose_name_plural = "inboxes"
        default_permissions = ()
        constraints = (
            # Also the index by which numbering and the stream find it.
            models.UniqueConstraint(fields=("recipient", "live"), name="inbox_of_recipient"),
        )

    def __str__(self) -> str:
        return f"{self.recipient_id} · {self.unread} unread"


class InboxEvent(models.Model):
    """One change of an inbox, kept for a while so that a client that was away gets exactly what it missed."""

    class Kind(models.TextChoices):
        CREATED = "created", "Arrived"
        UPDATED = "updated", "Read, unread, archived or taken back"
        REMOVED = "removed", "Gone: its time was over, or its person was forgotten"
        READ_ALL = "read_all", "All up to a position read"

    inbox = models.ForeignKey(Inbox, models.CASCADE, related_name="events", db_index=False)
    #: 1, 2, 3 ... of its inbox.
    number = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    #: Which notification; NULL where all were read. No foreign key: it may be gone, and the number stays.
    notification_id = models.UUIDField(null=True)
    #: Where all were read: up to which position.
    read_up_to = models.BigIntegerField(null=True)
    #: How many were unread then.
    unread = models.IntegerField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()
        constraints = (
            # Also the index by which the stream finds what comes after a number.
            models.UniqueConstraint(fields=("inbox", "number"), name="inbox_event_number"),
        )
        # housekeeping.prune_inbox_events().
        indexes = (models.Index(fields=("at",), name="inbox_event_at"),)

    def __str__(self) -> str:
        return f"{self.inbox_id}: {self.number} {self.kind}"


class Attempt(models.Model):
    """One call to one provider. Inserted at BEGIN; its outcome is written once, then never changed."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted", "Accepted"
        TEMPORARY = "temporary", "Refused for now"
        PERMANENT = "permanent", "Refused for good"
        MISCONFIGURED = "misconfigured", "Our account or sender was refused"
        AMBIGUOUS = "ambiguous", "Perhaps accepted"

    notification = models.ForeignKey(
        Notification, models.CASCADE, related_name="attempts", db_index=False
    )
    #: The notification's fence at the time, which names this one call.
    fence = models.IntegerField()
    provider = models.CharField(max_length=50)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=13, choices=Outcome.choices, null=True, blank=True)  # noqa: DJ001
    code = models.CharField(max_length=100, blank=True)
    detail = models.TextField(blank=True)
    provider_message_id = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ("notification", "fence")
        constraints = (
            # Also the index by which SETTLE and a notification's page find them.
            models.UniqueConstraint(fields=("notification", "fence"), name="attempt_of_fence"),
            models.CheckConstraint(
                condition=Q(outcome=None) | Q(finished_at__isnull=False),
                name="attempt_outcome_has_end",
            ),
        )

    def __str__(self) -> str:
        return f"{self.provider}: {self.outcome or 'no answer'}"

    @property
    def duration_ms(self) -> int | None:
        if self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds() * 1000)


class Receipt(models.Model):
    """What a provider told us later about one message, as it came. Stored first, applied after (receipts.py).

    The words are those of providers/events.py. One event is one row, however often it is told.
    """

    provider = models.CharField(max_length=50)
    #: The provider's own id of the event, or one made of what never changes of it.
    event_id = models.CharField(max_length=255)
    event = models.CharField(max_length=13)
    reject_reason = models.CharField(max_length=12, blank=True)
    code = models.CharField(max_length=100, blank=True)
    detail = models.TextField(blank=True)
    #: When it happened, by the provider's clock; when it came, where it does not say.
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField(db_default=Now())
    #: What it is about, as it says: our id, which travelled with the message, and the provider's.
    named_id = models.UUIDField(null=True, blank=True)
    provider_message_id = models.CharField(max_length=255, blank=True)
    raw = models.TextField(blank=True)
    #: The notification it is about; NULL until that is found.
    notification = models.ForeignKey(
        Notification, models.CASCADE, null=True, related_name="receipts", db_index=False
    )
    applied_at = models.DateTimeField(null=True, blank=True)
    #: When it is looked at next, while its notification is not found. Each wait doubles.
    due_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("occurred_at", "id")
        constraints = (
            models.UniqueConstraint(fields=("provider", "event_id"), name="receipt_event"),
        )
        indexes = (
            # receipts.apply(): what is to be looked at.
            models.Index(
                fields=("due_at",), name="receipt_due", condition=Q(applied_at__isnull=True)
            ),
            # A notification's page, and whether a receipt says that it was accepted (invariants.py).
            models.Index(
                fields=("notification", "occurred_at"),
                name="receipt_notification",
                condition=Q(notification__isnull=False),
            ),
            # housekeeping.prune(): what never found its notification.
            models.Index(
                fields=("received_at",), name="receipt_unmatched", condition=Q(notification=None)
            ),
        )

    def __str__(self) -> str:
        return f"{self.provider}: {self.event}"


class SpentToken(models.Model):
    """A vendor's word that may be used once, where its signature does not cover what is said (Mailgun's).

    Whoever catches one cannot say something else with it; the vendor may repeat itself.
    """

    token = models.CharField(max_length=255, primary_key=True)
    #: SHA-256 of the body it came with.
    digest = models.BinaryField(max_length=32)
    spent_at = models.DateTimeField(db_default=Now())

    class Meta:
        # housekeeping.prune() removes those that are too old to be accepted anyway.
        indexes = (models.Index(fields=("spent_at",), name="spent_token_age"),)

    def __str__(self) -> str:
        return self.token


class Suppression(models.Model):
    """An address of a project that must not be written to. See suppressions.py."""

    class Reason(models.TextChoices):
        HARD_BOUNCE = "hard_bounce", "Hard bounce: there is no such mailbox or phone"
        STOP = "stop", "STOP: the person has answered an SMS so"
        COMPLAINT = "complaint", "Complaint: the person has called it spam"
        UNSUBSCRIBE = "unsubscribe", "Unsubscribed"
        MANUAL = "manual", "By hand"

    class Source(models.TextChoices):
        RECEIPT = "receipt", "A receipt"
        REFUSAL = "refusal", "A provider's refusal"
        API = "api", "The API"
        CONSOLE = "console", "The console"
        IMPORT = "import", "An import"

    id = models.UUIDField(primary_key=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="+", db_index=False)
    channel = models.CharField(max_length=5, choices=Address.Channel.choices)
    #: In lower case: two spellings of an address are one mailbox.
    address = models.CharField(max_length=320)
    reason = models.CharField(max_length=11, choices=Reason.choices, default=Reason.MANUAL)
    source = models.CharField(max_length=7, choices=Source.choices, editable=False)
    detail = models.TextField(blank=True, help_text="What you know of it.")
    #: By which notification, and which receipt of it, we learned so.
    notification = models.ForeignKey(
        Notification, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    receipt = models.ForeignKey(
        Receipt, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    #: These stop everything, also the categories that a project calls mandatory: nobody would get it.
    ABSOLUTE: ClassVar[tuple[str, ...]] = (Reason.HARD_BOUNCE, Reason.STOP)

    class Meta:
        ordering = ("-id",)
        constraints = (
            # Also the index by which intake and CLAIM ask, and the console's search over all projects.
            models.UniqueConstraint(
                fields=("address", "channel", "project"), name="suppression_address"
            ),
            models.CheckConstraint(
                condition=Q(address=Lower("address")), name="suppression_lower_case"
            ),
        )
        # GET /suppressions, newest first (ids are time-ordered).
        indexes = (models.Index(fields=("project", "id"), name="suppression_project"),)

    def __str__(self) -> str:
        return self.address


class IdempotencyKey(models.Model):
    """A caller's `Idempotency-Key`, remembered for 7 days, in the same transaction as its notification.

    The answer is not stored: it is made again from the notification, so that forgetting a person forgets
    their content here as well.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    #: SHA-256 of the request's canonical body.
    fingerprint = models.BinaryField(max_length=32)
    notification = models.ForeignKey(Notification, models.CASCADE, related_name="+", db_index=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project", "key"), name="idempotency_key"),)
        # housekeeping.prune() removes the old ones.
        indexes = (models.Index(fields=("created_at",), name="idempotency_age"),)

    def __str__(self) -> str:
        return self.key


class Heartbeat(models.Model):
    """A process that says it is alive: each worker by its sweep, beat through a task."""

    name = models.CharField(max_length=200, primary_key=True)
    kind = models.CharField(max_length=20)
    queues = models.CharField(max_length=100, blank=True)
    seen_at = models.DateTimeField(db_default=Now())
    #: Which code it runs (notifyproj/version.py); empty for a process older than this field.
    version = models.CharField(max_length=20, blank=True, db_default="")
    #: Seconds by which its own clock is ahead of the database's.
    clock_ahead = models.FloatField(db_default=0.0)

    def __str__(self) -> str:
        return self.name


class HourlyCount(models.Model):
    """How many of the notifications that were accepted in an hour stand where: the console's charts, and /stats.

    Recounted again and again while an hour's notifications still move (counting.py), so that no page counts them.
    """

    #: Its first moment, UTC.
    hour = models.DateTimeField()
    project = models.ForeignKey(Project, models.CASCADE, related_name="+", db_index=False)
    channel = models.CharField(max_length=6, choices=Channel.choices)
    live = models.BooleanField()
    category = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=9, choices=Status.choices)
    failure_code = models.CharField(max_length=100, blank=True)
    count = models.BigIntegerField()

    class Meta:
        constraints = (
            # Also the index by which a period is read, and an hour is replaced.
            models.UniqueConstraint(
                fields=(
                    "hour",
                    "project",
                    "channel",
                    "live",
                    "category",
                    "status",
                    "failure_code",
                ),
                name="hourly_count",
            ),
        )

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.channel} {self.status}"


class CountedHour(models.Model):
    """When an hour was last counted. See counting.py."""

    #: In `counted_at`: it is to be counted, and was not yet.
    NEVER: ClassVar[datetime] = datetime(1970, 1, 1, tzinfo=UTC)

    hour = models.DateTimeField(primary_key=True)
    counted_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00}"


class CallCount(models.Model):
    """How many calls to a provider began in a minute or an hour, how they ended and how long they took.

    Each attempt is counted once, when it is surely over, in its minute and in its hour (counting.py).
    """

    class Span(models.TextChoices):
        MINUTE = "minute", "Minute"
        HOUR = "hour", "Hour"

    span = models.CharField(max_length=6, choices=Span.choices)
    began_at = models.DateTimeField()
    lane = models.CharField(max_length=20)
    provider = models.CharField(max_length=50)
    #: Of Attempt.Outcome; empty where no answer ever came.
    outcome = models.CharField(max_length=13, blank=True)
    code = models.CharField(max_length=100, blank=True)
    #: Calls that took at least 2^bucket ms and less than twice as long; 0 also has the faster ones.
    bucket = models.SmallIntegerField()
    calls = models.BigIntegerField()

    class Meta:
        constraints = (
            # Also the index by which a period is read.
            models.UniqueConstraint(
                fields=("span", "began_at", "lane", "provider", "outcome", "code", "bucket"),
                name="call_count",
            ),
        )

    def __str__(self) -> str:
        return f"{self.began_at:%Y-%m-%d %H:%M} {self.provider} {self.outcome}"


class Watermark(models.Model):
    """Up to which row something has been counted already."""

    name = models.CharField(max_length=50, primary_key=True)
    last_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class BulkAction(models.Model):
    """An operator's act on many notifications: resend, cancel, retry, settle. Workers do it, row by row.

    See bulk_actions.py. Which rows are meant is fixed first (`BulkActionRow`); what was chosen twice is refused once.
    """

    class Status(models.TextChoices):
        SELECTING = (
            "selecting",
            "Selecting: the rows it is about are being noted; nothing is done yet",
        )
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        COMPLETED = "completed", "Completed"
        STOPPED = "stopped", "Stopped: what was not done by then is not done"

    id = models.UUIDField(primary_key=True, editable=False)
    #: resend, retry, cancel, arrived or give_up (acts.py).
    act = models.CharField(max_length=20)
    #: What was chosen, as the query of the console's list: `{"status": "failed", "provider": "smtp"}`.
    selection = models.JSONField(default=dict)
    #: Nothing that was accepted later is meant.
    newest_id = models.UUIDField()
    #: Projects within which it may act; NULL for all.
    project_ids = ArrayField(models.BigIntegerField(), null=True, blank=True)
    #: A resend also of those whose person has the message already.
    include_arrived = models.BooleanField(default=False)
    reason = models.TextField()
    #: Rows a second; NULL for as fast as it goes.
    rate = models.FloatField(null=True, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.SELECTING)
    #: Until when a worker, or the command that made it, has it; NULL: whoever comes first.
    leased_until = models.DateTimeField(null=True, blank=True)
    selected = models.BigIntegerField(default=0)
    done = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        default_permissions = ("view",)
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=("selecting", "running", "paused", "completed", "stopped")),
                name="bulk_action_status_known",
            ),
        )
        # bulk_actions.take(): what is to be gone on with.
        indexes = (
            models.Index(
                fields=("id",), name="bulk_action_unfinished", condition=Q(finished_at=None)
            ),
        )

    def __str__(self) -> str:
        return f"{self.act}: {self.reason}"


class BulkActionRow(models.Model):
    """One notification of a bulk action. No foreign key: retention need not look here."""

    bulk_action = models.ForeignKey(BulkAction, models.CASCADE, related_name="rows", db_index=False)
    notification_id = models.UUIDField()
    done_at = models.DateTimeField(null=True, blank=True)
    #: Why it was refused; empty where it was done.
    refusal = models.TextField(blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("bulk_action", "notification_id"), name="bulk_action_row"
            ),
        )
        # bulk_actions.carry_on(): the next ones.
        indexes = (
            models.Index(
                fields=("bulk_action", "notification_id"),
                name="bulk_action_row_waiting",
                condition=Q(done_at=None),
            ),
        )

    def __str__(self) -> str:
        return str(self.notification_id)
