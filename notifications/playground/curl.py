"""The call of the API that does what the form does, as one pastes it into a shell. Pure.

static/notifyproj/try.js writes the same while one types; a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def curl(base_url: str, body: Mapping[str, str]) -> str:
    """The API key stands in the shell's variable `API_KEY`: a key has no place in a page."""
    return (
        f"curl -i {base_url}/api/v1/notifications \\\n"
        '  -H "Authorization: Bearer $API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {quoted(pretty(body))}"
    )


def pretty(body: Mapping[str, str]) -> str:
    """As JavaScript's JSON.stringify writes it: a line for each field, and letters as they are."""
    return json.dumps(body, indent=2, ensure_ascii=False)


def quoted(text: str) -> str:
    """Within single quotes a POSIX shell takes everything as it stands, but for the single quote."""
    return "'" + text.replace("'", "'\\''") + "'"
