"""All settings, from the environment (and a `.env` file) only. README.md lists every variable.

Development needs no variable at all: PostgreSQL and Valkey are then started from wheels
(notifyproj/embedded.py). Production starts nothing by itself and refuses to guess.
"""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import environ
import structlog
from celery.schedules import schedule
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured

from notifyproj import broker

BASE_DIR = Path(__file__).resolve().parent.parent


def _refuse_neither_yes_nor_no(name: str) -> None:
    """django-environ takes every word it does not know for a no: a switch for safety would be off unseen."""
    value = os.environ.get(name, "").strip().lower()
    if value not in {"", "1", "true", "on", "ok", "y", "yes", "0", "false", "off", "n", "no"}:
        raise ImproperlyConfigured(f"{name} cannot be read: write 1 or 0, not {value!r}.")


class Environment(environ.Env):  # type: ignore[misc]  # django-environ has no types
    """The environment's variables; one that cannot be read is an error that names it."""

    def get_value(self, var: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("cast") is bool:
            _refuse_neither_yes_nor_no(var)
        try:
            return super().get_value(var, *args, **kwargs)
        except (ValueError, KeyError) as error:
            raise ImproperlyConfigured(f"{var} cannot be read: {error}") from error


env = Environment()
environ.Env.read_env(BASE_DIR / ".env")

ENVIRONMENT = env.str("ENVIRONMENT", "development")
if ENVIRONMENT not in {"development", "production"}:
    raise ImproperlyConfigured(
        f"ENVIRONMENT is {ENVIRONMENT!r}; it must be 'development' or 'production'."
    )
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.bool("DEBUG", False)
#: What the service keeps in files: collected static files, beat's schedule, the embedded servers' data.
VAR_DIR = Path(env.str("VAR_DIR", str(BASE_DIR / "var"))).resolve()


def _required_in_production(name: str) -> str:
    """The variable's value; empty when unset in development.

    Raises ImproperlyConfigured in production, where a guess would be worse than a stop.
    """
    value: str = env.str(name, "")
    if PRODUCTION and not value:
        raise ImproperlyConfigured(
            f"{name} is not set, and ENVIRONMENT=production starts nothing without it. "
            "See the configuration table in README.md."
        )
    return value


def _given(values: list[str]) -> list[str]:
    """Those of a list that are not empty: `a,` is one secret, and not an empty one beside it."""
    return [value for value in values if value]


# --- Core ------------------------------------------------------------------------------------------

# The development key is no secret: a fixed one keeps sessions alive over restarts.
SECRET_KEY = _required_in_production("SECRET_KEY") or "development-only-" + "not-a-secret-" * 4
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = [
    host.strip()
    for host in (_required_in_production("ALLOWED_HOSTS") or "localhost,127.0.0.1,[::1]").split(",")
]
PUBLIC_URL = env.str("PUBLIC_URL", "").rstrip("/")
#: Where `script/server` listens; elsewhere the program that serves decides.
PORT = env.int("PORT", 8000)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL] if PUBLIC_URL else [])

ROOT_URLCONF = "notifyproj.urls"
WSGI_APPLICATION = "notifyproj.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.User"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "users.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "axes",
    "corsheaders",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "users",
    "notifications",
]

