"""Random small apps: a flow of calls, fan-outs and choices over integers, and what requests to it contain.

Every call site is a stage of its own name, so that running the flow on real integers tells how often each stage runs.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from grainwise import App, Batch, Slo, choose, each, sizes
from grainwise.domain.app import AppSpec
from grainwise.simulation.contents import Kind

Call = Callable[..., Any]
MAX_CALLS = 7


class RandomApp:
    """An app drawn from ``rng``."""

    def __init__(self, name: str, rng: Random) -> None:
        self.app = App(
            name,
            slo=Slo(latency_ms=rng.choice((50, 200, 500, 2000)), target=rng.choice((0.9, 0.99))),
            reject_late=rng.random() < 0.2,
        )
        self._rng = rng
        self._made = 0
        self._left = rng.randint(1, MAX_CALLS)
        steps = self._steps(1)

        @self.app.flow
        def flow(value: int) -> int:
            return _through(steps, value)

        self.flow = flow
        self.spec: AppSpec = self.app.spec(name.encode())

    def kinds(self, count: int) -> tuple[Kind, ...]:
        """Kinds of requests: what the flow really runs on ``count`` random integers."""
        graph = self.spec.graph
        found = []
        for _ in range(count):
            COUNTS.clear()
            self.flow(self._rng.randrange(1_000_000))
            found.append(
                Kind(
                    tuple(COUNTS[node.name] for node in graph.stages),
                    tuple(self._rng.choice((0.5, 1.0, 3.0)) for _ in graph.stages),
                    tuple(self._rng.choice((10, 5_000, 300_000)) for _ in graph.stages),
                    tuple(self._rng.choice((100, 50_000)) for _ in graph.input_names),
                )
            )
        return tuple(found)

    # What a flow is made of

    def _steps(self, depth: int) -> list[Call]:
        """One or more steps from an integer to an integer."""
        rng = self._rng
        steps = [self._step(depth)]
        while self._left > 0 and rng.random() < 0.75:
            steps.append(self._step(depth))
        return steps

    def _step(self, depth: int) -> Call:
        rng, draw = self._rng, self._rng.random()
        self._left -= 1
        if depth > 2 or self._left < 1 or draw < 0.5:
            return self._plain()
        if draw < 0.62:
            left, right, join = self._plain(), self._plain(), self._two()
            self._left -= 2
            return lambda value: join(left(value), right(value))
        if draw < 0.83:
            cut, body, total = self._cut(), self._steps(depth + 1), self._total()
            self._left -= 2
            if rng.random() < 0.3:
                return lambda value: total(each(lambda item: _through(body, item), cut(value)))
            join = self._two()
            return lambda value: total(each(lambda item: join(_through(body, item), value), cut(value)))
        key, low, high = self._key(), self._steps(depth + 1), self._steps(depth + 1)
        rest = self._plain()
        self._left -= 1
        return lambda value: choose(
            key(value),
            {"a": lambda item: _through(low, item), "b": lambda item: _through(high, item)},
            value,
            otherwise=rest,
        )

    # Stages

    def _declare(self, kind: type, size: Any = sizes.one) -> Call:
        self._made += 1
        name = f"s{self._made}"
        made = type(name, (kind,), {"name": name, "__module__": __name__})
        return self.app.stage(made, name=name, max_batch=self._rng.choice((1, 2, 4, 8)), size=size)

    def _plain(self) -> Call:
        return self._declare(Plain)

    def _two(self) -> Call:
        return self._declare(Two)

    def _cut(self) -> Call:
        return self._declare(Cut)

    def _total(self) -> Call:
        return self._declare(Total, sizes.length)

    def _key(self) -> Call:
        return self._declare(Key)


COUNTS: Counter[str] = Counter()
"""Executions of stages by name, since it was last cleared."""


class Plain:
    name = ""

    def __call__(self, values: Batch[int]) -> Batch[int]:
        COUNTS[self.name] += len(values)
        return [mixed(value, self.name) for value in values]


class Two:
    name = ""

    def __call__(self, lefts: Batch[int], rights: Batch[int]) -> Batch[int]:
        COUNTS[self.name] += len(lefts)
        return [mixed(left + right, self.name) for left, right in zip(lefts, rights, strict=True)]


class Cut:
    name = ""

    def __call__(self, values: Batch[int]) -> Batch[list[int]]:
        COUNTS[self.name] += len(values)
        return [[mixed(value + at, self.name) for at in range(mixed(value, self.name) % 5)] for value in values]


class Total:
    name = ""

    def __call__(self, lists: Batch[list[int]]) -> Batch[int]:
        COUNTS[self.name] += len(lists)
        return [mixed(sum(values), self.name) for values in lists]


class Key:
    name = ""

    def __call__(self, values: Batch[int]) -> Batch[str]:
        COUNTS[self.name] += len(values)
        return ["abc"[mixed(value, self.name) % 3] for value in values]


def mixed(value: int, salt: str) -> int:
    """A number that looks random, from a number and the name of a stage."""
    value = (value * 2_654_435_761 + int(salt[1:]) * 40_503 + 12_345) & 0xFFFFFFFF
    return (value ^ (value >> 15)) % 1_000_003


def _through(steps: list[Call], value: Any) -> Any:
    for step in steps:
        value = step(value)
    return value
