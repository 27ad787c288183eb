"""Requests that are really made at the same time: threads, each with a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connection

Answer = TypeVar("Answer")


def at_once(calls: int, call: Callable[[int], Answer], threads: int = 10) -> list[Answer]:
    """What `call(0)` to `call(calls - 1)` return, made by threads that start together."""
    start = Barrier(threads)

    def share(first: int) -> list[Answer]:
        try:
            start.wait(10)
            return [call(number) for number in range(first, calls, threads)]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return [answer for answers in pool.map(share, range(threads)) for answer in answers]
