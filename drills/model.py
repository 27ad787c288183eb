"""The engine's state machine, tried at every point at which something can die (drill 34).

Hypothesis plays three workers, a provider, callers, operators and time against the engine's real statements on a
real PostgreSQL. A worker may die or freeze after any statement, an answer may be lost on its way to it, and it may
come back long after its lease. Any two statements may also overlap: the first one's transaction stays open until the
second waits for it, or has ended. After every step all of promises.py must hold.

Time passes by moving all stored times into the past, because only the database's clock decides.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar
from unittest.mock import patch
from uuid import UUID

import hypothesis
from django.db import connection, transaction
from django.db.models import Case, When
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from drills import promises
from drills.promises import Name, Snapshot, Step, World, take_snapshot
from notifications import changes, intake, queue, receipts
from notifications.circuits import Breaker, Observation, sign_of
from notifications.delivery import NOT_SENT
from notifications.intake import Submission
from notifications.models import Flow, Notification
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.events import Event, EventType, Told
from notifications.queue import Claimed, Settlement
from notifications.retry import judge
from notifications.sweeping import sweep
from users.models import Project, Recipient, UnknownPolicy
from users.refusals import Refused

T = TypeVar("T")

#: The lanes of the model, and the provider of each.
LANES = {
    "email.high": "smtp",
    "email.normal": "smtp",
    "email.low": "smtp",
    "in_app.normal": "inbox",
}
PEOPLE = ("ann", "ben", "cleo")
WORKERS = 3
MAX_ATTEMPTS = 3
CLAIM_LEASE = 60.0
SEND_LEASE = 40.0
REVIEW_AFTER = 600.0
#: A probe whose worker died is given up after this; the circuit's rests are the service's own.
PROBING = CLAIM_LEASE + SEND_LEASE
#: Past a lease and past a review, mostly; past a back-off and a high one's life; past everything's life.
PERIODS = (*(65, 660) * 4, 3700, 4 * 86400)
#: Rounds in which healthy workers must bring everything to rest, each after a review's time.
HEALING_ROUNDS = 15

ANSWERS: dict[str, Sent | ProviderError] = {
    "sent": Sent(provider_message_id="250"),
    "temporary": Temporary("451"),
    "later": Temporary("429", retry_after=300.0),
    "permanent": Permanent("550"),
    "misconfigured": Misconfigured("535"),
    "ambiguous": Ambiguous("timed_out"),
}

MOVE_TIME = """
UPDATE notifications_notification
SET leased_until = leased_until - passed.by, due_at = due_at - passed.by, review_at = review_at - passed.by,
    expires_at = expires_at - passed.by, created_at = created_at - passed.by
FROM (SELECT make_interval(secs => %(passed)s) AS by) AS passed;
UPDATE notifications_circuit SET open_until = open_until - make_interval(secs => %(passed)s)
"""

#: What callers and operators do afterwards.
CHANGES = ("cancel", "retry", "resend", "vouch", "give_up", "forget", "pause")
#: What a worker may do with the rows that it holds.
USES = ("begin", "begin_with_a_lost_answer", "begin_in_vain", "give_back", "fail_unsent")
numbers = st.integers(0, 5)
mostly = st.sampled_from((True, True, True, False))


#: What can happen: methods of `Engine`, how often one is chosen before others, and their arguments.
EVENTS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "drain": (
        5,
        {
            "number": numbers,
            "which": numbers,
            "limit": st.sampled_from((10, 1)),
            "begins": st.booleans(),
        },
    ),
    "answer": (
        5,
        {
            "number": numbers,
            "answer": st.sampled_from((*ANSWERS, "ambiguous_accepted")),
            "stored": mostly,
        },
    ),
    "time_passes": (4, {"seconds": st.sampled_from(PERIODS), "swept": mostly}),
    "submit": (
        2,
        {
            "lane": st.sampled_from(sorted(LANES)),
            "person": st.sampled_from(PEOPLE),
            "key": st.sampled_from(("", "", "a")),
        },
    ),
    "meddle": (2, {"number": numbers, "change": st.sampled_from(CHANGES)}),
    "use_claim": (
        3,
        {"number": numbers, "how": st.sampled_from(("begin", "begin", "begin", *USES))},
    ),
    "report": (2, {"number": numbers, "event": st.sampled_from(sorted(promises.REPORTED))}),
    "settle": (1, {"number": numbers, "answer_lost": st.booleans()}),
    "settle_once_more": (1, {"number": numbers, "which": numbers}),
    "die": (1, {"number": numbers, "accepted": st.booleans()}),
    "sweep": (1, {}),
}


def event_of(what: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"what": st.just(what), **EVENTS[what][1]})


events = st.sampled_from([what for what, (weight, _) in EVENTS.items() for _ in range(weight)])


@dataclass
class Call:
    """A message on its way to the provider. Its answer may come long after its lease.

    `taken`: the provider has reported on it before it answers.
    """

    row: Claimed
    worker: Worker
    repeatable: bool
    taken: bool = False


@dataclass
class Worker:
    """A worker's memory. It dies by losing all of it, and freezes by being asked for nothing."""

    number: int
    #: What each lane's drain has claimed and not begun.
    holds: dict[str, list[Claimed]] = field(default_factory=dict)
    answers: list[Settlement] = field(default_factory=list)
    #: What the answers say about the provider, noted after they are stored.
    observed: list[Observation] = field(default_factory=list)
    breaker: Breaker = field(default_factory=lambda: Breaker("smtp"))
    stored: list[Settlement] = field(default_factory=list)


