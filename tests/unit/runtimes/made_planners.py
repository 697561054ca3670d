"""Planners for the process that plans, each with a way of its own to answer; imported there by name."""

import os
from pathlib import Path

from grainwise.domain.errors import InfeasibleError
from grainwise.planning.problem import PlanTable, Problem


def answer(problem: Problem) -> PlanTable:
    """An empty table that says which process made it."""
    return PlanTable(problem.number, (), str(os.getpid()), True)


def refuse(problem: Problem) -> PlanTable:
    raise InfeasibleError("it does not fit")


def stumble(problem: Problem) -> PlanTable:
    raise ZeroDivisionError("by nought")


def chatter(problem: Problem) -> PlanTable:
    print("a planner that talks")
    return answer(problem)


def die_on_odd(problem: Problem) -> PlanTable:
    if problem.number % 2:
        os._exit(7)
    return answer(problem)


def stop_at_the_gate(problem: Problem) -> PlanTable:
    """Tell the pid through one pipe, then wait at another for ever."""
    with Path(os.environ["PLANNER_PID"]).open("w") as pipe:
        pipe.write(str(os.getpid()))
    with Path(os.environ["PLANNER_GATE"]).open() as pipe:
        pipe.read()
    return answer(problem)
