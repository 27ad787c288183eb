"""Drill 34 in small: a few hundred steps of the model, and proof that it notices a broken engine."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from drills import model
from drills.promises import BrokenPromiseError
from notifications import queue, sweeping

pytestmark = pytest.mark.django_db(transaction=True)


def play(examples, steps, **chosen):
    plan = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **chosen,
    )
    with model.surroundings():
        run_state_machine_as_test(model.Engine, settings=plan)


def test_no_promise_is_broken_whatever_dies_where():
    play(examples=int(__import__("os").environ.get("EX", "10")), steps=50)


BREAKS = {
    "settle ignores the fence": (queue, "SETTLE", "AND n.fence = s.fence\n", "\n"),
    "settle overwrites an end": (
        *(queue, "SETTLE", "n.leased_until IS NULL))", "n.leased_until IS NULL) OR true)"),
    ),
    "settle counts a second answer": (queue, "SETTLE", "AND a.outcome IS NULL\n", "\n"),
    "begin needs no lease": (queue, "BEGIN", "AND n.leased_until > clock_timestamp()\n", "\n"),
    "begin ignores the fence": (queue, "BEGIN", "AND n.fence = claimed.fence", ""),
    "begin records no attempt": (queue, "BEGIN", "FROM begun\n", "FROM begun WHERE false\n"),
    "claim does not raise the fence": (queue, "CLAIM", "fence = n.fence + 1", "fence = n.fence"),
    "give back ignores the fence": (queue, "GIVE_BACK", "AND n.fence = claimed.fence", ""),
    "the sweep makes sending due again": (
        *(sweeping, "LAPSE_SENDING", "n.provider = ANY(%(repeatable)s)", "true"),
    ),
    "the policy resends for ever": (sweeping, "REVIEW_UNKNOWN", "AND resends = 0", ""),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_model_notices_a_broken_engine(name, monkeypatch):
    module, statement, part, instead = BREAKS[name]
    broken = getattr(module, statement)
    assert part in broken
    monkeypatch.setattr(module, statement, broken.replace(part, instead))
    with pytest.raises(BrokenPromiseError):
        play(examples=150, steps=50, phases=[Phase.generate])