@dataclass
class Act:
    """One statement: what it runs, what the model learns from its result, and whose rows it may change."""

    kind: str
    run: Callable[[], Any]
    learn: Callable[[Any], None]
    worker: Worker | None = None
    names: frozenset[Name] | None = None


class Engine(RuleBasedStateMachine):
    """Three workers, one provider, callers, operators and time."""

    #: What all runs in this process have seen, for the drill's figures.
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.workers = [Worker(number) for number in range(WORKERS)]
        self.in_flight: list[Call] = []
        self.ids: list[UUID] = []
        self.lanes: set[str] = set()
        self.overlapping = self.healing = self.broken = False
        self.open_act: Act | None = None
        erase_everything()
        intake.forget_flows()
        self.project = Project.objects.get_or_create(name="Model")[0]
        self.before = take_snapshot()

    @initialize(
        lanes=st.lists(st.sampled_from(sorted(LANES)), min_size=3, max_size=6),
        policy=st.sampled_from(UnknownPolicy.values),
        overlapping=st.booleans(),
    )
    def begin_with(self, lanes: list[str], policy: str, overlapping: bool) -> None:
        """A few that wait; the project's policy for `unknown`; and whether statements overlap: the first one's
        transaction stays open while the second runs, and so on in pairs.
        """
        Project.objects.update(unknown_policy=policy)
        self.world.policy = policy
        for lane in lanes:
            self.submit(lane, "ann", "")
        self.overlapping = overlapping

    @rule(event=events.flatmap(event_of))
    def happens(self, event: dict[str, Any]) -> None:
        how = {name: value for name, value in event.items() if name != "what"}
        getattr(self, event["what"])(**how)

    # -- callers ------------------------------------------------------------------------------------

    def submit(self, lane: str, person: str, key: str) -> None:
        self.lanes.add(lane)
        channel, priority = lane.split(".")
        submission = Submission(
            project_id=self.project.id,
            channel=channel,
            priority=priority,
            recipient=f"{person}@example.com" if channel == "email" else person,
            message="Hello there!",
            idempotency_key=key and f"{key}-{lane}-{person}",
        )
        self.do(Act("submit", lambda: intake.submit(submission).notification.id, self.learn_stored))

    def learn_stored(self, answer: UUID | Refused) -> None:
        if isinstance(answer, UUID):
            self.world.stored.add(answer)
            if answer not in self.ids:
                self.ids.append(answer)

    # -- callers and operators who change their mind --------------------------------------------------

    def meddle(self, number: int, change: str) -> None:
        getattr(self, change)(pick(self.ids, number))

    def cancel(self, chosen: UUID) -> None:
        def learn(answer: Refused | None) -> None:
            if answer is None:
                self.world.cancelled.add(chosen)

        self.do(Act("cancel", lambda: changes.cancel(chosen), learn))

    def retry(self, chosen: UUID) -> None:
        self.do(Act("retry_now", lambda: changes.retry_now(chosen), learn_nothing))

    def vouch(self, chosen: UUID) -> None:
        """An operator says that an unknown one arrived."""

        def learn(answer: Refused | None) -> None:
            if answer is None:
                self.world.vouched.add(chosen)

        self.do(Act("vouch", lambda: changes.settle_as_arrived(chosen), learn))

    def give_up(self, chosen: UUID) -> None:
        self.do(Act("give_up", lambda: changes.give_up(chosen), learn_nothing))

    def resend(self, chosen: UUID) -> None:
        seen = Notification.objects.get(id=chosen)

        def run() -> UUID:
            return changes.resend(seen).notification.id

        def learn(answer: UUID | Refused) -> None:
            self.learn_stored(answer)
            if isinstance(answer, UUID):
                self.world.begun_when_resent[chosen] = len(take_snapshot().calls_of(chosen))

        self.do(Act("resend", run, learn))

    def forget(self, chosen: UUID) -> None:
        recipient = Recipient.objects.filter(notifications=chosen).first()
        if recipient:
            self.do(Act("forget", lambda: changes.forget(recipient), learn_nothing))

    def pause(self, chosen: UUID) -> None:
        """Or resume."""
        self.finish_open_act()
        Flow.objects.filter(id=Notification.objects.get(id=chosen).flow_id).update(
            paused=Case(When(paused=True, then=False), default=True)
        )
        self.before = take_snapshot()

    # -- workers ------------------------------------------------------------------------------------

    def drain(self, number: int, which: int, limit: int, begins: bool) -> None:
        """A worker takes what is due, and begins it, unless it stops before. It claims only when it holds nothing."""
        worker, lane = pick(self.workers, number), pick(sorted(self.lanes), which)
        if lane not in worker.holds:
            self.claim(worker, lane, limit)
        if begins and lane in worker.holds:
            self.begin(worker, lane, worker.holds.pop(lane))

    def claim(self, worker: Worker, lane: str, limit: int) -> None:
        """First an open circuit's probe, or a row that a worker died with, alone; else what is due."""
        provider = LANES[lane]

        def run() -> list[Claimed]:
            return (
                queue.claim_probe(lane, provider, CLAIM_LEASE, PROBING)
                or queue.claim_suspect(lane, provider, CLAIM_LEASE)
                or queue.claim(lane, provider, limit, CLAIM_LEASE)
            )

        def learn(rows: list[Claimed]) -> None:
            self.world.probes |= names_of([row for row in rows if row.probe])
            if rows:
                worker.holds[lane] = rows

        self.do(Act("claim", run, learn, worker))

    def use_claim(self, number: int, how: str) -> None:
        holders = [worker for worker in self.workers if worker.holds]
        if not holders:
            return
        worker = pick(holders, number)
        lane = min(worker.holds)
        getattr(self, how)(worker, lane, worker.holds.pop(lane))

    def begin(self, worker: Worker, lane: str, rows: list[Claimed]) -> None:
        def learn(begun: set[UUID]) -> None:
            for row in rows:
                if row.id in begun:
                    self.world.handed_over.append((row.id, row.fence))
                    self.in_flight.append(Call(row, worker, LANES[lane] in promises.REPEATABLE))
                else:
                    worker.holds.setdefault(lane, []).append(row)

        self.do(self.beginning(worker, lane, rows, learn))

    def begin_with_a_lost_answer(self, worker: Worker, lane: str, rows: list[Claimed]) -> None:
        """The connection broke after the commit. The worker cannot tell, so that it sends nothing."""
        worker.answers += [Settlement(row.id, row.fence, NOT_SENT, 0.0) for row in rows]
        self.do(self.beginning(worker, lane, rows, learn_nothing))

    def begin_in_vain(self, worker: Worker, lane: str, rows: list[Claimed]) -> None:
        """The connection broke before the statement, which for the worker looks the same."""
        worker.answers += [Settlement(row.id, row.fence, NOT_SENT, 0.0) for row in rows]

    def beginning(
        self, worker: Worker, lane: str, rows: list[Claimed], learn: Callable[[Any], None]
    ) -> Act:
        return Act(
            "begin",
            partial(queue.begin, rows, LANES[lane], SEND_LEASE),
            learn,
            worker,
            names_of(rows),
        )

    def give_back(self, worker: Worker, lane: str, rows: list[Claimed]) -> None:
        self.do(
            Act("give_back", partial(queue.give_back, rows), learn_nothing, worker, names_of(rows))
        )

    def fail_unsent(self, worker: Worker, lane: str, rows: list[Claimed]) -> None:
        if rows[1:]:
            worker.holds[lane] = rows[1:]
        self.do(
            Act(
                "fail_unsent",
                partial(queue.fail_unsent, rows[0], "rendering_failed", "no"),
                learn_nothing,
                worker,
                names_of(rows[:1]),
            )
        )

    def settle(self, number: int, answer_lost: bool) -> None:
        answered = [worker for worker in self.workers if worker.answers]
        if answered:
            self.store(pick(answered, number), answer_lost)

    def store(self, worker: Worker, answer_lost: bool) -> None:
        """All that the worker has; again later, where it does not learn that it was stored."""
        settlements = list(worker.answers)
        worker.stored += settlements
        if not answer_lost:
            worker.answers.clear()
        self.do(self.settling(worker, settlements))
        if not answer_lost:
            self.observe(worker)

    def observe(self, worker: Worker) -> None:
        """Tell the breaker what the answers say about the provider."""
        observed, worker.observed = worker.observed, []
        if any(each.sign.cause or each.probe for each in observed):
            self.do(
                Act(
                    "observe",
                    partial(worker.breaker.note, observed),
                    learn_nothing,
                    worker,
                    frozenset(),
                )
            )

    def settle_once_more(self, number: int, which: int) -> None:
        have_stored = [worker for worker in self.workers if worker.stored]
        if have_stored:
            worker = pick(have_stored, number)
            self.do(self.settling(worker, [pick(worker.stored, which)]))

    def settling(self, worker: Worker, settlements: list[Settlement]) -> Act:
        names = names_of(settlements)

        def learn(_: None) -> None:
            for settlement in settlements:
                name = (settlement.id, settlement.fence)
                if name in self.world.resends_at:
                    self.world.answered.setdefault(name, settlement.verdict.outcome)

        return Act("settle", partial(queue.settle, settlements, REVIEW_AFTER), learn, worker, names)

    def die(self, number: int, accepted: bool) -> None:
        """Kill -9: what was claimed, under way, or answered and not stored is forgotten. The provider may have
        taken what was under way.
        """
        worker = pick(self.workers, number)
        self.workers[worker.number] = Worker(worker.number)
        Engine.seen["deaths"] += 1
        for call in [call for call in self.in_flight if call.worker is worker]:
            self.in_flight.remove(call)
            if accepted and not call.taken:
                self.world.accepted[call.row.id] += 1

    # -- the provider -------------------------------------------------------------------------------

    def answer(self, number: int, answer: str, stored: bool) -> None:
        """The worker hears something, perhaps long after its lease, and stores it, unless it stops before."""
        if not self.in_flight:
            return
        call = self.in_flight.pop(number % len(self.in_flight))
        if call.taken and not answer.startswith("ambiguous"):
            answer = "sent"
        if answer in {"sent", "ambiguous_accepted"} and not call.taken:
            self.world.accepted[call.row.id] += 1
        said = sent_as(ANSWERS[answer.removesuffix("_accepted")], call)
        if not call.repeatable:
            call.worker.observed.append(Observation(call.row.sender, sign_of(said), call.row.probe))
        verdict = judge(
            said,
            attempt=call.row.attempt_count + 1,
            max_attempts=MAX_ATTEMPTS,
            chance=0.5,
        )
        call.worker.answers.append(Settlement(call.row.id, call.row.fence, verdict, 0.1))
        if stored:
            self.store(call.worker, answer_lost=False)

    def report(self, number: int, event: str) -> None:
        """The provider tells what became of one that it took, or has under way; also again, or in the wrong order."""
        told = [id for id in self.ids if self.world.accepted[id] or self.call_of(id)]
        mailed = [id for id in told if self.before.rows[id].provider not in promises.REPEATABLE]
        if not mailed:
            return
        chosen = pick(mailed, number)
        call = self.call_of(chosen)
        if not self.world.accepted[chosen] and call:
            call.taken = True
            self.world.accepted[chosen] += 1
        self.world.reported[chosen].add(event)
        happened = Event(
            event_id=f"{chosen} {event}", event=EventType(event), notification_id=chosen
        )
        receipts.store("smtp", Told(events=(happened,)))
        self.do(Act("receipt", receipts.apply_all, learn_nothing))

    def call_of(self, notification_id: UUID) -> Call | None:
        """Its first that is under way."""
        calls = (call for call in self.in_flight if call.row.id == notification_id)
        return next(calls, None)

    # -- the sweep, time, and two at once -------------------------------------------------------------

    def sweep(self) -> None:
        self.do(Act("sweep", sweep, learn_nothing))

    def time_passes(self, seconds: int, swept: bool) -> None:
        self.finish_open_act()
        with connection.cursor() as cursor:
            cursor.execute(MOVE_TIME, {"passed": seconds})
        self.before = take_snapshot()
        if swept:
            self.sweep()

    def do(self, act: Act) -> None:
        """Run the statement and check all promises, or keep it for the next one to overlap with.

        A submission is not kept open: it looks once more when its person is forgotten meanwhile, which it learns when
        it commits.
        """
        if self.overlapping and not self.open_act and act.kind != "submit":
            self.open_act = act
            return
        first, self.open_act = self.open_act, None
        if first and first.worker and first.worker is act.worker:
            # A drain has one thread: what it does, it does one after the other.
            self.run(first)
            first = None
        self.run(act, first)

    def finish_open_act(self) -> None:
        if self.open_act:
            first, self.open_act = self.open_act, None
            self.run(first)

    def run(self, act: Act, meanwhile: Act | None = None) -> None:
        self.broken = True
        before, acts = self.before, [meanwhile, act] if meanwhile else [act]
        answers = run_both(meanwhile, act) if meanwhile else [told(act.run)]
        self.before = after = take_snapshot()
        for name in after.calls.keys() - before.calls.keys():
            self.world.resends_at[name] = after.rows[name[0]].resends
        for done, answer in zip(acts, answers, strict=True):
            done.learn(answer)
        if not self.healing:
            self.count(acts, before, after)
        names = (own_names(done, before) for done in acts)
        step = Step(tuple(done.kind for done in acts), tuple(names))
        promises.check_step(step, before, after, self.world)
        if step.actors == ("settle",) and act.names:
            promises.check_settled(act.names & before.calls.keys(), before, after)
        self.broken = False

    def count(self, acts: list[Act], before: Snapshot, after: Snapshot) -> None:
        settled = [name for act in acts if act.kind == "settle" for name in act.names or ()]
        Engine.seen += Counter(
            {
                "statements": len(acts),
                "overlaps": len(acts) - 1,
                "calls": len(after.calls) - len(before.calls),
                "receipts": sum(act.kind == "receipt" for act in acts),
                "late answers": sum(before.rows[id].status != "sending" for id, _ in settled),
                "resent from unknown": sum(
                    row.resends - before.rows[row.id].resends
                    for row in after.rows.values()
                    if row.id in before.rows
                ),
            }
        )

    # -- the end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """All workers die; healthy ones and time must bring everything to rest."""
        if self.broken:
            return
        self.finish_open_act()
        self.overlapping, self.healing = False, True
        self.workers = [Worker(number) for number in range(WORKERS)]
        Flow.objects.update(paused=False)
        self.before = take_snapshot()
        self.do(Act("receipt", receipts.apply_all, learn_nothing))
        promises.check_reported(self.before, self.world)
        for _ in range(HEALING_ROUNDS):
            if promises.is_at_rest(self.before):
                break
            self.time_passes(660, swept=True)
            self.deliver_all()
        promises.check_rest(self.before, self.world)

    def deliver_all(self) -> None:
        for which in range(len(self.lanes)):
            while self.deliver_some(which):
                pass

    def deliver_some(self, which: int) -> bool:
        """As a drain does it, with a provider that takes everything. False when nothing is due."""
        worker = self.workers[0]
        self.drain(0, which, limit=10, begins=True)
        if not any(call.worker is worker for call in self.in_flight):
            return False
        for call in [call for call in self.in_flight if call.worker is worker]:
            self.answer(self.in_flight.index(call), "sent", stored=True)
        return True