MIDDLEWARE = [
    "notifyproj.middleware.RequestMiddleware",
    "notifyproj.middleware.ProbeMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "notifyproj.middleware.SecureApiMiddleware",
    "notifyproj.middleware.WebhookMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "notifyproj.middleware.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(VAR_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- PostgreSQL: the queue and the truth -----------------------------------------------------------

#: Seconds after which one database call of this process is given up, even if the server is frozen
#: (a frozen PostgreSQL does not honour statement_timeout). Workers and commands wait longer.
DATABASE_DEADLINE = env.float("DATABASE_DEADLINE", 4.0 if "granian" in sys.argv[0] else 60.0)


def _read_database_url(url: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = env.db_url_config(url)
    except (ValueError, KeyError):
        config = {}
    if not url.startswith(("postgres://", "postgresql://")) or not config.get("NAME"):
        # Without the URL itself, and without what caused this: both may hold a password.
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read. Write postgres://user:password@host:5432/name."
        )
    return config


def _database() -> dict[str, Any]:
    url = _required_in_production("DATABASE_URL")
    if url:
        config = _read_database_url(url)
        # A UNIX socket's folder stands percent-encoded where the host does, as libpq has it.
        config["HOST"] = unquote(config["HOST"])
    else:
        from notifyproj import embedded

        address = embedded.postgres(VAR_DIR)
        config = {
            "NAME": address.database,
            "USER": address.user,
            "HOST": address.socket_dir,
            "PORT": address.port,
        }
    return config | {
        "ENGINE": "notifyproj.postgres",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        # PgBouncer in transaction mode gives each transaction another session.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": config.get("OPTIONS", {})
        | {"connect_timeout": 3, "application_name": "notifyproj"},
    }


DATABASES = {"default": _database()}

# --- Redis: wake-ups and rate counters, nothing that may not be lost ---------------------------------


def _redis_url() -> str:
    url = _required_in_production("REDIS_URL")
    if url.startswith(("redis://", "rediss://", "unix://")):
        return url
    if url:
        raise ImproperlyConfigured("REDIS_URL cannot be read. Write redis://host:6379/0.")
    from notifyproj import embedded

    return f"unix://{embedded.valkey(VAR_DIR)}?db=0"


def _as_broker_url(redis_url: str) -> str:
    """Celery spells a UNIX socket `redis+socket://path?virtual_host=0`, redis-py `unix://path?db=0`."""
    return redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")


REDIS_URL = _redis_url()

#: Which servers this machine runs itself; the console says so.
EMBEDDED = [
    server
    for server, variable in (("PostgreSQL", "DATABASE_URL"), ("Valkey", "REDIS_URL"))
    if not env(variable, default="")
]

# --- Celery: the engine's wake-up, never the work ----------------------------------------------------
# Why each of these: docs/decisions.md, "Celery's settings".

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "") or _as_broker_url(REDIS_URL)
#: Prefix of every key in Redis. RabbitMQ has virtual hosts instead.
REDIS_KEY_PREFIX = env.str("REDIS_KEY_PREFIX", "ntf:")
CELERY_BROKER_TRANSPORT_OPTIONS = broker.transport_options(CELERY_BROKER_URL, REDIS_KEY_PREFIX)
CELERY_BROKER_USE_SSL = broker.tls(CELERY_BROKER_URL)
CELERY_TASK_QUEUES = broker.queues(CELERY_BROKER_URL)
CELERY_TASK_ROUTES = ["notifications.waking.route"]
CELERY_BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE = "classic"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis that answers, but refuses (full, read-only after a failover), is no reason for a worker to end.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_CONNECTION_TIMEOUT = 4
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.2,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "normal"
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = 12
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = not broker.is_rabbitmq(CELERY_BROKER_URL)
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "beat is alive": {"task": "notifications.tasks.beat_is_alive", "schedule": schedule(30)},
    "forgetting": {"task": "notifications.tasks.go_on_forgetting", "schedule": schedule(30)},
    "housekeeping": {"task": "notifications.tasks.housekeeping", "schedule": schedule(600)},
    "inboxes": {
        "task": "notifications.tasks.take_into_inboxes",
        "schedule": schedule(60),
        "options": {"queue": "low", "expires": 60},
    },
    # One that waited for long is as good as the next.
    "counting": {
        "task": "notifications.tasks.count",
        "schedule": schedule(60),
        "options": {"queue": "low", "expires": 60},
    },
}

# --- The engine --------------------------------------------------------------------------------------
# Every wait has an end, each inside the next: call < deadline < lease.

