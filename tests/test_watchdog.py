"""The watchdog: a worker in which nothing moves although something is due ends itself."""

import threading
import time

import pytest

from notifications import stopping
from notifications.watchdog import EXIT_STATUS, Watchdog, WatchdogThread


@pytest.fixture(autouse=True)
def _not_stopping(monkeypatch):
    monkeypatch.setattr(stopping, "_stopping", threading.Event())
    monkeypatch.setattr("notifications.watchdog.LOOK_EVERY", 0.02)


def test_what_moves_in_time_is_not_standing_still():
    watchdog = Watchdog()
    watchdog.expect("email.high")
    watchdog.moved("email.high")
    time.sleep(0.02)
    assert watchdog.standing_still(0.01) == []


def test_what_was_expected_again_and_again_stands_still_since_the_first_time():
    watchdog = Watchdog()
    for _ in range(3):
        watchdog.expect("email.high")
        time.sleep(0.02)
    assert watchdog.standing_still(0.05) == ["email.high"]


def test_a_process_that_stands_still_claims_nothing_more_and_ends(wait_until):
    watchdog, ended = Watchdog(), []
    watchdog.expect("email.high")
    WatchdogThread(0.05, grace=0.01, watchdog=watchdog, end=ended.append).start()
    wait_until(lambda: ended == [EXIT_STATUS])
    assert stopping.is_stopping()


def test_a_process_that_moves_goes_on():
    watchdog, ended = Watchdog(), []
    thread = WatchdogThread(0.2, grace=0.01, watchdog=watchdog, end=ended.append)
    thread.start()
    for _ in range(10):
        watchdog.expect("email.high")
        time.sleep(0.05)
        watchdog.moved("email.high")
    stopping.stop()
    thread.join()
    assert ended == []
