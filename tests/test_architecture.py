"""Who may import whom (DESIGN.md, section 4), where work is consumed, and how long a function may be."""

from __future__ import annotations

import ast
import configparser
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from celery import current_app

from notifyproj.broker import QUEUES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("notifyproj", "notifications", "users")
SUPERVISOR = ROOT / "script" / "supervisord.conf"


def modules() -> dict[str, Path]:
    """Dotted name -> file, of all our modules but the migrations."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts
    }


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(name: str) -> set[str]:
    """What a module imports, also inside functions, by the most exact name that is a module of ours."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                exact = f"{node.module}.{alias.name}"
                found.add(exact if exact in MODULES else node.module)
    return found


def is_within(name: str, *places: str) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def within(*places: str) -> list[str]:
    chosen = [name for name in MODULES if is_within(name, *places)]
    assert chosen, f"there is no {' or '.join(places)} any more"
    return chosen


# --- Who may import whom --------------------------------------------------------------------------

ENGINE = (
    "notifications.circuits",
    "notifications.delivery",
    "notifications.queue",
    "notifications.slots",
    "notifications.sweeping",
    "notifications.tasks",
    "notifications.watchdog",
    "notifications.worker",
)
#: What is at the edge: it may call the flows, and not the engine beneath them.
EDGE = (
    "notifications.api",
    "notifications.views",
    "notifications.admin",
    "notifications.management",
    "notifications.playground",
)

FORBIDDEN = [
    ("notifications.providers", ("celery", "kombu", "users", "notifyproj"), ""),
    ("notifications.providers", ("notifications",), "notifications.providers"),
    ("users", ("notifications",), ""),
    ("users", ("notifyproj",), ""),
    ("notifications.models", ("notifications", "celery", "kombu", "redis"), ""),
    ("notifications.rendering", ("django", "celery", "users"), ""),
    ("notifications.retry", ("django", "celery", "users", "time", "random"), ""),
    ("notifications.intake", ENGINE, ""),
    ("notifications.changes", ENGINE, ""),
    ("notifications.delivery", ("notifications.intake", "notifications.changes", "celery"), ""),
    ("notifications.delivery", ("notifications.api", "notifications.views"), ""),
    ("notifications.queue", ("celery", "notifications.providers"), ""),
    ("notifications.circuits", ("celery",), ""),
    ("notifications.slots", ("celery", "django"), ""),
    ("notifications.watchdog", ("celery", "django"), ""),
    ("notifications.health", ENGINE, ""),
    ("notifications.circumstances", (*ENGINE, "celery"), ""),
    ("notifications.rehearsing", (*ENGINE, "celery"), ""),
    *((place, (*ENGINE, "celery"), "") for place in EDGE),
    # But for the words in which receipts are told.
    (
        "notifications.api",
        ("notifications.waking", "notifications.providers"),
        "notifications.providers.events",
    ),
    ("notifications.hooks", (*ENGINE, "celery", "notifications.models"), ""),
    ("notifications.receipts", ("notifications.delivery", "notifications.queue", "celery"), ""),
    ("notifications.suppressions", (*ENGINE, "celery"), ""),
    ("notifications.pausing", (*ENGINE, "celery"), ""),
    ("notifications.inbox", (*ENGINE, "celery", "notifications.api", "notifications.intake"), ""),
    # Of the API, how it refuses and writes JSON.
    (
        "notifications.streaming",
        (*ENGINE, "celery", "notifications.intake", "notifications.changes"),
        "",
    ),
    ("notifications.admin.chart", ("django", "notifications"), ""),
    ("notifications.admin.headline", ("django",), ""),
    ("notifications.playground.curl", ("django", "notifications", "users"), ""),
]


#: `manage.py drain` is a worker for once, for when there is none: the one command that drives the engine itself.
IS_A_WORKER = {
    ("notifications.management.commands.drain", "notifications.delivery"),
    ("notifications.management.commands.drain", "notifications.sweeping"),
}


@pytest.mark.parametrize(
    ("place", "forbidden", "but"), FORBIDDEN, ids=[f"{f[0]} not {f[1][0]}" for f in FORBIDDEN]
)
def test_a_place_imports_nothing_that_it_must_not_know(
    place: str, forbidden: tuple[str, ...], but: str
) -> None:
    for name in within(place):
        for imported in imports(name):
            allowed = (but and is_within(imported, but)) or (name, imported) in IS_A_WORKER
            assert allowed or not is_within(imported, *forbidden), f"{name} imports {imported}"


def test_providers_know_no_model() -> None:
    for name in within("notifications.providers"):
        assert not any("models" in imported for imported in imports(name)), name
        assert "django.db" not in imports(name), name


def test_models_neither_enqueue_nor_send() -> None:
    for name in ("notifications.models", "users.models"):
        for node in ast.walk(TREES[name]):
            overrides = isinstance(node, ast.FunctionDef) and node.name in {"save", "delete"}
            assert not overrides, f"{name} has side effects in {getattr(node, 'name', '')}()"
    signals = "django.db.models.signals"
    for name in set(MODULES) - {"notifications.apps"}:  # its post_migrate makes the groups of staff
        assert signals not in imports(name), f"{name} hides what happens in a signal"


def test_nothing_imports_the_tests() -> None:
    for name in MODULES:
        assert not any(is_within(imported, "tests") for imported in imports(name)), name


def test_no_two_of_our_modules_import_each_other_when_they_are_loaded() -> None:
    graph = {name: set(_at_load(name)) & set(MODULES) - {name} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _at_load(name: str) -> Iterator[str]:
    """Imports outside functions, which happen when the module is loaded."""
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                exact = f"{node.module}.{alias.name}"
                yield exact if exact in MODULES else node.module


# --- Names ----------------------------------------------------------------------------------------


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "common", "services", "misc", "lib", "tools"}
    for name in MODULES:
        assert not drawers & set(name.split(".")), name


def test_every_module_says_what_it_is_for() -> None:
    for name, tree in TREES.items():
        if tree.body and not name.endswith(".apps"):
            assert ast.get_docstring(tree), f"{name} has no docstring"


# --- Celery ---------------------------------------------------------------------------------------


def consumed() -> set[str]:
    """The queues that script/supervisord.conf's workers consume."""
    config = configparser.RawConfigParser(interpolation=None)
    config.read(SUPERVISOR)
    queues: set[str] = set()
    for section in config.sections():
        words = shlex.split(config.get(section, "command", fallback=""))
        if "worker" in words:
            queues |= set(words[words.index("-Q") + 1].split(","))
    return queues


def test_every_queue_is_consumed_by_a_worker() -> None:
    assert consumed() == set(QUEUES)


def test_every_task_goes_to_a_queue_that_a_worker_consumes() -> None:
    from notifications.models import LANES, queue_of

    current_app.loader.import_default_modules()
    ours = [task for name, task in current_app.tasks.items() if name.startswith("notifications")]
    assert ours
    default = current_app.conf.task_default_queue
    for task in ours:
        assert (getattr(task, "queue", None) or default) in consumed(), task.name
    assert {queue_of(lane) for lane in LANES} <= consumed()
    for entry in current_app.conf.beat_schedule.values():
        assert entry["task"] in current_app.tasks
        assert entry.get("options", {}).get("queue", default) in consumed()


# --- Length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    """From `def` to the last line, without the docstring."""
    lengths = sorted(
        (_length(node), f"{name}.{node.name}")
        for name in within(package)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    numbers = [length for length, _ in lengths]
    assert median(numbers) < 10
    assert sum(number < 35 for number in numbers) >= 0.9 * len(numbers), lengths[-10:]


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines
