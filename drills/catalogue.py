"""The list of drills. Each registers itself; the scenes are the modules of drills/scenes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drills.run import Run


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. `number` orders the list; `breaks` and `holds` are its row in docs/reliability.md.

    `limit`: seconds after which it has failed.
    """

    name: str
    number: float
    breaks: str
    holds: str
    play: Callable[[Run], None]
    limit: int


_drills: dict[str, Drill] = {}


def drill(
    name: str, *, number: float, breaks: str, holds: str, limit: int = 600
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register a function as a drill."""

    def register(play: Callable[[Run], None]) -> Callable[[Run], None]:
        assert name not in _drills, name
        _drills[name] = Drill(name, number, breaks, holds, play, limit)
        return play

    return register


def all_drills() -> list[Drill]:
    """Every drill there is, in the order of their numbers."""
    from drills import scenes

    for module in pkgutil.iter_modules(scenes.__path__):
        importlib.import_module(f"drills.scenes.{module.name}")
    return sorted(_drills.values(), key=lambda drill: (drill.number, drill.name))