#: Seconds for one call to a provider, from first to last byte.
SEND_DEADLINE = env.float("SEND_DEADLINE", 20.0)
#: Seconds a worker has a claimed row before it must have begun it.
CLAIM_LEASE = env.float("CLAIM_LEASE", 60.0)
#: Seconds on top of SEND_DEADLINE until a begun row counts as lapsed.
SEND_LEASE_MARGIN = env.float("SEND_LEASE_MARGIN", 20.0)
#: Seconds an `unknown` notification waits for a receipt before its policy decides.
UNKNOWN_REVIEW_AFTER = env.float("UNKNOWN_REVIEW_AFTER", 600.0)
#: Seconds between two sweeps of a worker.
SWEEP_INTERVAL = env.float("SWEEP_INTERVAL", 5.0)
#: Seconds for which a provider that refuses us or is down is left alone at first; doubles up to the longest.
CIRCUIT_FIRST_REST = env.float("CIRCUIT_FIRST_REST", 30.0)
CIRCUIT_LONGEST_REST = env.float("CIRCUIT_LONGEST_REST", 600.0)
#: Seconds without any movement, although something is due, after which a worker ends itself.
STANDSTILL_AFTER = env.float("STANDSTILL_AFTER", 180.0)
#: Calls a second to a provider at most, over all workers and lanes: smtp=100,twilio=10. None: as fast as it goes.
PROVIDER_RATES = _given(env.list("PROVIDER_RATES", default=[]))
#: Calls to a provider after which a temporary error is final.
MAX_ATTEMPTS = env.int("MAX_ATTEMPTS", 25)
#: Seconds an idempotency key is remembered.
IDEMPOTENCY_KEY_TTL = 7 * 24 * 3600
#: Days after which a notification that has ended is deleted, with its attempts; 0: never.
RETENTION_DAYS = env.int("RETENTION_DAYS", 0)

# --- Channels and their vendors ------------------------------------------------------------------------

#: Lets live notifications of a channel without a vendor go to the sandbox instead of being refused.
SANDBOX = env.bool("SANDBOX", not PRODUCTION)

EMAIL_URL = env.str("EMAIL_URL", "")
EMAIL_PROVIDER = env.str("EMAIL_PROVIDER", "")
MAILGUN_API_KEY = env.str("MAILGUN_API_KEY", "")
MAILGUN_DOMAIN = env.str("MAILGUN_DOMAIN", "")
#: Several while one takes the other's place; by default the API key, as with older accounts.
MAILGUN_WEBHOOK_SIGNING_KEY = _given(env.list("MAILGUN_WEBHOOK_SIGNING_KEY", default=[]))
MAILGUN_API_URL = env.str("MAILGUN_API_URL", "https://api.mailgun.net/v3")
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "notifications@localhost")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
if EMAIL_URL:
    try:
        vars().update(env.email_url_config(EMAIL_URL))
    except (KeyError, ValueError, ImproperlyConfigured) as error:
        raise ImproperlyConfigured(
            "EMAIL_URL cannot be read. Write smtp://user:password@host:25, or smtp+tls:// (STARTTLS), "
            "or smtp+ssl:// (TLS from the start)."
        ) from error
EMAIL_TIMEOUT = 10
#: Connections that one worker process opens to the SMTP server at most.
SMTP_MAX_CONNECTIONS = env.int("SMTP_MAX_CONNECTIONS", 16)
#: "user:password" of webhooks from vendors without a signature; several while one takes the other's place.
WEBHOOK_SECRET = _given(env.list("WEBHOOK_SECRET", default=[]))
ANYMAIL: dict[str, Any] = (
    {"WEBHOOK_SECRET": WEBHOOK_SECRET}
    | env.json("ANYMAIL", {})
    | {
        "MAILGUN_API_KEY": MAILGUN_API_KEY,
        "MAILGUN_SENDER_DOMAIN": MAILGUN_DOMAIN,
        "MAILGUN_API_URL": MAILGUN_API_URL,
    }
)

SMS_PROVIDER = env.str("SMS_PROVIDER", "")
TWILIO_ACCOUNT_SID = env.str("TWILIO_ACCOUNT_SID", "")
TWILIO_AUTH_TOKEN = env.str("TWILIO_AUTH_TOKEN", "")
#: Others that may sign a status callback, while one takes the other's place.
TWILIO_AUTH_TOKEN_FALLBACKS = _given(env.list("TWILIO_AUTH_TOKEN_FALLBACKS", default=[]))
TWILIO_FROM = env.str("TWILIO_FROM", "")
TWILIO_API_URL = env.str("TWILIO_API_URL", "https://api.twilio.com")
TELNYX_API_KEY = env.str("TELNYX_API_KEY", "")
TELNYX_FROM = env.str("TELNYX_FROM", "")
#: Proves that a webhook is Telnyx's; several while one takes the other's place.
TELNYX_PUBLIC_KEY = _given(env.list("TELNYX_PUBLIC_KEY", default=[]))
TELNYX_API_URL = env.str("TELNYX_API_URL", "https://api.telnyx.com/v2")

