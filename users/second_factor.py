"""The second factor of a staff account: a code from an app (TOTP), or one of ten recovery codes.

The codes are django-otp's: one that was used is refused within its half minute too, and wrong ones make the account
wait longer each time. Which session has shown a code stands in the session, with the device that it was of.
"""

from __future__ import annotations

import re
import time
from base64 import b32encode
from typing import Any, cast

import segno
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.http import HttpRequest
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from users.models import User

RECOVERY_CODES = 10
#: Seconds between password and code.
LONGEST_PAUSE = 300

_SHOWN = "second_factor"
_AWAITED = "second_factor_awaited"
_SIX_DIGITS = re.compile(r"\d{6}")


def ids_of(user: AbstractBaseUser | AnonymousUser) -> list[int]:
    """The devices that are set up; asked for with the account where it came with a session (backends.py)."""
    known: list[int] | None = getattr(user, "second_factor_ids", None)
    if known is None:
        devices = TOTPDevice.objects.filter(user_id=user.pk, confirmed=True)
        known = list(devices.values_list("pk", flat=True))
    return known


def is_enough(request: HttpRequest) -> bool:
    """Whether this session may enter: a code was shown in it, or none is asked of this account."""
    ids = ids_of(request.user)
    if not ids:
        return not settings.REQUIRE_SECOND_FACTOR
    return request.session.get(_SHOWN) in ids


# --- Signing in ------------------------------------------------------------------------------------------


def await_code(session: SessionBase, user: User) -> None:
    """The password was right. Nobody is signed in before the code is, too."""
    session.cycle_key()
    session[_AWAITED] = {"user": user.pk, "until": time.time() + LONGEST_PAUSE}


def awaited(request: HttpRequest) -> User | None:
    """Who is to show a code: whose password was right a moment ago, or whose session began without one."""
    if isinstance(request.user, User):
        return request.user if ids_of(request.user) and not is_enough(request) else None
    asked = request.session.get(_AWAITED)
    if not asked or asked["until"] < time.time():
        return None
    return User.objects.filter(pk=asked["user"], is_active=True).first()


def remember(session: SessionBase, user: User) -> None:
    """A code was shown in this session."""
    session.pop(_AWAITED, None)
    session[_SHOWN] = TOTPDevice.objects.get(user=user, confirmed=True).pk


def accepts(user: User, code: str) -> bool:
    """Whether it is right, and the account need not wait after wrong ones. A right one is used up."""
    code = "".join(code.split()).lower()
    kind: Any = TOTPDevice if _SIX_DIGITS.fullmatch(code) else StaticDevice
    with transaction.atomic():
        # Locked: of two that come at once with the same code, one is in.
        device = kind.objects.select_for_update().filter(user=user, confirmed=True).first()
        return device is not None and cast("bool", device.verify_token(code))


# --- Setting up and removing ---------------------------------------------------------------------------------


def pending(user: User) -> TOTPDevice | None:
    """The device whose first code is still to be shown."""
    return TOTPDevice.objects.filter(user=user, confirmed=False).first()


def begin(user: User) -> None:
    """A new secret. Nothing is asked for before its first code was shown."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user, confirmed=False).delete()
        TOTPDevice.objects.create(user=user, name="app", confirmed=False)


def confirm(user: User, code: str) -> list[str]:
    """The recovery codes, which are shown once; none where the code is wrong."""
    code = "".join(code.split())
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None or not _SIX_DIGITS.fullmatch(code) or not device.verify_token(code):
            return []
        TOTPDevice.objects.filter(user=user, confirmed=True).delete()
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        codes = _recovery_codes(user)
        _log(user, "Second factor set up.")
        return codes


def _recovery_codes(user: User) -> list[str]:
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes")
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes


def codes_left(user: User) -> int:
    count: int = StaticToken.objects.filter(device__user=user, device__confirmed=True).count()
    return count


def remove(user: User) -> bool:
    """Whether there was one. The account signs in with its password alone from then on."""
    with transaction.atomic():
        StaticDevice.objects.filter(user=user).delete()
        _, removed = TOTPDevice.objects.filter(user=user).delete()
        was_set_up = bool(removed)
        if was_set_up:
            _log(user, "Second factor removed.")
        return was_set_up


def _log(user: User, what: str) -> None:
    LogEntry.objects.log_actions(user.pk, [user], CHANGE, what, single_object=True)


def picture(device: TOTPDevice) -> str:
    """The QR code that an app reads, as an image's address."""
    return segno.make(device.config_url, error="m").svg_data_uri(scale=5, border=2)


def secret(device: TOTPDevice) -> str:
    """For who cannot photograph it: groups of four, as apps take it."""
    text = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))
