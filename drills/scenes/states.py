"""The state machine itself: every order of events, instead of the few that a drill with processes meets."""

from __future__ import annotations

import json
import random

from drills.catalogue import drill
from drills.processes import BIN
from drills.run import Run

#: Lines of the log that are shown when a promise was broken: the story, and what was wrong.
SHOWN = 60


@drill(
    "state-machine",
    number=34,
    breaks="10,000 statements of a model: workers die or freeze anywhere, answers are lost, statements overlap",
    holds="no promise broken after any of them; with healthy workers and time, all come to an end",
    limit=1200,
)
def state_machine(run: Run) -> None:
    seed = random.randrange(10**6)
    run.figure("seed", seed)
    with run.stack() as stack:
        arguments = "-m", "drills.play", str(run.scale(10_000, 400)), str(seed)
        model = stack.start("model", str(BIN / "python"), *arguments, revived=False)
        # A broken promise takes its time: the story is made as short as it can be.
        model.wait(1000)
        lines = model.log.read_text().splitlines()
    try:
        seen = json.loads("".join(lines[-1:]))
    except ValueError:
        run.note("\n".join(lines[-SHOWN:]))
        run.expect(f"no promise is broken (seed {seed})", False)
        return
    for name, number in seen.items():
        run.figure(name, number)
