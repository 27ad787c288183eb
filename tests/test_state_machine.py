"""Drill 34 in small: some hundred statements of the model, and proof that it notices a broken engine."""

from collections.abc import Callable
from types import ModuleType

import pytest

from drills import model
from drills.model import Engine
from drills.promises import BrokenPromiseError
from notifications import queue, receipts, sweeping

pytestmark = pytest.mark.django_db(transaction=True)

A_LEASE, A_REVIEW = 65, 660


def test_no_promise_is_broken_whatever_dies_where() -> None:
    with model.surroundings():
        model.play(examples=15, steps=40, seed=34)


# -- Stories in which one guard of the engine matters ---------------------------------------------------


def go_unknown(engine: Engine) -> None:
    """Worker 0 begins, and then stands still for longer than its lease."""
    engine.drain(number=0, which=0, limit=10, begins=True)
    engine.time_passes(A_LEASE, swept=True)


def begin_a_resend(engine: Engine) -> None:
    """The policy makes it due again, and worker 1 begins it, while worker 0 still has the first call."""
    go_unknown(engine)
    engine.time_passes(A_REVIEW, swept=True)
    engine.drain(number=1, which=0, limit=10, begins=True)


def answer_late(engine: Engine) -> None:
    begin_a_resend(engine)
    engine.answer(number=0, answer="temporary", stored=True)


def answer_after_the_end(engine: Engine) -> None:
    go_unknown(engine)
    engine.meddle(number=0, change="give_up")
    engine.answer(number=0, answer="sent", stored=True)


def settle_twice(engine: Engine) -> None:
    """A first answer that changes the row, and its repetition after the row has gone on."""
    engine.drain(number=0, which=0, limit=10, begins=True)
    engine.answer(number=0, answer="temporary", stored=True)
    engine.settle_once_more(number=0, which=0)


def begin_late(engine: Engine) -> None:
    """Worker 0 claims, and begins when its lease is over."""
    engine.drain(number=0, which=0, limit=10, begins=False)
    engine.time_passes(A_LEASE, swept=False)
    engine.use_claim(number=0, how="begin")


def use_an_old_claim(engine: Engine, how: str) -> None:
    """Worker 1 has claimed meanwhile what worker 0 still holds."""
    engine.drain(number=0, which=0, limit=10, begins=False)
    engine.time_passes(A_LEASE, swept=True)
    engine.drain(number=1, which=0, limit=10, begins=False)
    engine.use_claim(number=0, how=how)


def stay_unknown(engine: Engine) -> None:
    begin_a_resend(engine)
    engine.time_passes(A_LEASE, swept=True)
    engine.time_passes(A_REVIEW, swept=True)


def begin_in_spite_of_a_circuit(engine: Engine) -> None:
    """Worker 0 claims before worker 1 hears that our password is wrong."""
    engine.submit("email.normal", "ben", "")
    engine.drain(number=0, which=0, limit=1, begins=False)
    engine.drain(number=1, which=0, limit=1, begins=True)
    engine.answer(number=0, answer="misconfigured", stored=True)
    engine.use_claim(number=0, how="begin")


def report_in_the_wrong_order(engine: Engine) -> None:
    """Delivered before the call is answered, and only then that it was sent."""
    go_unknown(engine)
    engine.report(number=0, event="delivered")
    engine.report(number=0, event="sent")


def report_after_the_end(engine: Engine) -> None:
    go_unknown(engine)
    engine.meddle(number=0, change="give_up")
    engine.report(number=0, event="delivered")


def answer_after_a_report(engine: Engine) -> None:
    engine.drain(number=0, which=0, limit=10, begins=True)
    engine.report(number=0, event="delivered")
    engine.answer(number=0, answer="sent", stored=True)


