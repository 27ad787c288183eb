"""What the documents say can be looked up: variables, links, figures, calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from django.conf import settings
from django.urls import Resolver404, resolve

from notifications import hooks

ROOT: Path = settings.BASE_DIR
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CALL = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s]*)")
_OWN_HOSTS = {"127.0.0.1", "localhost", "notify.example.com"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def prose_of(document: Path) -> str:
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


# --- Variables ---------------------------------------------------------------------------------------


def variables_read_by_settings() -> set[str]:
    """Names given to `env.<type>(...)` and `_required_in_production(...)`."""
    tree = ast.parse((ROOT / "notifyproj" / "settings.py").read_text(encoding="utf-8"))
    return {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and _reads_the_environment(call.func)
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def _reads_the_environment(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "_required_in_production"
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "env"
    )


def variables_of_the_readme() -> list[str]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Configuration\n")[2]
    return re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", section.partition("\n## ")[0], re.MULTILINE)


def test_every_variable_is_in_the_readmes_table() -> None:
    assert "ENVIRONMENT" in variables_read_by_settings()
    assert variables_read_by_settings() - set(variables_of_the_readme()) == set()


def test_the_readmes_table_has_no_variable_that_nobody_reads() -> None:
    assert set(variables_of_the_readme()) - variables_read_by_settings() == set()


def test_no_variable_is_in_the_readmes_table_twice() -> None:
    names = variables_of_the_readme()
    assert sorted(names) == sorted(set(names))


# --- Links -------------------------------------------------------------------------------------------


def anchors_of(document: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    headings = re.findall(r"^#+ +(.+)$", prose_of(document), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in words}


@each_document
def test_relative_links_and_images_exist(document: Path) -> None:
    targets = [urlsplit(link) for link in _LINK.findall(prose_of(document))]
    relative = [target for target in targets if not target.scheme]
    missing = [
        target.path for target in relative if not (document.parent / target.path).resolve().exists()
    ]
    assert missing == []


@each_document
def test_links_to_headings_exist(document: Path) -> None:
    targets = [urlsplit(link) for link in _LINK.findall(prose_of(document))]
    dead = []
    for target in targets:
        page = (document.parent / target.path).resolve() if target.path else document
        if not target.scheme and target.fragment and target.fragment not in anchors_of(page):
            dead.append(target.geturl())
    assert dead == []


# --- Figures -----------------------------------------------------------------------------------------


@each_document
def test_every_figure_is_filled_in(document: Path) -> None:
    assert re.findall(r"TODO-FIGURE\(\w*\)?", document.read_text(encoding="utf-8")) == []


# --- Commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["web", "worker-urgent", "worker-bulk", "beat"])
def test_the_readme_starts_a_process_as_compose_does(service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    command = compose["services"][service]["command"].replace("0.0.0.0", "127.0.0.1")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    assert command in re.sub(r" +", " ", readme)


# --- Calls -------------------------------------------------------------------------------------------


def curled_paths(document: Path) -> Iterator[str]:
    for fence in _FENCE.findall(document.read_text(encoding="utf-8")):
        if "curl" not in fence:
            continue
        for address in re.findall(r"https?://[^\s\"'\\]+", fence):
            parts = urlsplit(address)
            if parts.hostname in _OWN_HOSTS:
                yield parts.path


def test_the_documents_show_calls_with_curl() -> None:
    assert [path for document in DOCUMENTS for path in curled_paths(document)]


@each_document
def test_paths_in_curl_examples_exist(document: Path) -> None:
    assert [path for path in curled_paths(document) if not _resolves(path)] == []


@each_document
def test_calls_named_in_the_text_exist(document: Path) -> None:
    calls = _CALL.findall(document.read_text(encoding="utf-8"))
    assert [call for call in calls if not _is_a_call(*call)] == []


def _is_a_call(method: str, path: str) -> bool:
    path = re.sub(r"<\w+>", "mailgun", path)
    if not _resolves(path):
        return False
    view = resolve(path).func
    # A viewset's view knows which methods it answers; the plain pages are all read.
    answered = {"post"} if view is hooks.receive else getattr(view, "actions", {"get"})
    return method.lower() in answered


def _resolves(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
