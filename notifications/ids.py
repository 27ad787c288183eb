"""UUIDv7 (RFC 9562): an id says when it was made, so a span of time is a range of the primary key. Pure.

The time is that of the process which made the id, to the millisecond; the database's clock may differ a little.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

#: The lowest bits hold version, variant and chance; the 48 above them milliseconds since 1970.
_BELOW_TIME = 80
#: Below every id there is.
FIRST = UUID(int=0)
#: Above every id there is.
LAST = UUID(int=2**128 - 1)


def first_of(moment: datetime) -> UUID:
    """The lowest id that can have been made at `moment`: those of before are lower, those of after are not."""
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return UUID(int=milliseconds << _BELOW_TIME)