FALLBACK_EMAIL = env.str("FALLBACK_EMAIL", "")
FALLBACK_PHONE = env.str("FALLBACK_PHONE", "")
DEFAULT_PHONE_REGION = env.str("DEFAULT_PHONE_REGION", "US")

# --- The API -------------------------------------------------------------------------------------------

#: Requests a key may make per so many seconds, as "requests/seconds"; empty switches the limit off.
RATE_LIMIT = env.str("RATE_LIMIT", "6000/60")
#: Bytes of a request's body. A message may have 256 KB, and so may its HTML.
MAX_REQUEST_BYTES = 1_000_000
#: Bytes of the body of a call that brings many notifications.
MAX_BATCH_REQUEST_BYTES = 16_000_000
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_REQUEST_BYTES

#: Bytes of a file that is uploaded for a batch, by the API or in the console. A command reads files of any size.
MAX_BATCH_BYTES = env.int("MAX_BATCH_BYTES", 256_000_000)
#: Share of a batch's last 1,000 calls that may fail before it pauses itself.
BATCH_FAILURE_LIMIT = env.float("BATCH_FAILURE_LIMIT", 0.2)

# --- The inbox, for people's browsers --------------------------------------------------------------------

#: Calls with one person's inbox tokens, over all browsers, as "requests/seconds"; empty switches the limit off.
INBOX_RATE_LIMIT = env.str("INBOX_RATE_LIMIT", "600/60")
#: The stream is a process of its own; it listens here where script/server starts it.
STREAM_PORT = env.int("STREAM_PORT", PORT + 10)
#: The stream's address, where a proxy routes it. In development it is found at STREAM_PORT.
STREAM_URL = env.str("STREAM_URL", "")
#: Open streams of one process, and of one person in one process.
STREAM_CONNECTIONS = env.int("STREAM_CONNECTIONS", 2000)
STREAM_CONNECTIONS_PER_USER = env.int("STREAM_CONNECTIONS_PER_USER", 20)
#: Seconds a client has to take what it is sent; then it is cut off, and may come back.
STREAM_PATIENCE = env.float("STREAM_PATIENCE", 20.0)
#: Seconds after which the stream looks by itself what has changed, whether or not Redis has said so.
STREAM_LOOK_EVERY = env.float("STREAM_LOOK_EVERY", 2.0)
#: Days for which the changes of inboxes are kept. A client that was away for longer loads its list anew.
INBOX_EVENTS_KEPT = 7

#: Pages of the service itself; those of others are allowed by each project (Project.inbox_origins).
OWN_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
if not PRODUCTION:
    OWN_ORIGINS += [f"http://{host}:{PORT}" for host in ALLOWED_HOSTS]
