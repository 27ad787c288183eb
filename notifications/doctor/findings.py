"""What an examination finds: in words an operator understands, with a code that stays the same."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """`warning`: it goes on, but somebody should look. `error`: something does not go out, or could be lost."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`component` is the part of the service it is about; `advice` says what to do.

    `sentence` may be shown to everybody, as /health does. `detail` is for operators alone: names, ids, and what a
    server said; never a password.
    """

    component: str
    code: str
    severity: Severity
    sentence: str
    advice: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in self.__slots__}


def ok(component: str, sentence: str, detail: str = "") -> Finding:
    return Finding(component, "ok", Severity.OK, sentence, detail=detail)


def warning(component: str, code: str, sentence: str, advice: str, detail: str = "") -> Finding:
    return Finding(component, code, Severity.WARNING, sentence, advice, detail)


def error(component: str, code: str, sentence: str, advice: str, detail: str = "") -> Finding:
    return Finding(component, code, Severity.ERROR, sentence, advice, detail)


_ORDER = list(Severity)


def worst(findings: Iterable[Finding]) -> Severity:
    """Of no findings: ok."""
    return max((finding.severity for finding in findings), key=_ORDER.index, default=Severity.OK)


def words(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
