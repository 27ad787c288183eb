"""Texts that a command is given as files."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import CommandError


def text_in(path: str) -> str:
    """The file's text, without a byte order mark. Raises CommandError."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8.") from error