CORS_URLS_REGEX = r"^/api/v1/inbox"
CORS_ALLOW_METHODS = ("GET", "PATCH", "POST")
CORS_ALLOW_HEADERS = ("authorization", "content-type", "last-event-id")
CORS_EXPOSE_HEADERS = ("retry-after", "x-request-id")
CORS_PREFLIGHT_MAX_AGE = 600

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["users.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["users.authentication.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["users.throttling.ApiKeyThrottle"],
    "DEFAULT_PARSER_CLASSES": ["notifications.api.parsing.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["notifications.api.parsing.JSONRenderer"],
    # OPTIONS would list the fields of every serializer, and fail on pages.
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "notifications.api.errors.problem_response",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
    "COERCE_DECIMAL_TO_STRING": False,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "notifyproj",
    "DESCRIPTION": "Send e-mail, SMS and in-app notifications with one call. Nothing accepted is ever lost.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "displayRequestDuration": True},
    "PREPROCESSING_HOOKS": ["notifications.api.schema.only_versioned_paths"],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "ENUM_NAME_OVERRIDES": {
        "ChannelEnum": "notifications.models.Channel",
        "AddressChannelEnum": "users.models.Address.Channel",
        "PriorityEnum": "notifications.models.Priority",
        "StatusEnum": "notifications.models.Status",
        "BatchStatusEnum": "notifications.models.Batch.Status",
        "ReasonEnum": "notifications.models.Suppression.Reason",
    },
}

# --- Staff and the admin -------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "users.backends.StaffBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
#: Where the console is, below the root; checks.py says what it may be.
ADMIN_PATH = env.str("ADMIN_PATH", "").strip() or "admin/"
ADMIN_PATH += "" if ADMIN_PATH.endswith("/") else "/"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
#: Proxies in front that append to X-Forwarded-For; the client is that many from the right.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 1 if PRODUCTION else 0)
AXES_CLIENT_IP_CALLABLE = "notifyproj.middleware.client_address"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_CALLABLE = "users.admin.staff.locked_out"

#: Nobody enters the console with a password alone.
REQUIRE_SECOND_FACTOR = env.bool("REQUIRE_SECOND_FACTOR", False)
#: How authenticator apps name the account.
OTP_TOTP_ISSUER = "notifyproj"

UNFOLD = {
    "SITE_TITLE": "notifyproj",
    "SITE_HEADER": "notifyproj",
    "SITE_SYMBOL": "notifications",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "notifications.admin.site.icon"}
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "notifications.admin.site.environment_badge",
    "GLOBAL_CALLBACK": "notifications.admin.site.context",
    "DASHBOARD_CALLBACK": "notifications.admin.site.start_page",
    "STYLES": ["notifications.admin.site.stylesheet"],
    "ACCOUNT": {"navigation": "notifications.admin.site.account_links"},
    "SIDEBAR": {"navigation": "notifications.admin.site.navigation"},
    # Blue, as on the start page.
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        },
    },
}

# --- Security (what `check --deploy` asks for) ---------------------------------------------------------

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_AGE = 8 * 3600
# Django's own defaults, and meant.
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PRODUCTION else None
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", PRODUCTION)
# The API refuses plain http instead of redirecting it (notifyproj.middleware.SecureApiMiddleware).
SECURE_REDIRECT_EXEMPT = [r"^api/", r"^hooks/", r"^(notifications|users|suppressions|health)(/|$)"]
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 31_536_000 if PRODUCTION else 0)
# Both concern the whole domain, which is not ours to decide about; hence off, and no warning about it.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

#: Everything from this service itself, and no script within a page. What the console and the API's documentation
#: need beyond that is theirs alone (notifyproj.middleware.PolicyMiddleware).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "frame-src": [NONE],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
#: unfold's Alpine evaluates the expressions in its attributes (hence 'unsafe-eval'); unfold's colours and htmx's
#: indicator stand in <style>, as do those of a shown mail, whose frame inherits this (hence 'unsafe-inline').
CONTENT_SECURITY_POLICY_OF_THE_CONSOLE = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}
#: Swagger UI styles its parts by attributes.
CONTENT_SECURITY_POLICY_OF_THE_DOCS = {"style-src": [SELF, UNSAFE_INLINE]}
#: On the page to try it, a mail is shown as in the console.
CONTENT_SECURITY_POLICY_OF_A_SHOWN_MAIL = {"style-src": [SELF, UNSAFE_INLINE]}

# --- Logs: one line an event, ids but never an address or a content --------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", "INFO").upper()
LOG_FORMAT = env.str("LOG_FORMAT", "json" if PRODUCTION else "console")
_SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
# Without local variables: they hold addresses, content and keys.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_RENDERERS: list[Any] = (
    [_TRACEBACKS, structlog.processors.JSONRenderer()]
    if LOG_FORMAT == "json"
    else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
)
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED_PROCESSORS,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _SHARED_PROCESSORS,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_RENDERERS,
            ],
        }
    },
    "filters": {"route": {"()": "notifyproj.middleware.RouteForPath"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Our own line about each request replaces these.
        "django.request": {"level": "ERROR", "filters": ["route"]},
        "django.server": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # Anything below warning would print the recipients and the content.
        "twilio": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        "sse_starlette": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}
