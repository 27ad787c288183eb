"""What the demonstration's notifications say and what becomes of them: plausible, invented, and of nobody. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """What a notification says. `{name}`, `{number}` and `{shop}` stand for the recipient, a number and the project."""

    weight: int
    channel: str
    priority: str
    category: str
    title: str
    message: str
    html: str = ""
    url: str = ""
    #: Of the caller's own id for it; empty where it has none.
    reference: str = ""


LETTERS = (
    Letter(
        14,
        "email",
        "normal",
        "orders",
        "Your order has shipped",
        "Hello {name},\n\nyour order {number} is on its way. It arrives within two days.\n\n{shop}",
        "<p>Hello {name},</p><p>your order <b>{number}</b> is on its way. It arrives within two days.</p><p>{shop}</p>",
        reference="order-{number}",
    ),
    Letter(
        9,
        "email",
        "normal",
        "invoices",
        "Invoice 2026-{number}",
        "Hello {name},\n\nyour invoice 2026-{number} is ready in your account. It is due within 14 days.\n\n{shop}",
        reference="invoice-2026-{number}",
    ),
    Letter(
        6,
        "email",
        "high",
        "security",
        "Reset your password",
        "Hello {name},\n\nsomebody, probably you, wants a new password. The link is good for one hour.",
    ),
    Letter(
        4,
        "email",
        "normal",
        "account",
        "Welcome to {shop}",
        "Hello {name},\n\ngood to have you here. Confirm your address to go on.",
        "<h1>Welcome, {name}!</h1><p>Good to have you here. Confirm your address to go on.</p>",
    ),
    Letter(
        5,
        "email",
        "normal",
        "appointments",
        "Your appointment on Monday at 10:30",
        "Hello {name},\n\nwe are expecting you on Monday at 10:30. Reply to this mail to move it.",
        reference="appointment-{number}",
    ),
    Letter(
        20,
        "email",
        "low",
        "newsletter",
        "Autumn offers at {shop}",
        "Hello {name},\n\neverything for the garden is 20 percent off until Sunday.",
        "<h1>Autumn offers</h1><p>Hello {name}, everything for the garden is <b>20 percent</b> off until Sunday.</p>",
    ),
    Letter(8, "sms", "high", "security", "", "Your code is {number}. It is good for ten minutes."),
    Letter(
        6,
        "sms",
        "normal",
        "orders",
        "",
        "{shop}: your parcel {number} arrives today between 2 and 4 pm.",
        reference="parcel-{number}",
    ),
    Letter(
        3,
        "sms",
        "normal",
        "appointments",
        "",
        "Reminder: your appointment is tomorrow at 9:15. Reply STOP to get no more of these.",
    ),
    Letter(
        11,
        "in_app",
        "normal",
        "orders",
        "Your parcel was delivered",
        "Parcel {number} was handed over at the door.",
        url="https://shop.example.com/orders/{number}",
        reference="order-{number}",
    ),
    Letter(
        8,
        "in_app",
        "normal",
        "comments",
        "Grace answered your question",
        "Yes, it fits model {number} as well.",
        url="https://shop.example.com/questions/{number}",
    ),
    Letter(
        6, "in_app", "high", "payments", "Payment received", "Thank you, {name}. Receipt {number}."
    ),
)

ORDER, INVOICE, APPOINTMENT, NEWSLETTER = (LETTERS[number] for number in (0, 1, 4, 5))


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt: what the provider answered."""

    outcome: str
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a notification: its calls in order, what is told of it later, and where it ends."""

    weight: float
    status: str
    calls: tuple[Call, ...] = ()
    event: str = ""
    kind: str = ""
    code: str = ""
    detail: str = ""
    #: The reason of a suppression that follows.
    suppressed: str = ""


TAKEN = Call("accepted", "", "250 2.0.0 Ok: queued")
THROTTLED = Call(
    "temporary", "421", "421 4.7.0 Too many connections from your host, try again later"
)
GREYLISTED = Call("temporary", "451", "451 4.7.1 Greylisted, please try again in 5 minutes")
MAILBOX_FULL = Call("temporary", "452", "452 4.2.2 The recipient's inbox is out of storage space")
NO_MAILBOX = Call(
    "permanent", "550", "550 5.1.1 The email account that you tried to reach does not exist"
)
SPAM = Call("permanent", "554", "554 5.7.1 Message rejected as spam by content scanner")
NO_ANSWER = Call("ambiguous", "timeout", "No answer to the final dot within 20 seconds")
QUEUED = Call("accepted", "", "Queued. Thank you.")
BUSY = Call("temporary", "429", "Too many requests")
WRONG_TOKEN = Call("misconfigured", "twilio_20003", "HTTP 401: Authenticate")
LANDLINE = Call("permanent", "twilio_21614", "HTTP 400: 'To' number is not a valid mobile number")
STOPPED = Call("permanent", "twilio_21610", "HTTP 400: Attempt to send to unsubscribed recipient")

_CANCELLED = Fate(0.6, "cancelled")
_UNKNOWN = Fate(0.06, "unknown", (NO_ANSWER,))

SMTP = (
    Fate(74, "sent", (TAKEN,)),
    Fate(13, "sent", (GREYLISTED, TAKEN)),
    Fate(7, "sent", (THROTTLED, GREYLISTED, TAKEN)),
    Fate(
        1.6,
        "failed",
        (NO_MAILBOX,),
        kind="permanent",
        code=NO_MAILBOX.code,
        detail=NO_MAILBOX.detail,
        suppressed="hard_bounce",
    ),
    Fate(0.4, "failed", (SPAM,), kind="permanent", code=SPAM.code, detail=SPAM.detail),
    Fate(
        0.4,
        "failed",
        (MAILBOX_FULL,) * 5,
        kind="temporary",
        code=MAILBOX_FULL.code,
        detail=MAILBOX_FULL.detail,
    ),
    Fate(0.4, "expired", (THROTTLED, THROTTLED, THROTTLED)),
    _CANCELLED,
    _UNKNOWN,
)
MAILGUN = (
    Fate(71, "delivered", (QUEUED,), "delivered"),
    Fate(18, "delivered", (BUSY, QUEUED), "delivered"),
    Fate(4, "delivered", (BUSY, BUSY, BUSY, QUEUED), "delivered"),
    Fate(4, "sent", (QUEUED,)),
    Fate(
        1.4,
        "failed",
        (QUEUED,),
        "bounced",
        "permanent",
        "550",
        "550 5.1.1 <mailbox>: Recipient address rejected: User unknown",
        suppressed="hard_bounce",
    ),
    _CANCELLED,
)
TWILIO = (
    Fate(73, "delivered", (QUEUED,), "delivered"),
    Fate(16, "delivered", (BUSY, QUEUED), "delivered"),
    Fate(4, "sent", (QUEUED,)),
    Fate(
        1.6,
        "failed",
        (QUEUED,),
        "failed",
        "permanent",
        "twilio_30003",
        "Unreachable destination handset",
    ),
    Fate(
        0.8,
        "failed",
        (QUEUED,),
        "failed",
        "permanent",
        "twilio_30005",
        "Unknown destination handset",
        suppressed="hard_bounce",
    ),
    Fate(0.5, "failed", (LANDLINE,), kind="permanent", code=LANDLINE.code, detail=LANDLINE.detail),
    Fate(
        0.4,
        "failed",
        (STOPPED,),
        kind="permanent",
        code=STOPPED.code,
        detail=STOPPED.detail,
        suppressed="stop",
    ),
    _CANCELLED,
    _UNKNOWN,
)
#: While its token was wrong: nothing went out until somebody noticed.
TWILIO_IN_TROUBLE = (
    Fate(55, "expired", (WRONG_TOKEN, WRONG_TOKEN)),
    Fate(45, "delivered", (WRONG_TOKEN, QUEUED), "delivered"),
)
INBOX = (Fate(99.4, "delivered", (Call("accepted"),)), _CANCELLED)
SANDBOX = (Fate(96, "sent", (Call("accepted"),)), _CANCELLED)
#: In-app, the sandbox delivers: into the inbox of test keys.
SANDBOX_INBOX = (Fate(96, "delivered", (Call("accepted"),)), _CANCELLED)

#: Of each channel: providers, with their shares and what becomes of what they get.
PROVIDERS = {
    "email": (("smtp", 70, SMTP), ("mailgun", 30, MAILGUN)),
    "sms": (("twilio", 100, TWILIO),),
    "in_app": (("inbox", 100, INBOX),),
}

PROJECTS = ("Demo shop", "Demo clinic", "Demo bank", "Demo travel")
#: Shares of the notifications.
PROJECT_SHARES = (50, 25, 15, 10)

#: How busy each hour of a day is, UTC.
HOURS = (2, 1, 1, 1, 2, 3, 6, 10, 14, 16, 15, 13, 12, 13, 14, 14, 13, 12, 11, 10, 8, 6, 4, 3)

FIRST_NAMES = (
    *("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Margaret", "Dennis", "Radia", "Tim"),
    *(
        "Frances",
        "Ken",
        "Katherine",
        "Linus",
        "Hedy",
        "Claude",
        "Joan",
        "Niklaus",
        "Sophie",
        "John",
    ),
)
LAST_NAMES = (
    *("Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Hamilton", "Ritchie"),
    *("Perlman", "Berners", "Allen", "Thompson", "Johnson", "Lamarr", "Shannon", "Clarke"),
    *("Wirth", "Wilson", "Backus", "Gr\u00fcn", "O'Neil", "van der Berg", "D\u00edaz"),
)
