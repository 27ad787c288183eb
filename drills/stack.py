"""One drill's stack: a database of its own, the vendors, web, workers, clients; and what they leave for the judge."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psycopg

from drills import clients, evidence, vendor, webhooks
from drills.judge import Answer, Verdict, judge
from drills.processes import BIN, ROOT, STOPS_WITHIN, Process, Supervisor
from drills.servers import Postgres, Valkey, wait_until
from drills.vendor import Behaviour, Reports

#: The database that every drill's is a copy of: migrated, with a project, a key and the record of changes.
TEMPLATE = "drills_template"

#: Short leases, so that a drill need not wait long for what a dead worker has left. Each wait still lies inside
#: the next. A drill may change any of them.
SHORT = {
    "SEND_DEADLINE": 4,
    "SEND_LEASE_MARGIN": 4,
    "CLAIM_LEASE": 5,
    "SWEEP_INTERVAL": 1,
    "UNKNOWN_REVIEW_AFTER": 3,
    "CIRCUIT_FIRST_REST": 1,
    "CIRCUIT_LONGEST_REST": 2,
}
ALL_QUEUES = "high,normal,low"


@dataclass(frozen=True)
class Servers:
    """What all drills of one run share. `key` is an API key that every drill's database knows."""

    var: Path
    postgres: Postgres
    valkey: Valkey
    key: str

    @classmethod
    def start(cls, var: Path) -> Self:
        """Start both servers and make the template."""
        servers = cls(var, Postgres(var), Valkey(var), "")
        servers.postgres.start()
        servers.valkey.start()
        servers.postgres.create_database(TEMPLATE)
        manage(servers, "migrate", "-v", "0")
        with servers.postgres.connect(TEMPLATE) as connection:
            connection.execute(evidence.RECORD_CHANGES)
            connection.execute(
                "INSERT INTO users_project (name, from_email, from_name, reply_to) VALUES ('drills', '', '', '')"
            )
        return replace(servers, key=manage(servers, "create_api_key").strip())

    def stop(self) -> None:
        self.postgres.stop()
        self.valkey.stop()

    def bring_back(self) -> None:
        """Whatever a drill has left of them: both run, and answer."""
        for server in (self.postgres, self.valkey):
            server.thaw()
            if not server.answers:
                server.start()
        self.valkey.accept_writes()

    def environment(self, database: str = TEMPLATE) -> dict[str, str]:
        """For every process of the service. Whatever the surroundings configure for vendors is switched off."""
        quiet = dict.fromkeys(
            (
                *("EMAIL_URL", "EMAIL_PROVIDER", "MAILGUN_API_KEY", "MAILGUN_DOMAIN"),
                *("MAILGUN_WEBHOOK_SIGNING_KEY", "SMS_PROVIDER", "WEBHOOK_SECRET"),
            ),
            "",
        )
        return (
            dict(os.environ)
            | quiet
            | {
                "DJANGO_SETTINGS_MODULE": "notifyproj.settings",
                "DATABASE_URL": self.postgres.url(database),
                "REDIS_URL": self.valkey.url,
                "CELERY_BROKER_URL": "",
                "VAR_DIR": str(self.var),
                "SANDBOX": "0",
                "LOG_LEVEL": "WARNING",
                "LOG_FORMAT": "json",
                "RATE_LIMIT": "10000000/60",
                "DEFAULT_FROM_EMAIL": "notifications@example.com",
                "PYTHONWARNINGS": "ignore",
            }
        )


def manage(servers: Servers, *arguments: str, database: str = TEMPLATE, **settings: Any) -> str:
    """`manage.py ...`; returns what it printed. Raises CalledProcessError."""
    environment = servers.environment(database) | as_environment(settings)
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return done.stdout


def as_environment(settings: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items()}


