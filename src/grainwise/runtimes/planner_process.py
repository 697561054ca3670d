"""The process that ``ProcessPlanner`` talks to: problems on standard input, answers on standard output."""

import contextlib
import importlib
import os
import signal
import sys
from typing import BinaryIO

import msgspec

from grainwise.planning.problem import Problem
from grainwise.runtimes.local.lifeline import die_with_parent
from grainwise.runtimes.planner import Compute, PlannerAnswer

_NICENESS = 10
"""Requests come first: a plan is worth nothing if making it makes them late."""


def answer(compute: Compute, body: bytes) -> bytes:
    """The encoded answer to one encoded problem; an error of the planner is an answer too."""
    try:
        reply = PlannerAnswer(compute(msgspec.msgpack.decode(body, type=Problem)))
    except Exception as error:  # noqa: BLE001 - whatever the planner raises is reported, and the present plan stays
        reply = PlannerAnswer(None, f"{type(error).__name__}: {error}")
    return msgspec.msgpack.encode(reply)


def serve(compute: Compute, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until ``source`` ends."""
    while len(head := source.read(4)) == 4:
        reply = answer(compute, source.read(int.from_bytes(head, "big")))
        sink.write(len(reply).to_bytes(4, "big") + reply)
        sink.flush()


def _stand_back() -> None:
    """Run when nobody else wants to, where the kernel knows of that: niceness counts for little against groups of instances."""
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(_NICENESS)


def main() -> None:
    """Entry point: the planner as ``module:function``, and the server's process id."""
    # Ctrl-C in a terminal goes to every process of the group; the server ends this one when it has no more use for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        die_with_parent(int(sys.argv[2]))
    _stand_back()
    # Whatever a planner prints goes where errors go: standard output carries frames.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module, _, name = sys.argv[1].partition(":")
    compute: Compute = getattr(importlib.import_module(module), name)
    serve(compute, sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