class OpenTransaction:
    """Runs an act in a transaction of its own, which stays open until the block waits for it or has ended."""

    #: The other connection's thread, kept because connecting costs more than the act.
    thread = ThreadPoolExecutor(1, thread_name_prefix="overlap")

    def __init__(self, act: Act) -> None:
        self.act = act
        self.answer: Any = None
        self.holds = threading.Event()
        self.over = threading.Event()

    def __enter__(self) -> OpenTransaction:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.other = cursor.fetchone()[0]
        self.ended = self.thread.submit(self._run)
        self.holds.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.ended.result(10)

    def _run(self) -> None:
        try:
            with transaction.atomic():
                self.answer = told(self.act.run)
                self.holds.set()
                self._wait_until_waited_for()
        finally:
            self.holds.set()

    def _wait_until_waited_for(self) -> None:
        """Until the other statement has run into our locks, or has ended without."""
        while not self.over.wait(0.001):
            with connection.cursor() as cursor:
                cursor.execute("SELECT cardinality(pg_blocking_pids(%s))", (self.other,))
                if cursor.fetchone()[0]:
                    return

    @classmethod
    def close(cls) -> None:
        cls.thread.submit(lambda: connection.close()).result(10)


def run_both(first: Act, second: Act) -> list[Any]:
    """What the two return; the first commits when the second waits for it, or has ended."""
    with OpenTransaction(first) as other:
        answer = told(second.run)
    return [other.answer, answer]