class Vendors:
    """The process with the fake vendors, and how to tell it what to do. They report to the web at `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "drills.vendor", str(folder), url], cwd=ROOT, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.ports: dict[str, int] = json.loads(self._process.stdout.readline())
        self._control = socket.create_connection(("127.0.0.1", self.ports["control"]))
        self._answers = self._control.makefile("rb")

    def settings(self, email: str) -> dict[str, str]:
        """What makes `email` ("smtp" or "mailgun") carry e-mail, and Twilio SMS."""
        http = f"http://127.0.0.1:{self.ports['http']}"
        sms = {
            "TWILIO_ACCOUNT_SID": vendor.TWILIO_ACCOUNT,
            "TWILIO_AUTH_TOKEN": vendor.TWILIO_TOKEN,
            "TWILIO_FROM": vendor.TWILIO_FROM,
            "TWILIO_API_URL": http,
        }
        if email == "mailgun":
            return sms | {
                "MAILGUN_WEBHOOK_SIGNING_KEY": webhooks.MAILGUN_SIGNING_KEY,
                "MAILGUN_API_KEY": vendor.MAILGUN_KEY,
                "MAILGUN_DOMAIN": vendor.MAILGUN_DOMAIN,
                "MAILGUN_API_URL": f"{http}/v3",
            }
        log_in = f"{vendor.USERNAME}:{vendor.PASSWORD}"
        return sms | {"EMAIL_URL": f"smtp://{log_in}@127.0.0.1:{self.ports['smtp']}"}

    def tell(self, **behaviours: Behaviour) -> None:
        """From now on behave like this: `tell(smtp=Behaviour("refuse", code=451))`."""
        self._ask(behaviours, {})

    def report(self, **reports: Reports) -> None:
        """From now on report this of what they take: `report(twilio=Reports("delivered"))`."""
        self._ask({}, reports)

    @property
    def accepted(self) -> int:
        """Copies taken so far, by all vendors."""
        return self._ask({}, {})["accepted"]

    @property
    def open_calls(self) -> int:
        """Messages that have come in and are not decided about."""
        return self._ask({}, {})["open_calls"]

    @property
    def open_reports(self) -> int:
        """Webhooks that are still to be told, or were not answered with 2xx yet."""
        return self._ask({}, {})["open_reports"]

    def _ask(self, behaviours: dict[str, Behaviour], reports: dict[str, Reports]) -> dict[str, int]:
        self._control.sendall(vendor.as_json(behaviours, reports))
        state: dict[str, int] = json.loads(self._answers.readline())
        return state

    def stop(self) -> None:
        self._answers.close()
        self._control.close()
        self._process.terminate()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait(timeout=STOPS_WITHIN)


class Stack:
    """`with Stack(...) as stack:`; every process of it ends with the block.

    `settings` become environment variables of web and workers, on top of SHORT.
    """

    def __init__(
        self, servers: Servers, name: str, *, email: str = "smtp", **settings: Any
    ) -> None:
        self.servers = servers
        self.folder = servers.var / "drills" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        self.database = f"drill_{name.replace('-', '_')}"
        servers.postgres.create_database(self.database, TEMPLATE)
        servers.valkey.client().flushall()
        # Chosen before the web starts: the vendors are told of it, and so is whoever sends through them.
        self.port = _free_port()
        self.vendors = Vendors(self.folder, self.url)
        self.settings = as_environment(
            SHORT | {"PUBLIC_URL": self.url} | self.vendors.settings(email) | settings
        )
        self.processes: list[Process] = []
        self._supervisor = Supervisor(self.processes)
        self._supervisor.start()
        self._loads = self._storms = 0
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._supervisor.end()
        for process in self.processes:
            process.revived = False
            process.thaw()
            process._process.terminate()
        for process in self.processes:
            process.wait_or_kill()
        self.vendors.stop()
        if self._connection:
            self._connection.close()

    # -- processes --------------------------------------------------------------------------------------

    def start(self, name: str, *command: str, revived: bool = True, **settings: Any) -> Process:
        """Any program of the virtual environment, with the stack's environment."""
        environment = self.servers.environment(self.database) | self.settings
        process = Process(
            name,
            [str(BIN / command[0]), *command[1:]],
            environment | as_environment(settings),
            self.folder / f"{name}.log",
            revived=revived,
        )
        self.processes.append(process)
        return process

    def web(self, *, await_it: bool = True) -> Process:
        """The API, as script/server runs it."""
        process = self.start(
            "web", "granian", "--interface", "wsgi", "--workers", "2", "--blocking-threads", "4",
            "--no-ws", "--respawn-failed-workers", "--workers-kill-timeout", "10",
            "--host", "127.0.0.1", "--port", str(self.port), "notifyproj.wsgi:application",
        )  # fmt: skip
        if await_it:
            self.await_web()
        return process

    def await_web(self) -> None:
        wait_until(lambda: _is_ready(self.url), 60, "web does not answer")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def worker(
        self, name: str, queues: str = ALL_QUEUES, *, app: str = "notifyproj", revived: bool = True,
        **settings: Any,
    ) -> Process:  # fmt: skip
        """A Celery worker, as script/server runs it. `app`: drills.faults or drills.broken for its faults."""
        return self.start(
            name, "celery", "--quiet", "-A", app, "worker", "-Q", queues, "-n", f"{name}@drills",
            "--without-gossip", "--without-mingle", "-l", "WARNING", revived=revived, **settings,
        )  # fmt: skip

    def beat(self, name: str = "beat") -> Process:
        schedule = str(self.folder / f"{name}-schedule")
        return self.start(name, "celery", "--quiet", "-A", "notifyproj", "beat", "-s", schedule)

    def manage(self, *arguments: str, **settings: Any) -> str:
        """`manage.py ...` on the drill's database, with the stack's settings."""
        return manage(
            self.servers, *arguments, database=self.database, **(self.settings | settings)
        )

    def await_workers(self, *workers: Process, seconds: float = 60) -> None:
        """Until each of them sweeps, and so has started."""
        pids = {str(worker.pid) for worker in workers}

        def have_started() -> bool:
            seen = self.query("SELECT name FROM notifications_heartbeat WHERE kind = 'worker'")
            return pids <= {name.rpartition(" ")[2] for (name,) in seen}

        wait_until(have_started, seconds, "a worker does not start")

    # -- clients ----------------------------------------------------------------------------------------

    def post(self, **load: Any) -> Process:
        """Start clients that post; `load`: the fields of clients.Load. `.wait(seconds)` or `.stop()` ends them."""
        self._loads += 1
        record = self.folder / f"clients-{self._loads}.jsonl"
        spec = clients.Load(url=self.url, key=self.servers.key, record=str(record), **load)
        arguments = json.dumps({name: getattr(spec, name) for name in spec.__slots__})
        return self.start(
            f"clients-{self._loads}", "python", "-m", "drills.clients", arguments, revived=False
        )

    def post_and_wait(self, count: int, *, seconds: float = 300, **load: Any) -> None:
        """Post so many and wait until all are answered."""
        self.post(count=count, **load).wait(seconds)

    def storm(self, events: list[tuple[str, dict[str, Any]]], **storm: Any) -> Process:
        """Start telling these events of Mailgun, each beside its ref; `storm`: the other fields of webhooks.Storm."""
        self._storms += 1
        name = f"webhooks-{self._storms}"
        file = self.folder / f"{name}.events"
        file.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        arguments = {"url": self.url, "record": str(self.folder / f"{name}.jsonl")}
        spec = json.dumps(arguments | {"events": str(file)} | storm)
        return self.start(name, "python", "-m", "drills.webhooks", spec, revived=False)

    # -- what can be seen -------------------------------------------------------------------------------

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the drill's database. Connects anew when the connection was lost."""
        for again in (True, False):
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self.servers.postgres.connect(self.database)
                cursor = self._connection.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if self._connection is not None:
                    self._connection.close()
                if not again:
                    raise
        raise AssertionError

    def count(self, condition: str = "true") -> int:
        """Notifications for which the SQL condition holds."""
        [(count,)] = self.query(
            f"SELECT count(*) FROM notifications_notification WHERE {condition}"
        )
        return int(count)

    def await_accepted(self, number: int, seconds: float = 120) -> float:
        """Until the vendors have taken so many. Returns the seconds. Raises TimeoutError."""
        sentence = f"the vendors have not taken {number}"
        return wait_until(lambda: self.vendors.accepted >= number, seconds, sentence)

    def wait_until_quiet(self, seconds: float = 120) -> float:
        """Until nothing waits, is being sent, or is `unknown` with a review to come. Returns the seconds.

        Comes back after `seconds` in any case: what is then still open, the judge calls stuck.
        """
        began = time.monotonic()
        while time.monotonic() - began < seconds and self.count(_UNFINISHED):
            time.sleep(0.25)
        return time.monotonic() - began

    def await_receipts(self, seconds: float = 120) -> float:
        """Until the vendors have told all, and all of it is applied. Returns the seconds. Raises TimeoutError."""
        return wait_until(
            lambda: not self.vendors.open_reports and not self.query(_UNAPPLIED),
            seconds,
            "not all receipts are told and applied",
        )

    def judge(self, *, ends: Collection[str] = (), may_fail: Collection[str] = ()) -> Verdict:
        """The verdict over all that has happened in this stack. End the clients first: they write at their end.

        `may_fail`: refs that the drill itself makes fail, on top of those that a vendor refused.
        """
        calls = evidence.calls(self.folder)
        with self.servers.postgres.connect(self.database) as connection:
            return judge(
                evidence.answers(self.folder),
                evidence.ledger(self.folder),
                evidence.rows(connection),
                evidence.changes(connection),
                refused={call.ref for call in calls if call.refused_for_good} | set(may_fail),
                ends=ends,
                bounced=evidence.bounced(self.folder),
            )

    def breaches(self) -> list[str]:
        """What `manage.py doctor` has to say against the ledger: its invariants, as operators run them."""
        done = subprocess.run(
            [sys.executable, "manage.py", "doctor", "--json"],
            cwd=ROOT, env=self.servers.environment(self.database) | self.settings,
            stdout=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
        findings = json.loads(done.stdout)["findings"]
        return [
            f"{found['code']}: {found['detail']}"
            for found in findings
            if found["component"] == "ledger" and found["severity"] != "ok"
        ]

    @property
    def answers(self) -> list[Answer]:
        return evidence.answers(self.folder)

    @property
    def calls(self) -> list[evidence.Call]:
        return evidence.calls(self.folder)

    @property
    def webhooks(self) -> list[evidence.Told]:
        return evidence.webhooks(self.folder)


_UNAPPLIED = "SELECT 1 FROM notifications_receipt WHERE applied_at IS NULL LIMIT 1"
_UNFINISHED = "status IN ('pending', 'sending') OR (status = 'unknown' AND review_at IS NOT NULL)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
