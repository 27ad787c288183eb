"""The files for Docker and supervisord, as far as they can be checked without either running."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from celery.bin.celery import celery
from django.core.management import get_commands
from granian.cli import cli as granian
from supervisor.options import ServerOptions

from notifyproj.broker import QUEUES

CHECKOUT = Path(__file__).resolve().parent.parent
APPLICATIONS = {
    "wsgi": "notifyproj.wsgi:application",
    "asgi": "notifications.streaming.app:application",
}
LONG_RUNNING = ("web", "stream", "worker-urgent", "worker-bulk", "beat")


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    content = yaml.safe_load((CHECKOUT / name).read_text())
    assert isinstance(content, dict)
    return content


SERVICES = compose()["services"]
OVERRIDE = compose("docker-compose.override.yml")["services"]


def supervised() -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(CHECKOUT / "script" / "supervisord.conf")
    sections = {name.partition(":")[::2]: dict(parser[name]) for name in parser.sections()}
    return {name: section for (kind, name), section in sections.items() if kind == "program"}


def commands() -> dict[str, str]:
    """Every command line that one of the files names, by where it stands."""
    image = next(
        line.removeprefix("CMD ")
        for line in (CHECKOUT / "Dockerfile").read_text().splitlines()
        if line.startswith("CMD ")
    )
    return {
        **{f"compose {n}": SERVICES[n]["command"] for n in (*LONG_RUNNING, "migrate")},
        **{f"override {n}": s["command"] for n, s in OVERRIDE.items() if "command" in s},
        **{f"supervisord {name}": program["command"] for name, program in supervised().items()},
        "Dockerfile": shlex.join(yaml.safe_load(image)),
    }


def test_production_has_every_process_and_both_services() -> None:
    assert set(SERVICES) == {*LONG_RUNNING, "migrate", "postgres", "redis"}
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["redis"]["image"] == "redis:8"
    assert all(
        SERVICES[name]["environment"]["ENVIRONMENT"] == "production" for name in LONG_RUNNING
    )


def test_nothing_starts_before_the_migrations_and_those_not_before_the_database() -> None:
    for name in LONG_RUNNING:
        after = SERVICES[name]["depends_on"]["migrate"]["condition"]
        assert after == "service_completed_successfully"
    assert SERVICES["migrate"]["command"] == "python manage.py migrate"
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_health_is_asked_of_the_web_and_of_both_services() -> None:
    assert "/readyz" in SERVICES["web"]["healthcheck"]["test"][-1]
    compile(SERVICES["web"]["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"]
    assert "redis-cli" in SERVICES["redis"]["healthcheck"]["test"]


def test_a_worker_has_at_least_75_seconds_to_stop() -> None:
    for name in LONG_RUNNING:
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 75
        assert int(supervised()[name]["stopwaitsecs"]) >= 75


def test_what_must_outlive_a_container_lies_in_a_volume() -> None:
    volumes = compose()["volumes"]
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {mount.partition(":")[0] for mount in mounts} == set(volumes)
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]


def test_only_loopback_of_the_machine_reaches_a_published_port() -> None:
    for service in (*SERVICES.values(), *OVERRIDE.values()):
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_development_mounts_the_code_and_sends_mail_to_mailpit() -> None:
    for name in (*LONG_RUNNING, "migrate"):
        assert OVERRIDE[name]["environment"]["ENVIRONMENT"] == "development"
        assert OVERRIDE[name]["environment"]["EMAIL_URL"] == "smtp://mailpit:1025"
        assert ".:/app:ro" in OVERRIDE[name]["volumes"]
    assert OVERRIDE["mailpit"]["image"].startswith("axllent/mailpit")


def test_supervisord_understands_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").mkdir()
    place = {"HOST": "127.0.0.1", "PORT": "8000", "STREAM_PORT": "8010"}
    for name, value in {"VAR_DIR": str(tmp_path), **place}.items():
        monkeypatch.setenv(name, value)
    options = ServerOptions()
    options.realize(["-c", str(CHECKOUT / "script" / "supervisord.conf")])
    (group,) = options.process_group_configs
    assert {process.name for process in group.process_configs} == set(LONG_RUNNING)
    assert all(process.autorestart for process in group.process_configs)


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_script_server_and_compose_run_the_same_command(name: str) -> None:
    def without_place(command: str) -> list[str]:
        words = shlex.split(command.replace("%%", "%"))
        for option in ("--host", "--port"):
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
        return [Path(words[0]).name, *words[1:]]

    ours = without_place(supervised()[name]["command"])
    assert ours == without_place(SERVICES[name]["command"])
    if name == "web":
        assert ours == without_place(commands()["Dockerfile"])


@pytest.mark.parametrize("where", commands())
def test_every_command_exists_with_the_options_it_is_given(where: str) -> None:
    program, *words = shlex.split(commands()[where])
    match Path(program).name:
        case "granian":
            given, _ = parse(granian, words)
            interface = given["interface"]
            assert given["app"] == APPLICATIONS[interface]
        case "celery":
            given, (name, *rest) = parse(celery, words)
            assert given["app"] == "notifyproj"
            assert parse(celery.commands[name], rest)[1] == []
        case "python":
            assert words[0] == "manage.py"
            assert words[1] in get_commands()
        case other:
            pytest.fail(f"Nobody here knows the program {other}.")


def parse(command: click.Command, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options and what is left after them; click raises for an option that does not exist."""
    given, left, _ = command.make_parser(click.Context(command)).parse_args(words)
    return dict(given), left


def test_each_queue_has_exactly_one_kind_of_worker() -> None:
    consumed = [
        queue
        for name in LONG_RUNNING
        if (found := re.search(r" -Q (\S+)", SERVICES[name]["command"]))
        for queue in found[1].split(",")
    ]
    assert sorted(consumed) == sorted(QUEUES)


def test_the_example_environment_names_only_variables_that_something_reads() -> None:
    settings = (CHECKOUT / "notifyproj" / "settings.py").read_text()
    serve = (CHECKOUT / "notifyproj" / "serve.py").read_text()
    known = {
        *re.findall(r'(?:env\.\w+|_required_in_production)\(\s*"([A-Z_]+)"', settings),
        *re.findall(r'environ\.get\("([A-Z_]+)"', serve),
        *re.findall(r"\$\{([A-Z_]+)", (CHECKOUT / "docker-compose.yml").read_text()),
    }
    example = (CHECKOUT / ".env.example").read_text()
    named = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    assert set(named) - known == set()
    assert len(named) == len(set(named))
    required = set(re.findall(r'_required_in_production\("([A-Z_]+)"', settings))
    assert required <= set(named)


def test_the_example_environment_sets_nothing_when_it_is_copied_as_it_is() -> None:
    lines = (CHECKOUT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
