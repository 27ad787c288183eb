"""Delivery: CLAIM -> render -> BEGIN -> send -> SETTLE, again until nothing of the lane is due.

One thread (the drain's own) speaks to the database; the provider's threads (slots.py) speak to the provider. No
transaction is ever open while a provider is being called. Many calls are in flight at once and a slot is refilled as
soon as it is free, so that one slow call holds up nobody.
"""

from __future__ import annotations

import queue as thread_queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import structlog
from django.conf import settings
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    connection,
    transaction,
)

from notifications import providers, queue, receipts
from notifications.circuits import Breaker, Observation, Sign, sign_of
from notifications.inbox import numbering
from notifications.models import LANES, Status
from notifications.pace import (
    HORIZON,
    IN_TURN,
    ORDINARY,
    URGENT,
    Precedence,
    Slots,
    Timetable,
    pace_of,
)
from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.deadline import Deadline
from notifications.queue import Claimed, Settlement
from notifications.rendering import render
from notifications.retry import Verdict, judge
from notifications.slots import YIELDS, slots_of
from notifications.watchdog import moved

log = structlog.get_logger(__name__)

#: Most rows one claim takes.
LARGEST_CLAIM = 500
#: Seconds for which answers are gathered, so that several share one commit.
GATHER = 0.002
#: Seconds between two tries to store answers while the database is away.
DATABASE_AWAY_WAIT = 1.0

#: Seconds between two looks for rows that are claimed alone.
LOOK_FOR_SINGLES_EVERY = 1.0
#: Seconds after which a drain that waits for a slot asks again, at the latest: a rate may have been raised.
LOOK_FOR_OPENINGS_EVERY = 0.5
#: Seconds before it asks again where it was to find one and another worker had it.
AFTER_ANOTHER = 0.02
#: Up to so many seconds later than it could, so that not all workers ask at the same moment.
SPREAD = 0.015
#: A row whose slot is further away (seconds) is not kept until then.
FAR = 1.0
#: Seconds after which a drain that only waits looks whether it is to stop.
LOOK_WHETHER_TO_STOP = 0.25

DATABASE_ERRORS = (DatabaseError, InterfaceError)

#: For rows whose BEGIN may have been stored and which surely were not sent.
NOT_SENT = Verdict(status="pending", outcome="temporary", code="not_sent", wait=0.0, spent=False)


