"""`python -m drills`: what can be said of it without running a drill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drills.__main__ import main
from drills.catalogue import all_drills
from drills.run import FAIL, Result, keep, kept_results
from notifyproj.settings import BASE_DIR


def drills(*arguments: str, var: Path) -> subprocess.CompletedProcess[str]:
    """`python -m drills ...` in a process of its own, which may start no server."""
    return subprocess.run(
        [sys.executable, "-m", "drills", *arguments],
        cwd=BASE_DIR,
        env=os.environ | {"VAR_DIR": str(var)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_list_names_every_drill_and_starts_nothing(tmp_path: Path) -> None:
    done = drills("list", var=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        drill.name for drill in all_drills()
    ]
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_is_an_error_that_says_where_to_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "no-such-drill"]) == 2
    assert "no-such-drill" in capsys.readouterr().out


def test_to_run_all_one_has_to_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "--all" in capsys.readouterr().out


def test_results_of_one_run_replace_those_of_the_same_drills_only(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    keep([Result("a", figures={"lost": 0}), Result("b")], file)
    keep([Result("b", outcome=FAIL, reason="lost 1")], file)
    assert {result.name: result.outcome for result in kept_results(file)} == {
        "a": "PASS",
        "b": "FAIL",
    }
    assert json.loads(file.read_text())[0]["figures"] == {"lost": 0}


def test_the_document_has_a_row_for_each_drill() -> None:
    document = (BASE_DIR / "docs" / "reliability.md").read_text(encoding="utf-8")
    for drill in all_drills():
        assert f"| `{drill.name}` | {drill.breaks} | {drill.holds} |" in document, drill.name
