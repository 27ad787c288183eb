"""The embedded servers, with real processes that start, join, die and leave. No Django here."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from notifyproj import embedded

CHECKOUT = Path(__file__).resolve().parent.parent
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can change to another account")

#: Joins, says where the servers are, and stays until its standard input ends. It loads the module
#: from its file: the package would bring Celery along, which these many processes need not wait for.
PERSON = """
import importlib.util, json, os, pathlib, sys
spec = importlib.util.spec_from_file_location("embedded", sys.argv[1])
embedded = sys.modules["embedded"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(embedded)
var = pathlib.Path(sys.argv[2])
try:
    postgres, valkey = embedded.postgres(var), embedded.valkey(var)
except embedded.EmbeddedError as error:
    sys.exit(str(error))
if "fork" in sys.argv and os.fork() > 0:
    os._exit(0)
print(json.dumps([postgres.socket_dir, str(valkey)]), flush=True)
sys.stdin.read()
"""


class Person:
    """A process that uses the embedded servers of a var folder until it leaves or is killed."""

    def __init__(self, var: Path, *words: str, user: str | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PERSON, embedded.__file__, str(var), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )

    def arrived(self) -> Person:
        """Wait until it uses the servers."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.last_words()
        self.socket_dir, self.valkey = json.loads(line)
        return self

    def leave(self) -> str:
        """Let it end as a program ends; returns what it said on standard error."""
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said

    def last_words(self) -> str:
        _, said = self.process.communicate(timeout=60)
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(
            host=self.socket_dir, port=5432, user="postgres", dbname="notifyproj", autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def servers(var: Path) -> dict[str, psutil.Process]:
    """The servers that run in a var folder, found without the module under test."""
    found = {}
    for process in psutil.process_iter(["name", "cwd", "cmdline"]):
        home = (process.info["cwd"] or "").removesuffix(" (deleted)")
        title = (process.info["cmdline"] or [""])[0]
        if home in {str(var / "postgres"), str(var / "valkey")} and title.startswith("/"):
            found[process.info["name"]] = process
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account may pass through; no server of it runs afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="notifyproj-test-")).resolve()
    folder.chmod(0o755)
    yield folder
    for var in {path.parent for path in folder.rglob("embedded.lock")} | {folder / "var"}:
        for process in servers(var).values():
            process.send_signal(signal.SIGQUIT if process.name() == "postgres" else signal.SIGKILL)
        if (var / "run.elsewhere").is_symlink():
            shutil.rmtree((var / "run.elsewhere").resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def var(place: Path) -> Path:
    return place / "var"


@pytest.fixture
def join(var: Path) -> Iterator[Callable[..., Person]]:
    """Make persons; those that still live at the end of the test are killed."""
    people: list[Person] = []

    def make(where: Path = var, *words: str, user: str | None = None) -> Person:
        people.append(Person(where, *words, user=user))
        return people[-1]

    yield make
    for person in people:
        if person.process.poll() is None:
            person.kill()


Join = Callable[..., Person]


def test_the_second_process_joins_the_servers_of_the_first_and_the_last_one_stops_them(
    join: Join, var: Path
) -> None:
    first = join().arrived()
    running = servers(var)
    assert set(running) == {"postgres", "valkey-server"}
    second = join().arrived()
    assert servers(var) == running

    said = first.leave()
    assert "Started the embedded PostgreSQL 18" in said
    assert "Started the embedded Valkey 9" in said
    assert servers(var) == running, "stopped while somebody else used them"

    assert "Stopped the embedded PostgreSQL 18 and Valkey 9." in second.leave()
    assert servers(var) == {}


def test_processes_that_start_at_the_same_moment_share_one_server(join: Join, var: Path) -> None:
    people = [join() for _ in range(4)]
    for person in people:
        person.arrived()
    said = "".join(person.leave() for person in people)
    assert said.count("Started the embedded PostgreSQL") == 1
    assert said.count("Started the embedded Valkey") == 1
    assert servers(var) == {}


def test_the_servers_outlive_a_kill_of_whoever_started_them(join: Join, var: Path) -> None:
    starter = join().arrived()
    running = servers(var)
    starter.kill()
    heir = join().arrived()
    assert servers(var) == running
    assert heir.query("SELECT 1") == [(1,)]
    heir.leave()
    assert servers(var) == {}, "a killed process still counted as a user"


def test_ctrl_c_in_the_terminal_of_the_starter_does_not_reach_the_servers(
    join: Join, var: Path
) -> None:
    starter = join().arrived()
    other = join().arrived()
    running = servers(var)
    os.killpg(starter.process.pid, signal.SIGINT)
    starter.process.communicate()
    assert servers(var) == running
    assert other.query("SELECT 1") == [(1,)]


def test_a_forked_child_keeps_the_servers_when_its_parent_has_left(join: Join, var: Path) -> None:
    child = join(var, "fork").arrived()
    child.process.wait(10)  # The parent is gone; its child holds the pipes.
    join().arrived().leave()
    assert child.query("SELECT 1") == [(1,)]
    child.leave()
    deadline = time.monotonic() + 10
    while servers(var) and time.monotonic() < deadline:
        time.sleep(0.05)  # The pipes close before the last words of the child's interpreter.
    assert servers(var) == {}


def test_a_process_manager_revives_a_server_that_died_and_leaves_the_other_alone(
    var: Path, place: Path
) -> None:
    embedded.postgres(var)
    embedded.valkey(var)
    before = servers(var)
    before["postgres"].kill()
    while embedded._accepts(var / "run" / ".s.PGSQL.5432"):
        time.sleep(0.01)
    embedded.revive()
    after = servers(var)
    assert after["postgres"] != before["postgres"]
    assert after["valkey-server"] == before["valkey-server"]
    assert embedded.stop_unused(var)
    assert servers(var) == {}


def test_what_was_committed_outlives_a_kill_of_both_servers(join: Join, var: Path) -> None:
    person = join().arrived()
    person.query("CREATE TABLE kept AS SELECT 42 AS answer")
    for process in servers(var).values():
        process.kill()
    heir = join().arrived()
    assert heir.query("SELECT answer FROM kept") == [(42,)]


def test_the_number_of_a_living_stranger_in_the_pid_files_does_not_prevent_a_start(
    join: Join, var: Path
) -> None:
    join().arrived().leave()
    owner = (var / "postgres").stat().st_uid
    stranger = subprocess.Popen(["sleep", "60"], user=owner if AS_ROOT else None, cwd="/")
    try:
        lines = f"{stranger.pid}\n{var / 'postgres'}\n1\n5432\n{var / 'run'}\n\n  1  1\nready   \n"
        for path in (var / "postgres/postmaster.pid", var / "run/.s.PGSQL.5432.lock"):
            path.write_text(lines)
            os.chown(path, owner, -1)
        (var / "run/.s.PGSQL.5432").touch()
        (var / "run/valkey.sock").touch()
        assert join().arrived().query("SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", ["", "\x00\x00\x00", "not a number\n"])
def test_a_pid_file_that_a_power_loss_left_broken_does_not_prevent_a_start(
    content: str, join: Join, var: Path
) -> None:
    join().arrived().leave()
    (var / "postgres/postmaster.pid").write_text(content)
    assert join().arrived().query("SELECT 1") == [(1,)]


def test_an_interrupted_first_start_is_begun_anew(join: Join, var: Path) -> None:
    (var / "postgres.new" / "base").mkdir(parents=True)
    (var / "postgres.new").chmod(0o700)
    if AS_ROOT:
        shutil.chown(var / "postgres.new", "nobody")
    assert join().arrived().query("SELECT 1") == [(1,)]
    assert not (var / "postgres.new").exists()


def test_a_database_that_was_dropped_is_made_again(join: Join, var: Path) -> None:
    person = join().arrived()
    with psycopg.connect(
        host=person.socket_dir, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute("DROP DATABASE notifyproj")
    assert join().arrived().query("SELECT 1") == [(1,)]


def test_removing_the_folder_under_running_servers_lets_the_next_start_begin_anew(
    join: Join, var: Path
) -> None:
    early = join().arrived()
    old = servers(var)
    shutil.rmtree(var)
    late = join().arrived()
    assert late.query("SELECT 1") == [(1,)]
    assert old["valkey-server"] not in psutil.process_iter() or (
        old["valkey-server"].status() == psutil.STATUS_ZOMBIE
    )
    early.leave()
    assert late.query("SELECT 1") == [(1,)], "a user of the removed servers stopped the new ones"
    late.leave()


@pytest.mark.parametrize(
    "name", ["d" * 70 + "/" + "e" * 70 + "/" + "f" * 70, "a space, a comma and an é"]
)
def test_a_path_that_does_not_suit_a_socket_gets_its_sockets_elsewhere(
    name: str, join: Join, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var = place / name / "var"
    first = join(var).arrived()
    assert not first.socket_dir.startswith(str(place))
    assert Path(first.socket_dir).stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("TMPDIR", str(place))
    second = join(var).arrived()
    assert (second.socket_dir, second.valkey) == (first.socket_dir, first.valkey)
    first.leave()
    second.leave()
    assert not Path(first.socket_dir).exists()


def test_a_copy_of_a_deep_clone_does_not_join_the_servers_of_the_original(
    join: Join, place: Path
) -> None:
    original, copy = place / ("d" * 120) / "var", place / ("e" * 120) / "var"
    first = join(original).arrived()
    copy.mkdir(parents=True)
    (copy / "run.elsewhere").symlink_to((original / "run.elsewhere").readlink())
    assert join(copy).arrived().socket_dir != first.socket_dir


def test_data_of_another_version_is_left_alone_and_named(join: Join, var: Path) -> None:
    join().arrived().leave()
    (var / "postgres/PG_VERSION").write_text("17\n")
    person = join()
    assert "was made by PostgreSQL 17" in person.last_words()
    assert person.process.returncode == 1


def test_the_command_line_tells_who_uses_the_servers_and_stops_them_afterwards(
    join: Join, var: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = join().arrived()
    assert embedded.main(["status", "--var", str(var)]) == 0
    assert embedded.main(["stop", "--var", str(var)]) == 1
    said = capsys.readouterr().out
    assert "PostgreSQL 18: answers at" in said
    assert f"Not stopped: in use by {person.process.pid} " in said
    person.kill()
    assert embedded.main(["stop", "--var", str(var)]) == 0
    assert embedded.main(["status", "--var", str(var)]) == 1
    assert servers(var) == {}


def test_the_command_line_starts_nothing(place: Path) -> None:
    for command in ("status", "stop"):
        done = subprocess.run(
            [sys.executable, "-m", "notifyproj.embedded", command],
            cwd=CHECKOUT,
            env=os.environ | {"VAR_DIR": str(place / "var")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Started" not in done.stderr, done.stderr
    assert not (place / "var").exists()


# --- Accounts ---------------------------------------------------------------------------------------


@needs_root
def test_root_runs_the_servers_as_nobody_who_may_pass_but_not_look(join: Join, place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    person = join(closed / "var").arrived()
    assert {process.username() for process in servers(closed / "var").values()} == {"nobody"}
    assert closed.stat().st_mode & 0o777 == 0o701
    assert (closed / "var" / "postgres").stat().st_mode & 0o777 == 0o700
    assert f"Let the account nobody pass through {closed}" in person.leave()


@pytest.fixture
def reachable_python() -> None:
    """An ordinary user may reach the interpreter and the checkout, wherever they lie."""
    account = embedded._Account(*pwd.getpwnam("nobody")[2:4], is_another=True)
    for path in (embedded.__file__, sys.executable, os.path.realpath(sys.executable)):
        account.let_through(Path(path))


@needs_root
@pytest.mark.usefixtures("reachable_python")
def test_an_ordinary_user_runs_the_servers_as_themselves_and_root_joins(
    join: Join, place: Path
) -> None:
    account = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, account.pw_uid, account.pw_gid)
    person = join(home / "var", user="nobody").arrived()
    running = servers(home / "var")
    assert {process.username() for process in running.values()} == {"nobody"}
    join(home / "var").arrived().leave()
    assert servers(home / "var") == running
    assert person.query("SELECT 1") == [(1,)]


@needs_root
@pytest.mark.usefixtures("reachable_python")
@pytest.mark.parametrize("what", ["the folder above", "a var folder of root"])
def test_a_folder_of_somebody_else_is_refused_with_a_sentence(
    what: str, join: Join, var: Path
) -> None:
    if what == "a var folder of root":
        join().arrived().leave()
    person = join(user="nobody")
    said = person.last_words()
    assert person.process.returncode == 1
    assert "belongs to root" in said
    assert "VAR_DIR" in said
    assert "Traceback" not in said


# --- Settings ---------------------------------------------------------------------------------------

SETTINGS = """
import sys
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
try:
    settings.DATABASES
except ImproperlyConfigured as error:
    print(error)
print("notifyproj.embedded" in sys.modules)
"""


def load_settings(place: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    settings = {"DJANGO_SETTINGS_MODULE": "notifyproj.settings", "VAR_DIR": str(place / "var")}
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        cwd=CHECKOUT,
        env=clean | settings | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


SERVICES = {
    "DATABASE_URL": "postgres://user:secret@127.0.0.1:1/notifyproj",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}
SECRETS = {"SECRET_KEY": "s" * 60, "ALLOWED_HOSTS": "example.com"}


def test_nothing_embedded_is_imported_where_both_services_are_named(place: Path) -> None:
    assert load_settings(place, **SERVICES) == "False\n"


@pytest.mark.parametrize("missing", ["DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS"])
def test_production_names_what_is_missing_and_starts_nothing(missing: str, place: Path) -> None:
    production = {"ENVIRONMENT": "production"} | SERVICES | SECRETS | {missing: ""}
    said = load_settings(place, **production)
    assert f"{missing} is not set" in said
    assert said.endswith("False\n")
    assert not (place / "var").exists()
