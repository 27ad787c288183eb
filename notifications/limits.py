"""How long the parts of a notification may be, whichever way it comes."""

from __future__ import annotations

from urllib.parse import urlsplit

LONGEST_MESSAGE = 256 * 1024  # bytes
LONGEST_SMS = 1600  # characters; what Twilio takes
LONGEST_TITLE = 998  # bytes; RFC 5322, section 2.1.1: the longest line a header may be
LONGEST_CATEGORY = 100  # characters


def is_web_address(url: str) -> bool:
    """Whether a click on it leads somewhere in the web: http or https, with a host and no space."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and " " not in url