def told(run: Callable[[], Any]) -> Any:
    """What the statement returns, or how it was refused."""
    try:
        return run()
    except Refused as refusal:
        return refusal


def learn_nothing(_: object) -> None:
    return


def pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def own_names(act: Act, before: Snapshot) -> frozenset[Name] | None:
    """What the act may change. A call that is settled already is nobody's to settle again."""
    if act.kind == "settle" and act.names is not None:
        return act.names & before.unanswered
    return act.names


def names_of(rows: Sequence[Claimed | Settlement]) -> frozenset[Name]:
    return frozenset((row.id, row.fence) for row in rows)


def sent_as(answer: Sent | ProviderError, call: Call) -> Sent | ProviderError:
    """For the inbox, taking a message is delivering it."""
    if isinstance(answer, Sent) and call.repeatable:
        return Sent(provider_message_id=answer.provider_message_id, delivered=True)
    return answer


def play(examples: int, steps: int, *, seed: int, **chosen: Any) -> None:
    """Raises BrokenPromiseError. The same seed plays the same stories."""
    plan = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **chosen,
    )
    run_state_machine_as_test(hypothesis.seed(seed)(Engine), settings=plan)


def erase_everything() -> None:
    """The model has its database to itself."""
    with connection.cursor() as cursor:
        for table in (
            *("notifications_suppression", "notifications_receipt"),
            *("notifications_attempt", "notifications_idempotencykey"),
            *("notifications_notification", "notifications_flow", "notifications_circuit"),
            *("users_forgetting", "users_address", "users_recipient"),
        ):
            cursor.execute(f"DELETE FROM {table}")


@contextmanager
def surroundings() -> Iterator[None]:
    """A vendor for e-mail, which is never spoken to, and nobody to wake."""
    vendor = override_settings(EMAIL_URL="smtp://mail.example.com", UNKNOWN_REVIEW_AFTER=600.0)
    with vendor, ExitStack() as patched:
        for place in ("intake", "changes", "receipts"):
            patched.enter_context(patch(f"notifications.{place}.wake"))
        try:
            yield
        finally:
            OpenTransaction.close()