#: A call for which the provider was never asked says nothing about it.
BEGUN_TOO_LATE = Temporary("begun_too_late")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call: for the notification, and as a sign of how the provider is.

    `throttled`: it said that we are too fast.
    """

    row: Claimed
    settlement: Settlement
    sign: Sign | None
    throttled: bool = False


def never() -> bool:
    return False


def drain(lane: str, stopping: Callable[[], bool] = never) -> int:
    """Deliver all that is due in the lane. Returns how many calls were settled.

    At most one drain of a lane runs in a process; another call meanwhile makes the running one look once more and
    returns 0 at once. When `stopping` says so, nothing new is claimed and what is in flight is finished.

    Raises OperationalError or InterfaceError when the database cannot be asked what is due.
    """
    if not _running.enter(lane):
        return 0
    settled = 0
    try:
        while True:
            settled += _drain_once(lane, stopping)
            if not _running.leave_unless_called_again(lane):
                return settled
    except BaseException:
        _running.leave(lane)
        raise


def _drain_once(lane: str, stopping: Callable[[], bool]) -> int:
    provider = provider_of(lane)
    if provider is None:
        log.warning("lane_without_provider", lane=lane)
        return 0
    drain_of_lane = Drain(lane, provider, stopping)
    _running.follow(lane, drain_of_lane)
    return drain_of_lane.run()


def provider_of(lane: str) -> Provider | None:
    """The provider that carries the lane; None for a lane of a newer release, or without a vendor."""
    if lane not in LANES:
        return None
    name = providers.of_lane(lane)
    return providers.get(name) if name else None


class Drain:
    """One pass over a lane. Its thread claims, begins and settles; pool threads only send."""

    def __init__(self, lane: str, provider: Provider, stopping: Callable[[], bool]) -> None:
        self.lane = lane
        self.provider = provider
        self.stopping = stopping
        self.slots = slots_of(provider)
        self.breaker = _breaker_of(provider)
        self.claimed: deque[Claimed] = deque()
        self.pace = pace_of(provider.name) if provider.has_circuit else None
        #: What has a slot of its flow, and what begins at its moment; each row has a thread kept for it.
        self.of_flows = Timetable()
        self.timetable = Timetable()
        #: When the provider has a slot for what is claimed (monotonic); 0 where nothing waits for one.
        self.provider_opens_at = 0.0
        #: Seconds since the call began to which the provider said that we are too fast.
        self.throttled: float | None = None
        #: When a flow with a rate may be claimed from next (monotonic); infinite where none has anything due.
        self.paced_opens_at = 0.0
        self.openings_asked_at = 0.0
        self.in_flight = 0
        #: From the pool's threads; None: somebody calls for another look at what is due.
        self.answers: thread_queue.SimpleQueue[Answer | None] = thread_queue.SimpleQueue()
        self.unsettled: list[Settlement] = []
        self.observed: list[Observation] = []
        self.settled = 0
        self.exhausted = False
        self.claimed_at = 0.0
        self.claimed_single = False
        self.singles_looked_for_at = 0.0
        self.unbegun: list[Claimed] = []
        self.trouble: Exception | None = None
        self.started = time.monotonic()

    def run(self) -> int:
        """Until nothing is due and nothing in flight. Raises what kept it from claiming, at the end."""
        try:
            self._deliver()
        finally:
            # Also after an error that nobody foresaw: else its slots were gone, and others yielded to it for ever.
            self.slots.leave(self.lane)
            self.slots.give_back(self._held())
        self._give_back()
        if self.trouble:
            raise self.trouble
        return self.settled

    def _deliver(self) -> None:
        while True:
            # Answers first: each that is stored is one `unknown` less, should the worker die. A claim is made
            # while calls are under way.
            self._settle()
            self._observe()
            self._waits_for_provider()
            self._keep_pace()
            self._refill()
            self._claim_ahead()
            if self._is_finished():
                return
            self._collect_answers()

    def _is_finished(self) -> bool:
        if self._held() or self.unsettled:
            return False
        return self._must_not_begin() or self._waits_for_nothing()

    def _waits_for_nothing(self) -> bool:
        return self._has_nothing_to_begin() and self.paced_opens_at == float("inf")

    def look_again(self) -> None:
        """Something is due that was not at the last claim. For other threads: a slow call must not hide it."""
        self.answers.put(None)

    def _look_for_slots(self) -> None:
        """Other lanes' calls end: the provider moves, though what is overdue here has to wait for them."""
        moved(self.lane)
        self.look_again()

    # -- claim and begin ------------------------------------------------------------------------------

    def _refill(self) -> None:
        """Put as many rows in flight as there are free slots."""
        while not (self._must_not_begin() or self._has_nothing_to_begin()):
            if self._waits_for_provider():
                with self._using(0):
                    self._give_back_what_waits_too_long()
                return
            free = self.slots.take(self.lane, self.slots.size, self._look_for_slots)
            with self._using(free):
                self._give_back_what_waits_too_long()
                if not free:
                    return
                self._fill(free)

    @contextmanager
    def _using(self, slots: int) -> Iterator[None]:
        """Give back those of the slots in which nothing is in flight, or waits for its moment, at the end."""
        held = self._held()
        try:
            yield
        except Exception as error:
            # Whatever it is: what is in flight has to be settled before the drain may end.
            self._note_trouble(error)
        finally:
            self.slots.give_back(slots - (self._held() - held))

    def _held(self) -> int:
        return self.in_flight + len(self.of_flows) + len(self.timetable)

    def _fill(self, free: int) -> None:
        if self.claimed or self._claim():
            rows = [self.claimed.popleft() for _ in range(min(free, len(self.claimed)))]
            self._keep_until_its_slot([row for row in rows if row.wait is not None])
            left = self._pass_on([row for row in rows if row.wait is None], self._precedence())
            self.claimed.extendleft(reversed(left))

    def _precedence(self) -> Precedence:
        """At the provider's slots. Now and then another lane comes before the urgent ones, as in slots.py."""
        if self.lane.endswith(".high"):
            return URGENT
        return IN_TURN if random.random() < 1 / YIELDS else ORDINARY  # noqa: S311  (no secret)

    # -- rows that have a slot (pace.py) ----------------------------------------------------------------

    def _keep_pace(self) -> None:
        """Begin what has its slot now, and claim what has one soon."""
        if self._must_not_begin():
            return self._put_off()
        self._begin_what_has_its_slot()
        if time.monotonic() >= self.paced_opens_at:
            self._look_for_openings()
            self._begin_what_has_its_slot()

    def _begin_what_has_its_slot(self) -> None:
        with self._using(0):
            # Urgent: what has a slot of its flow must not miss it.
            self._free(self._pass_on(self.of_flows.due(time.monotonic()), URGENT))
        with self._using(0):
            self._begin_in_time(self.timetable.due(time.monotonic()))

    def _begin_in_time(self, rows: list[Claimed]) -> None:
        """What has missed its slot was given back, and may be claimed again at once."""
        if self._begin(rows) < len(rows):
            self.exhausted = False
            self.paced_opens_at = 0.0

    def _pass_on(self, rows: list[Claimed], precedence: Precedence) -> list[Claimed]:
        """Begin them, or keep them until their slots of the provider. Returns those for which there is none yet."""
        try:
            slots = self._slots_of_provider(len(rows), precedence)
        except Exception:
            self.unbegun += rows
            raise
        if slots is None:
            self._begin_in_time(rows)
            return []
        now = time.monotonic()
        self.timetable.add(slots.give_out(rows), now)
        if slots.count < len(rows):
            self.provider_opens_at = now + slots.next_opening
        return rows[slots.count :]

    def _slots_of_provider(self, wanted: int, precedence: Precedence) -> Slots | None:
        if not (wanted and self.pace and self.pace.rate()):
            return None
        slots = self.pace.take(1 if precedence is IN_TURN else wanted, precedence)
        # The question was answered: to wait for a slot is no standstill.
        moved(self.lane)
        return slots

    def _waits_for_provider(self) -> bool:
        """Whether the provider's next slot is still to come. Forgets it when it is there."""
        if self.provider_opens_at > time.monotonic():
            return True
        self.provider_opens_at = 0.0
        return False

    def _put_off(self) -> None:
        rows = self.of_flows.clear() + self.timetable.clear()
        self.unbegun += rows
        self.slots.give_back(len(rows))

    def _look_for_openings(self) -> None:
        self.openings_asked_at = time.monotonic()
        self._ask_again_in(LOOK_FOR_OPENINGS_EVERY)
        if self._waits_for_provider():
            self.paced_opens_at = min(self.paced_opens_at, self.provider_opens_at)
            return
        free = self.slots.take(self.lane, self.slots.size, self._look_for_slots)
        with self._using(free):
            if free:
                self._claim_paced(free)

    def _claim_paced(self, free: int) -> None:
        opening = queue.next_opening(self.lane, self.provider.name)
        if opening is None:
            # What waited for a slot may have lost its rate, and be another claim's.
            self.exhausted = False
            return self._ask_again_in(float("inf"))
        moved(self.lane)
        self._look_for_paced_singles()
        if opening > 0:
            later = opening + random.random() * SPREAD  # noqa: S311  (jitter, not a secret)
            return self._ask_again_in(min(later, LOOK_FOR_OPENINGS_EVERY))
        limit = min(free, self._most_within(HORIZON))
        rows = queue.claim_paced(self.lane, self.provider.name, limit, settings.CLAIM_LEASE)
        self._keep_until_its_slot([row for row in rows if not row.suppressed])
        self._cancel([row for row in rows if row.suppressed])
        self._ask_again_in(0.0 if rows else AFTER_ANOTHER)

    def _ask_again_in(self, seconds: float) -> None:
        self.paced_opens_at = time.monotonic() + seconds

    def _look_for_paced_singles(self) -> None:
        """Those wait for a slot as well, unseen by a claim that found nothing."""
        if time.monotonic() - self.singles_looked_for_at > LOOK_FOR_SINGLES_EVERY:
            self.exhausted = False

    def _keep_until_its_slot(self, rows: list[Claimed]) -> None:
        now = time.monotonic()
        self.of_flows.add((row for row in rows if (row.wait or 0.0) < FAR), now)
        self._free([row for row in rows if (row.wait or 0.0) >= FAR])

    def _free(self, rows: list[Claimed]) -> None:
        """Give back now, to be claimed again with another slot; where that fails, at the end."""
        if rows:
            self.paced_opens_at = 0.0
        try:
            queue.give_back(rows)
        except Exception:
            self.unbegun += rows
            raise

    # -- claim and begin, continued ---------------------------------------------------------------------

    def _claim_ahead(self) -> None:
        """Have rows ready for the next free slots, where a quarter of a lease is enough to begin the ones before them.

        Not when a look for single ones is due: such a one is begun alone, so nothing may be claimed beside it.
        """
        now = time.monotonic()
        is_slow = now - self.claimed_at > settings.CLAIM_LEASE / 4
        looks_for_singles = now - self.singles_looked_for_at > LOOK_FOR_SINGLES_EVERY
        if self.exhausted or is_slow or looks_for_singles or self._must_not_begin():
            return
        if len(self.claimed) >= min(self.slots.size, self._claim_size()):
            return
        try:
            self._claim()
        except Exception as error:
            self._note_trouble(error)

    def _must_not_begin(self) -> bool:
        return bool(self.trouble or self.stopping())

    def _has_nothing_to_begin(self) -> bool:
        return self.exhausted and not self.claimed

    def _claim(self) -> bool:
        self.claimed_at = time.monotonic()
        # In turn: neither a thousand circuits to be probed nor a thousand suspects hold up the others.
        first, second = self._claim_single, self._claim_many
        if self.claimed_single:
            first, second = second, first
        rows = first() or second()
        moved(self.lane)
        self.claimed.extend(row for row in rows if not row.suppressed)
        self._cancel([row for row in rows if row.suppressed])
        self.exhausted = not rows
        return not self.exhausted

    def _cancel(self, suppressed: list[Claimed]) -> None:
        if suppressed:
            queue.cancel_suppressed(suppressed)
            log.info("suppressed", lane=self.lane, count=len(suppressed))

    def _claim_many(self) -> list[Claimed]:
        self.claimed_single = False
        size = self._claim_size() - len(self.claimed)
        return queue.claim(self.lane, self.provider.name, size, settings.CLAIM_LEASE)

    def _claim_single(self) -> list[Claimed]:
        """One row to be begun by itself, looked for now and then: an open circuit's probe, or one that a worker
        died with between CLAIM and BEGIN.
        """
        if self.claimed_at - self.singles_looked_for_at < LOOK_FOR_SINGLES_EVERY:
            return []
        names, lease = (self.lane, self.provider.name), settings.CLAIM_LEASE
        probing = lease + _send_lease()
        probe = self.breaker and queue.claim_probe(*names, lease, probing)
        single = probe or queue.claim_suspect(*names, lease)
        self.claimed_single = bool(single)
        if not single:
            self.singles_looked_for_at = self.claimed_at
        return single

    def _give_back_what_waits_too_long(self) -> None:
        """The provider has become slower since the claim, or other lanes have all its slots: let others have it
        while the lease holds.
        """
        if self.claimed and time.monotonic() - self.claimed_at > settings.CLAIM_LEASE / 2:
            queue.give_back(list(self.claimed))
            self.claimed.clear()

    def _claim_size(self) -> int:
        """What can be begun within half a lease at the present pace, and at least what the slots hold."""
        pace = self.settled / max(time.monotonic() - self.started, 0.1)
        within_half_a_lease = int(pace * settings.CLAIM_LEASE / 2)
        size = max(self.slots.size, min(within_half_a_lease, LARGEST_CLAIM))
        return min(size, self._most_within(settings.CLAIM_LEASE / 4))

    def _most_within(self, seconds: float) -> int:
        """How many calls the provider's pace allows in so many seconds, and at least one."""
        rate = self.pace.rate() if self.pace else None
        return LARGEST_CLAIM if rate is None else 1 + int(min(rate * seconds, LARGEST_CLAIM))

    def _begin(self, rows: list[Claimed]) -> int:
        """Returns how many of them are in flight now."""
        try:
            return self._send_those_begun(rows) if rows else 0
        except Exception:
            # Given back at the end. That changes nothing of one that is being sent.
            self.unbegun += rows
            raise

    def _send_those_begun(self, rows: list[Claimed]) -> int:
        messages = {row.id: message for row in rows if (message := self._render(row))}
        began_at = time.monotonic()
        begun = self._record_begin([row for row in rows if row.id in messages])
        self.in_flight += len(begun)
        for row in rows:
            if row.id in begun:
                self._hand_over(row, messages[row.id], began_at)
        queue.give_back([row for row in rows if row.id in messages and row.id not in begun])
        return len(begun)

    def _record_begin(self, rows: list[Claimed]) -> set[UUID]:
        try:
            return queue.begin(rows, self.provider.name, _send_lease())
        except Exception:
            # Its answer is lost: perhaps it was stored. Surely nothing was sent.
            self.unsettled += [Settlement(row.id, row.fence, NOT_SENT, 0.0) for row in rows]
            raise

    def _hand_over(self, row: Claimed, message: Message, began_at: float) -> None:
        """To a thread of the pool. There is none where the process ends, or the system has no more: then it was
        not sent, and no thread may find it in the pool's queue later.
        """
        unsent = threading.Lock()
        try:
            self.slots.pool.submit(self._send, row, message, began_at, unsent)
        except RuntimeError as error:
            self._note_trouble(error)
            if unsent.acquire(blocking=False):
                self.answers.put(Answer(row, Settlement(row.id, row.fence, NOT_SENT, 0.0), None))

    def _render(self, row: Claimed) -> Message | None:
        try:
            return render(row, settings.DEFAULT_FROM_EMAIL)
        except Exception as error:
            log.exception("rendering_failed", notification=str(row.id))
            queue.fail_unsent(row, "rendering_failed", f"{type(error).__name__}: {error}")
            return None

    def _give_back(self) -> None:
        """What was not begun. A row whose lease just ran out would look as if a worker had died with it."""
        rows = [*self.claimed, *self.unbegun]
        give_up_at = self.claimed_at + settings.CLAIM_LEASE
        while rows:
            try:
                return queue.give_back(rows)
            except DATABASE_ERRORS as error:
                self._note_trouble(error)
                if time.monotonic() > give_up_at:
                    return
                time.sleep(DATABASE_AWAY_WAIT)

    def _note_trouble(self, error: Exception) -> None:
        self.trouble = error
        connection.close()
        # Neither a lost database nor an error is a standstill: to end the process would lose its answers.
        moved(self.lane)

    # -- send: in a pool thread, without the database ----------------------------------------------------

    def _send(
        self, row: Claimed, message: Message, began_at: float, unsent: threading.Lock
    ) -> None:
        if not unsent.acquire(blocking=False):
            return
        # The thread may have got it so late that the lease could end before the call does.
        late = time.monotonic() - began_at > settings.SEND_LEASE_MARGIN
        answer = BEGUN_TOO_LATE if late else call(self.provider, message)
        verdict = judge(
            answer,
            attempt=row.attempt_count + 1,
            max_attempts=settings.MAX_ATTEMPTS,
            chance=random.random(),  # noqa: S311  (jitter, not a secret)
            misconfigured_wait=settings.CIRCUIT_FIRST_REST,
        )
        settlement = Settlement(row.id, row.fence, verdict, time.monotonic() - began_at)
        throttled = isinstance(answer, Temporary) and answer.throttled
        self.answers.put(Answer(row, settlement, None if late else sign_of(answer), throttled))

    # -- settle -----------------------------------------------------------------------------------------

    def _collect_answers(self) -> None:
        """Wait for an answer, then a moment for others that can share its commit."""
        if self.unsettled and not self.in_flight:
            return
        try:
            self._take(self.answers.get(timeout=self._patience()))
            gather_until = time.monotonic() + GATHER
            while self.in_flight:
                self._take(self.answers.get(timeout=max(gather_until - time.monotonic(), 0)))
        except thread_queue.Empty:
            return

    def _patience(self) -> float:
        """Seconds until there is something to do, even if nobody answers or calls."""
        if self._must_not_begin():
            return DATABASE_AWAY_WAIT
        opens_in = self.paced_opens_at - time.monotonic()
        if self.provider_opens_at:
            opens_in = min(opens_in, self.provider_opens_at - time.monotonic())
        next_moment = min(self.of_flows.until_next(), self.timetable.until_next())
        longest = DATABASE_AWAY_WAIT if self.in_flight else LOOK_WHETHER_TO_STOP
        return max(min(next_moment, opens_in, longest), 0.0)

    def _take(self, answer: Answer | None) -> None:
        if answer is None:
            self.exhausted = False
            # Not with each of a burst of calls: most lanes have no flow with a rate.
            asks_at = self.openings_asked_at + AFTER_ANOTHER
            self.paced_opens_at = min(self.paced_opens_at, asks_at)
            return
        moved(self.lane)
        self.in_flight -= 1
        self.slots.give_back(1)
        self.unsettled.append(answer.settlement)
        if answer.throttled:
            self.throttled = answer.settlement.seconds
        if self.breaker and answer.sign:
            row = answer.row
            self.observed.append(Observation(row.sender, answer.sign, row.probe))

    def _settle(self) -> None:
        """Store the answers. While the database is away they are kept, and tried again."""
        if not self.unsettled:
            return
        try:
            self._store(self.unsettled)
        except DATABASE_ERRORS as error:
            log.warning("settle_postponed", lane=self.lane, answers=len(self.unsettled))
            self._note_trouble(error)
            time.sleep(DATABASE_AWAY_WAIT)
            return
        _log_settled(self.unsettled)
        self.settled += len(self.unsettled)
        self.unsettled.clear()
        self.exhausted = False

    def _observe(self) -> None:
        """Tell the breaker, before anything more is begun. What it could not store, the next calls show again."""
        observed, self.observed = self.observed, []
        throttled, self.throttled = self.throttled, None
        try:
            if self.pace and throttled is not None:
                self.pace.lower(throttled)
            if self.breaker:
                self.breaker.note(observed)
        except DATABASE_ERRORS as error:
            self._note_trouble(error)

    def _store(self, settlements: list[Settlement]) -> None:
        try:
            self._record(settlements)
        except (DataError, IntegrityError):
            # One that cannot be stored must not take the others with it.
            if len(settlements) == 1:
                log.exception("settle_refused", notification=str(settlements[0].id))
                return
            for settlement in settlements:
                self._store([settlement])

    def _record(self, settlements: list[Settlement]) -> None:
        telling = [each for each in settlements if each.verdict.tells_more]
        arriving = [each.id for each in settlements if each.verdict.status == Status.DELIVERED]
        if not (telling or arriving):
            return queue.settle(settlements, settings.UNKNOWN_REVIEW_AFTER)
        with transaction.atomic():
            queue.settle(settlements, settings.UNKNOWN_REVIEW_AFTER)
            for each in telling:
                receipts.note_answer(self.provider.name, each.id, each.verdict)
            # Only in-app is delivered by being sent.
            numbering.arrive(arriving)


