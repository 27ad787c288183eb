from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from notifications.providers import deadline as deadlines
from notifications.providers.base import Ambiguous, Temporary
from notifications.providers.deadline import Deadline, current
from tests.providers.contract import ends_within


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Line = tuple[socket.socket, socket.socket]


def deadlines_still_work() -> bool:
    ours, theirs = socket.socketpair()
    deadline = Deadline(0.05)
    with ours, theirs, ends_within(0.3), deadline.enforced():
        deadline.watch(ours)
        return ours.recv(1) == b""


def test_a_blocked_read_ends_at_the_deadline(line: Line) -> None:
    deadline = Deadline(0.1)
    with ends_within(0.3), deadline.enforced():
        deadline.watch(line[0])
        assert line[0].recv(1) == b""
    assert deadline.expired


def test_a_blocked_write_ends_at_the_deadline(line: Line) -> None:
    deadline = Deadline(0.1)
    with ends_within(0.3), deadline.enforced():
        deadline.watch(line[0])
        with pytest.raises(BrokenPipeError):
            line[0].sendall(b"x" * 50_000_000)


def test_an_earlier_deadline_is_not_kept_waiting_by_a_later_one(line: Line) -> None:
    early = Deadline(0.1)
    with Deadline(60).enforced(), ends_within(0.3), early.enforced():
        early.watch(line[0])
        assert line[0].recv(1) == b""


def test_a_call_that_has_ended_keeps_its_socket(line: Line) -> None:
    deadline = Deadline(0.05)
    with deadline.enforced():
        deadline.watch(line[0])
    time.sleep(0.15)
    line[0].sendall(b"still open")
    assert line[1].recv(10) == b"still open"


def test_a_socket_that_comes_too_late_is_refused(line: Line) -> None:
    deadline = Deadline(0.02)
    with deadline.enforced():
        time.sleep(0.03)
        with pytest.raises(TimeoutError):
            deadline.watch(line[0])
    assert line[1].recv(1) == b""


def test_a_call_that_begins_too_late_does_not_begin() -> None:
    with pytest.raises(Temporary), Deadline(0).enforced():
        pytest.fail("it began")


def test_a_socket_closed_meanwhile_does_no_harm(line: Line) -> None:
    deadline = Deadline(0.05)
    with deadline.enforced():
        deadline.watch(line[0])
        line[0].close()
        time.sleep(0.15)
    assert deadlines_still_work()


def test_each_thread_has_its_own_current_deadline() -> None:
    seen = []
    with Deadline(5).enforced():
        thread = threading.Thread(target=lambda: seen.append(current().remaining()))
        thread.start()
        thread.join()
    assert seen == [float("inf")]


def test_outside_a_call_there_is_no_deadline() -> None:
    with Deadline(5).enforced():
        assert current().remaining() <= 5
    assert current().remaining() == float("inf")


def test_a_timeout_does_not_reach_beyond_the_deadline() -> None:
    assert Deadline(60).within(3) == 3
    assert Deadline(1).within(3) <= 1
    assert Deadline(-1).within(3) > 0


def test_what_a_broken_connection_means(line: Line) -> None:
    deadline = Deadline(60)
    assert deadline.failure(OSError("no route")).code == "connection_failed"
    deadline.watch(line[0])
    assert isinstance(deadline.failure(OSError("reset")), Temporary)
    deadline.message_left = True
    assert isinstance(deadline.failure(OSError("reset")), Ambiguous)
    assert deadline.failure(TimeoutError()).code == "timed_out"


def test_hundreds_of_calls_end_in_time() -> None:
    def call() -> None:
        ours, theirs = socket.socketpair()
        deadline = Deadline(0.2)
        with ours, theirs, deadline.enforced():
            deadline.watch(ours)
            assert ours.recv(1) == b""

    threads = [threading.Thread(target=call) for _ in range(200)]
    with ends_within(2):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_one_thread_watches_over_all_calls() -> None:
    for _ in range(3):
        with Deadline(5).enforced():
            pass
    watchdogs = [thread for thread in threading.enumerate() if thread.name == deadlines.THREAD_NAME]
    assert len(watchdogs) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_watchdog_of_its_own(line: Line) -> None:
    with Deadline(5).enforced():
        child = os.fork()
        if child == 0:
            signal.alarm(2)  # ends the child, should it hang
            deadline = Deadline(0.1)
            with deadline.enforced():
                deadline.watch(line[0])
                os._exit(0 if line[0].recv(1) == b"" else 1)
        with ends_within(2):
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
