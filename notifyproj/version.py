"""Which code a process runs: a digest of the project's Python files, as they are when the process starts.

No number that somebody has to raise, and no git, which a server need not have: two processes say the same exactly
when they run the same code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("notifyproj", "notifications", "users")


def _digest() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]


#: Ten hex digits.
VERSION = _digest()