def call(provider: Provider, message: Message) -> Sent | ProviderError:
    """The provider's answer, as a value. A bug in a provider leaves open what had left by then."""
    try:
        answer = provider.send(message, Deadline(settings.SEND_DEADLINE))
        if not isinstance(answer, Sent):
            raise TypeError(f"a provider returned {type(answer).__name__}")
        return answer
    except (Temporary, Permanent, Misconfigured, Ambiguous) as error:
        return error
    except Exception as error:
        log.exception(
            "provider_bug", provider=provider.name, notification=str(message.notification_id)
        )
        return Ambiguous("unexpected_error", type(error).__name__)


def _log_settled(settlements: list[Settlement]) -> None:
    for settlement in settlements:
        verdict = settlement.verdict
        if verdict.outcome != "accepted":
            log.warning(
                "not_accepted",
                notification=str(settlement.id),
                outcome=verdict.outcome,
                code=verdict.code,
                status=verdict.status,
            )
    accepted = [s for s in settlements if s.verdict.outcome == "accepted"]
    if accepted:
        sample = [str(s.id) for s in islice(accepted, 3)]
        log.info("accepted", count=len(accepted), notifications=sample)


class _Running:
    """Which lanes are being drained in this process, and which were called for meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._called_again: dict[str, bool] = {}
        self._drains: dict[str, Drain] = {}

    def enter(self, lane: str) -> bool:
        with self._lock:
            if lane not in self._called_again:
                self._called_again[lane] = False
                return True
            self._called_again[lane] = True
            if lane in self._drains:
                self._drains[lane].look_again()
            return False

    def follow(self, lane: str, drain: Drain) -> None:
        """From now on tell this drain when somebody calls."""
        with self._lock:
            self._drains[lane] = drain

    def leave_unless_called_again(self, lane: str) -> bool:
        """True when somebody called meanwhile, so that the drain has to look once more."""
        with self._lock:
            if self._called_again[lane]:
                self._called_again[lane] = False
                return True
            self._forget(lane)
            return False

    def leave(self, lane: str) -> None:
        with self._lock:
            self._forget(lane)

    def _forget(self, lane: str) -> None:
        self._called_again.pop(lane, None)
        self._drains.pop(lane, None)


_running = _Running()
_breakers: dict[str, Breaker] = {}


def _breaker_of(provider: Provider) -> Breaker | None:
    """The process's breaker of the provider; None where nothing can go wrong that waiting would mend."""
    if not provider.has_circuit:
        return None
    return _breakers.setdefault(provider.name, Breaker(provider.name))


def _send_lease() -> float:
    return float(settings.SEND_DEADLINE + settings.SEND_LEASE_MARGIN)