Story = Callable[[Engine], None]
#: What is wrong with the engine: the module, its statement, what is in there and what instead; and the story.
BREAKS: dict[str, tuple[ModuleType, str, str, str, Story]] = {
    "settle ignores the fence": (
        *(queue, "SETTLE", "AND n.fence = s.fence\n", "\n"),
        answer_late,
    ),
    "settle overwrites an end": (
        *(queue, "SETTLE", "n.leased_until IS NULL))", "n.leased_until IS NULL) OR true)"),
        answer_after_the_end,
    ),
    "settle counts an answer twice": (
        *(queue, "SETTLE", "AND a.outcome IS NULL\n", "\n"),
        settle_twice,
    ),
    "begin needs no lease": (
        *(queue, "BEGIN", "AND n.leased_until > clock_timestamp()\n", "\n"),
        begin_late,
    ),
    "begin ignores the fence": (
        *(queue, "BEGIN", "AND n.fence = claimed.fence", ""),
        lambda engine: use_an_old_claim(engine, "begin"),
    ),
    "begin records no attempt": (
        *(queue, "BEGIN", "FROM begun\n", "FROM begun WHERE false\n"),
        go_unknown,
    ),
    "begin asks for no circuit": (
        *(queue, "BEGIN", "claimed.probe OR", "true OR"),
        begin_in_spite_of_a_circuit,
    ),
    "claim does not raise the fence": (
        *(queue, "CLAIM", "fence = n.fence + 1", "fence = n.fence"),
        go_unknown,
    ),
    "give back ignores the fence": (
        *(queue, "GIVE_BACK", "AND n.fence = claimed.fence", ""),
        lambda engine: use_an_old_claim(engine, "give_back"),
    ),
    "the sweep makes due what may have been sent": (
        *(sweeping, "LAPSE_SENDING", "n.provider = ANY(%(repeatable)s)", "true"),
        go_unknown,
    ),
    "the policy resends for ever": (
        *(sweeping, "REVIEW_UNKNOWN", "n.resends = 0 AND", ""),
        stay_unknown,
    ),
    "a receipt goes backwards": (
        *(receipts, "_MOVE", "(n.status = 'delivered' AND told.status = 'failed')", "true"),
        report_in_the_wrong_order,
    ),
    "a receipt overwrites an end": (
        *(receipts, "_MOVE", "'unknown')\n    OR", "'unknown', 'failed')\n    OR"),
        report_after_the_end,
    ),
    "a receipt settles nothing that is unknown": (
        *(receipts, "_MOVE", "'pending', 'sending', 'unknown'", "'pending', 'sending'"),
        report_in_the_wrong_order,
    ),
    "settle takes a receipt back": (
        *(queue, "SETTLE", "n.leased_until IS NULL))", "n.leased_until IS NULL) OR true)"),
        answer_after_a_report,
    ),
}


def tell(*stories: Story) -> None:
    """Each from the beginning to the end, at which all must be at rest."""
    with model.surroundings():
        for story in stories:
            engine = Engine()
            engine.begin_with(["email.normal"], policy="resend", overlapping=False)
            story(engine)
            engine.teardown()


@pytest.mark.parametrize("name", BREAKS)
def test_the_model_notices_a_broken_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has nothing to say against the same story with the engine as it is."""
    module, statement, part, instead, story = BREAKS[name]
    tell(story)
    whole = getattr(module, statement)
    assert part in whole
    monkeypatch.setattr(module, statement, whole.replace(part, instead))
    with pytest.raises(BrokenPromiseError):
        tell(story)


# -- Each with each, at the same moment ------------------------------------------------------------------


def change(how: str) -> Story:
    return lambda engine: engine.meddle(number=0, change=how)


def answer(how: str) -> Story:
    return lambda engine: engine.answer(number=0, answer=how, stored=True)


def report(event: str) -> Story:
    return lambda engine: engine.report(number=0, event=event)


#: What may happen to one that is unknown and due for its review, while worker 0 may still answer.
HAPPENINGS: dict[str, Story] = {
    **{how: change(how) for how in ("cancel", "retry", "resend", "vouch", "give_up", "forget")},
    **{f"answered {how}": answer(how) for how in ("sent", "temporary", "ambiguous")},
    **{f"reported {event}": report(event) for event in ("sent", "delivered", "bounced")},
    "sweep": lambda engine: engine.sweep(),
    "submit": lambda engine: engine.submit("email.normal", "ann", ""),
    "drain": lambda engine: engine.drain(number=1, which=0, limit=10, begins=True),
}


@pytest.mark.parametrize("first", HAPPENINGS)
@pytest.mark.parametrize("reviewed", [False, True], ids=["unknown", "due again by policy"])
def test_two_things_may_happen_at_the_same_moment(first: str, reviewed: bool) -> None:
    """The first has not committed when the second begins; neither waits for the other for ever."""

    def story_with(second: Story) -> Story:
        def story(engine: Engine) -> None:
            go_unknown(engine)
            engine.time_passes(A_REVIEW, swept=reviewed)
            engine.overlapping = True
            HAPPENINGS[first](engine)
            second(engine)

        return story

    tell(*map(story_with, HAPPENINGS.values()))
