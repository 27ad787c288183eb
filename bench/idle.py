"""What `script/server` costs while nothing happens: memory (PSS) and processor, all processes together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from bench import stack
from bench.figures import Figures

#: Seconds until everything has started and warmed up.
SETTLE = 20


def run(seconds: float) -> Figures:
    port = stack.free_port()
    environment = os.environ | {"PORT": str(port)}
    environment.pop("LOG_LEVEL")
    server = subprocess.Popen(
        [str(stack.ROOT / "script" / "server")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        stack.wait_for(f"http://127.0.0.1:{port}/readyz", 180)
        time.sleep(SETTLE)
        found = _processes(server.pid)
        before = _cpu(found)
        time.sleep(seconds)
        share = (_cpu(found) - before) / seconds
        for process in sorted(found, key=_pss, reverse=True):
            print(f"{_pss(process):8.1f} MB  {' '.join(process.cmdline())[:100]}")
        return {
            "memory of all processes (PSS), MB": sum(map(_pss, found)),
            "processes": len(found),
            "processor, of one core": share,
        }
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=120)


def _processes(pid: int) -> list[psutil.Process]:
    """Everything script/server started, and the embedded servers, which are nobody's children."""
    tree = {pid: psutil.Process(pid)}
    tree |= {child.pid: child for child in tree[pid].children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid not in tree and os.environ["VAR_DIR"] in " ".join(process.cmdline()):
            tree[process.pid] = process
            tree |= {child.pid: child for child in process.children(recursive=True)}
    return list(tree.values())


def _pss(process: psutil.Process) -> float:
    """Proportional set size in MB: shared pages are counted once over all."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def _cpu(found: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in found]
    return sum(each.user + each.system for each in times)
