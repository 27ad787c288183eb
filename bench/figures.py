"""What a benchmark returns: named figures. Printed as a table, kept as JSON, compared with another run's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: Name, with its unit, -> figure.
Figures = dict[str, float]


def table(figures: Figures) -> str:
    """A line for each figure; a grid where all are named `row: column`."""
    if all(": " in name for name in figures):
        return _grid(figures)
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_short(value):>10}" for name, value in figures.items())


def _grid(figures: Figures) -> str:
    cells = {tuple(name.split(": ")): _short(value) for name, value in figures.items()}
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = list(dict.fromkeys(row for row, _ in cells))
    widths = {column: max(len(column), 7) for column in columns}
    left = max(map(len, rows))
    head = " ".join([f"{'':<{left}}", *(f"{column:>{widths[column]}}" for column in columns)])
    lines = (
        " ".join(
            [f"{row:<{left}}", *(f"{cells[row, column]:>{widths[column]}}" for column in columns)]
        )
        for row in rows
    )
    return "\n".join([head, *lines])


def write(file: Path, name: str, figures: Figures) -> None:
    """The figures, and what one has to know to measure them again."""
    run = {
        "benchmark": name,
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "-s") else ""),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": {name: round(value, 4) for name, value in figures.items()},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(run, indent=1) + "\n")


def read(file: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(file.read_text())
    return run


def compared(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Both runs' figures, and the second's as a multiple of the first's."""
    runs = (one["figures"], other["figures"])
    names = list(runs[0] | runs[1])
    width = max(map(len, names))
    head = [
        f"{letter}: {run['command']}, commit {run['commit']}, {run['cores']} cores, {run['date']}"
        for letter, run in (("A", one), ("B", other))
    ]
    lines = [f"{'':<{width}}  {'A':>10}  {'B':>10}  {'B / A':>6}"]
    for name in names:
        a, b = (figures.get(name) for figures in runs)
        ratio = f"{b / a:.2f}" if a and b is not None else ""
        lines.append(f"{name:<{width}}  {_short(a):>10}  {_short(b):>10}  {ratio:>6}")
    return "\n".join([*head, *lines])


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _git(*arguments: str) -> str:
    """Empty where this is no clone."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
