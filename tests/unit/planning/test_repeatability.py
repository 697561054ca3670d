"""The same problem gives the same table, byte for byte, in any process; problems and tables cross processes whole."""

import os
import subprocess
import sys
from random import Random

import msgspec
import pytest

from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from worlds.problems import random_graph, random_problem

ELSEWHERE = """
import sys, msgspec
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
for problem in msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[Problem]):
    sys.stdout.buffer.write(msgspec.json.encode(compute(problem)) + b"\\n")
"""


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    made = [random_problem(Random(seed), random_graph(Random(seed), 4), is_hard=bool(seed % 2)) for seed in range(4)]
    fitting = [
        msgspec.structs.replace(problem, nodes=(msgspec.structs.replace(problem.nodes[0], memory_mib=32_000.0),))
        for problem in made
    ]
    return [*fitting, msgspec.structs.replace(fitting[0], current=compute(fitting[0]).winner.plan, objective="billed")]


def test_problems_and_tables_survive_message_pack(problems: list[Problem]) -> None:
    for problem in problems:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(problem), type=Problem) == problem
        table = compute(problem)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(table), type=PlanTable) == table


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_another_process_with_another_hash_seed_gives_the_same_bytes(problems: list[Problem], hash_seed: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=msgspec.msgpack.encode(problems),
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        timeout=120,
    )
    assert result.stdout.splitlines() == [msgspec.json.encode(compute(problem)) for problem in problems]
