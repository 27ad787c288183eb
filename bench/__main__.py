"""`python -m bench create | deliver | idle`: ratios measured in one run, on the real stack.

The machines that run this are shared and noisy: compare ratios, never absolute figures. Each benchmark brings its own
servers up in var/bench and takes them down again; nothing of a running `script/server` is touched.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    create = names.add_parser("create", help="POST /notifications beside an empty DRF view")
    create.add_argument("--connections", type=int, default=16)
    create.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    create.add_argument("--rounds", type=int, default=3)
    deliver = names.add_parser("deliver", help="20,000 due rows beside Celery's no-op tasks")
    deliver.add_argument("--rows", type=int, default=20_000)
    latency = names.add_parser("latency", help="POST to hand-over on an idle system")
    latency.add_argument("--posts", type=int, default=100)
    idle = names.add_parser("idle", help="memory and processor of script/server at rest")
    idle.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()

    os.environ.setdefault("VAR_DIR", str(Path(__file__).parent.parent / "var" / "bench"))
    os.environ.setdefault("LOG_LEVEL", "WARNING" if options.name != "create" else "INFO")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")
    # The limiter is on and counts every request; its limit is out of reach.
    os.environ.setdefault("RATE_LIMIT", "100000000/60")
    if options.name == "idle":
        from bench import idle as benchmark
    else:
        import django

        django.setup()
        from bench import stack

        stack.prepare_database()
        from importlib import import_module

        benchmark = import_module(f"bench.{options.name}")
    arguments = {name: value for name, value in vars(options).items() if name != "name"}
    benchmark.run(**arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
