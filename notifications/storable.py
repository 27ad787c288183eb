"""A vendor's words as PostgreSQL takes them."""

from __future__ import annotations


def storable(text: str) -> str:
    """Without NUL and lone surrogates."""
    return text.replace("\x00", "").encode(errors="replace").decode()
