"""Small apps of every shape that a flow can have; their stages are exact on integers, so that each answer can be checked."""

from functools import cache

from grainwise import App, Batch, Slo, choose, each, sizes


def plus_one(values: Batch[int]) -> Batch[int]:
    return [value + 1 for value in values]


def double(values: Batch[int]) -> Batch[int]:
    return [2 * value for value in values]


def negate(values: Batch[int]) -> Batch[int]:
    return [-value for value in values]


def add(lefts: Batch[int], rights: Batch[int]) -> Batch[int]:
    return [left + right for left, right in zip(lefts, rights, strict=True)]


def spread(values: Batch[int]) -> Batch[list[int]]:
    return [[value * 10 + index for index in range(value % 5)] for value in values]


def total(lists: Batch[list[int]]) -> Batch[int]:
    return [sum(values) for values in lists]


def kind(values: Batch[int]) -> Batch[str]:
    return [("low", "high", "other")[value % 3] for value in values]


def parity(values: Batch[int]) -> Batch[bool]:
    return [value % 2 == 0 for value in values]


class Stages:
    """The stages of one app."""

    def __init__(self, name: str, max_batch: int, slo_ms: float, reject_late: bool = False) -> None:
        self.app = App(name, slo=Slo(latency_ms=slo_ms), reject_late=reject_late)
        declare = self.app.stage
        self.plus_one = declare(plus_one, max_batch=max_batch)
        self.double = declare(double, max_batch=max_batch)
        self.negate = declare(negate, max_batch=max_batch)
        self.add = declare(add, max_batch=max_batch)
        self.spread = declare(spread, max_batch=max_batch)
        self.total = declare(total, max_batch=max_batch, size=sizes.length)
        self.kind = declare(kind, max_batch=max_batch)
        self.parity = declare(parity, max_batch=max_batch)


def chain(max_batch: int = 4, *, name: str = "chain", slo_ms: float = 1000, reject_late: bool = False) -> App:
    s = Stages(name, max_batch, slo_ms, reject_late)

    @s.app.flow
    def flow(value: int) -> int:
        return s.plus_one(s.negate(s.double(s.plus_one(value))))

    return s.app


def diamond(max_batch: int = 4) -> App:
    s = Stages("diamond", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        seen = s.plus_one(value)
        return s.add(s.double(seen), s.negate(seen))

    return s.app


def fan(max_batch: int = 4) -> App:
    s = Stages("fan", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        return s.total(each(lambda item: s.double(s.plus_one(item)), s.spread(value)))

    return s.app


def listed(max_batch: int = 4) -> App:
    s = Stages("listed", max_batch, 1000)

    @s.app.flow
    def flow(values: list[int]) -> list[int]:
        return each(s.double, values)

    return s.app


def nested(max_batch: int = 4) -> App:
    s = Stages("nested", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> list[int]:
        def inner(item: int) -> int:
            return s.add(item, s.total(each(lambda leaf: s.add(leaf, item), s.spread(item))))

        return each(inner, s.spread(value))

    return s.app


def twice(max_batch: int = 4) -> App:
    s = Stages("twice", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        return s.total(each(s.plus_one, each(s.double, s.spread(value))))

    return s.app


def choice(max_batch: int = 4) -> App:
    s = Stages("choice", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        made = choose(s.kind(value), {"low": s.plus_one, "high": lambda v: s.negate(s.double(v))}, value, otherwise=s.negate)
        return s.double(made)

    return s.app


def choice_within(max_batch: int = 4) -> App:
    s = Stages("choice-within", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        def body(item: int) -> int:
            return choose(s.parity(item), {True: s.double, False: lambda v: s.plus_one(s.negate(v))}, item)

        return s.total(each(body, s.spread(value)))

    return s.app


def choice_of_lists(max_batch: int = 4) -> App:
    s = Stages("choice-of-lists", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        items = s.spread(value)
        made = choose(
            s.parity(value), {True: lambda v: each(s.double, v), False: lambda v: each(s.plus_one, each(s.negate, v))}, items
        )
        return s.total(made)

    return s.app


def choice_on_element(max_batch: int = 4) -> App:
    s = Stages("choice-on-element", max_batch, 1000)

    @s.app.flow
    def flow(values: list[int]) -> list[int]:
        return each(lambda value: choose(value, {0: s.plus_one, 1: s.double}, value, otherwise=s.negate), values)

    return s.app


def outer(max_batch: int = 4) -> App:
    s = Stages("outer", max_batch, 1000)

    @s.app.flow
    def flow(value: int, other: int) -> int:
        base = s.double(other)
        return s.total(each(lambda item: s.add(item, base), s.spread(value)))

    return s.app


def several(max_batch: int = 4) -> App:
    s = Stages("several", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> tuple[int, list[int], list[int]]:
        items = s.spread(value)
        return s.total(items), each(s.double, items), items

    return s.app


def late_key(max_batch: int = 4) -> App:
    """A fan-out whose list is known before the key that decides whether it is to be taken apart."""
    s = Stages("late-key", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        key = s.parity(s.negate(s.plus_one(value)))

        def body(item: int) -> int:
            branches = {True: lambda v: s.total(each(s.double, v)), False: s.total}
            return choose(key, branches, s.spread(item))

        return s.total(each(body, s.spread(value)))

    return s.app


def unread(max_batch: int = 4) -> App:
    """A stage whose results no one reads."""
    s = Stages("unread", max_batch, 1000)

    @s.app.flow
    def flow(value: int) -> list[int]:
        def body(item: int) -> int:
            made = s.double(item)
            s.negate(made)
            return made

        return each(body, s.spread(value))

    return s.app


SHAPES = {
    make.__name__: cache(make)
    for make in (
        chain,
        diamond,
        fan,
        listed,
        nested,
        twice,
        choice,
        choice_within,
        choice_of_lists,
        choice_on_element,
        outer,
        several,
        late_key,
        unread,
    )
}
"""A maker of each shape by its name; the same app is returned for the same batch."""
