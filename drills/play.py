"""Plays the model (model.py) until enough statements have been checked, and says what it has seen as JSON.

    python -m drills.play STATEMENTS SEED

On the database of DATABASE_URL, which it empties. Ends with 1, and the shortest story that it found, when a promise was
broken; the same seed finds it again.
"""

from __future__ import annotations

import json
import sys

import django

#: What happens in each example, and how many of them there are between two looks at how far it has come.
STEPS, EXAMPLES = 50, 100


def main(statements: int, seed: int) -> None:
    django.setup()
    from drills import model

    with model.surroundings():
        while model.Engine.seen["statements"] < statements:
            model.play(min(EXAMPLES, statements // STEPS), STEPS, seed=seed)
            seed += 1
    print(json.dumps(model.Engine.seen), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
