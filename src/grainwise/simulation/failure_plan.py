"""What fails, when and for how long: by schedule or at random. A plan expands to instants that depend on its seed alone."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.rng import Rng
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.simulation.declared import read_declared
from grainwise.workloads.durations import EXAMPLES, seconds_of
from grainwise.workloads.integers import SplitMix64, exponential

FailureKind = Literal["crash", "hang", "slow", "lose_node", "return_node"]
KINDS: tuple[FailureKind, ...] = ("crash", "hang", "slow", "lose_node", "return_node")

MAX_FAILURES = 1_000_000
_MAX_SECONDS = 1e9
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """What a failure may strike; an empty field leaves it open. ``stage`` means a function that holds this stage.

    ``crash`` and ``hang`` strike one instance among those that fit all three fields, ``lose_node`` and ``return_node`` one
    node. ``slow`` strikes a node and everything on it, or one instance where ``app`` is given.
    """

    app: str = ""
    stage: str = ""
    node: str = ""

    def __str__(self) -> str:
        """As ``app/stage@node``, with what is open left out."""
        instance = f"{self.app}/{self.stage}" if self.stage else self.app
        return (f"{instance}@{self.node}" if self.node else instance) or "any"


class PlannedFailure(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a plan: at the instant ``at_us``, or again and again with the mean gap ``mtbf_us``.

    ``mtbf_us`` counts over everything that fits the target, so doubling the instances does not double the failures.
    ``duration_us`` 0 lasts: a hang until the controller ends it, a slowness or a loss for good. ``factor`` multiplies the run
    times of what is slow. Random entries of one ``stream`` share their draws; by default each has its own.
    """

    kind: FailureKind
    target: Target = Target()
    at_us: Instant | None = None
    mtbf_us: Micros | None = None
    duration_us: Micros = 0
    factor: float = 1.0
    stream: int = 0


class FailurePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is to fail in one run."""

    entries: tuple[PlannedFailure, ...] = ()


class Failure(Struct, frozen=True):
    """One failure, due at ``at_us``. Among ``n`` things that fit ``target``, in a fixed order, it strikes ``pick % n``.

    A lost node comes back ``duration_us`` later, a slow one recovers, a hanging instance goes on, unless that is 0.
    """

    at_us: Instant
    kind: FailureKind
    target: Target
    duration_us: Micros
    factor: float
    pick: int


def expand(plan: FailurePlan, duration_us: Micros, rng: Rng) -> list[Failure]:
    """The failures of a run of ``duration_us``, by instant, equal instants in the plan's order.

    One number is drawn from ``rng``; every entry draws from a stream of its own, so one more entry moves no other's failures.

    Raises:
        ConfigurationError: an entry is expected to give more than ``MAX_FAILURES`` failures.
    """
    for entry in plan.entries:
        if entry.mtbf_us is not None and duration_us // entry.mtbf_us > MAX_FAILURES:
            raise ConfigurationError(
                f"the failures of {duration_us / SECOND:g} s would be more than {MAX_FAILURES}: "
                f"raise the mean time between failures of {entry.kind}, {entry.mtbf_us} us, or simulate less time"
            )
    base = rng.below(1 << 64)
    failures: list[Failure] = []
    for entry in plan.entries:
        stream = SplitMix64((base ^ (entry.stream + 1) * _GOLDEN) & _MASK)
        failures.extend(
            Failure(at, entry.kind, entry.target, entry.duration_us, entry.factor, stream.below(1 << 32))
            for at in _instants(entry, duration_us, stream)
        )
    failures.sort(key=lambda failure: failure.at_us)
    return failures


def _instants(entry: PlannedFailure, duration_us: Micros, stream: SplitMix64) -> Iterator[Instant]:
    """The instants of one entry, with exponential gaps of at least 1 µs, drawn as they are asked for."""
    if entry.mtbf_us is None:
        if entry.at_us is not None and entry.at_us < duration_us:
            yield entry.at_us
        return
    at = max(1, exponential(stream, entry.mtbf_us))
    while at < duration_us:
        yield at
        at += max(1, exponential(stream, entry.mtbf_us))


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a failure file."""

    kind: FailureKind
    at_s: Annotated[float, Meta(ge=0, le=_MAX_SECONDS, description="when it happens once")] | None = None
    mtbf_s: Annotated[float, Meta(ge=1e-6, le=_MAX_SECONDS, description="mean time between failures")] | None = None
    for_s: Annotated[float, Meta(ge=0, le=_MAX_SECONDS, description="how long it lasts; 0: for good")] = 0.0
    factor: Annotated[float, Meta(ge=1, le=1e6, description="how many times longer slow things take")] | None = None
    app: str = ""
    stage: str = ""
    node: str = ""
    stream: Annotated[int, Meta(ge=0, le=(1 << 32) - 1, description="which random numbers it uses")] | None = None


class _FailureFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A failure file."""

    failures: Annotated[tuple[_Entry, ...], Meta(max_length=10_000, description="what fails")]


def read_failures(data: bytes, name: str) -> FailurePlan:
    """The plan that a YAML file declares; ``name`` is what errors call the file.

    Raises:
        ConfigurationError: a key is unknown, missing, out of its range or of no use to the kind of failure.
    """
    declared = read_declared(data, name, _FailureFile)
    return _plan(declared.failures, [f"{name}: failures[{at}]" for at in range(len(declared.failures))])


def parse_failures(text: str) -> FailurePlan:
    """The plan that a command line gives, such as ``crash:mtbf=60s,lose_node:at=30s:node=n3:for=60s``.

    Durations end in ``us``, ``ms``, ``s``, ``m``, ``h`` or ``d``; ``on=APP/STAGE`` is short for ``app=APP:stage=STAGE``.

    Raises:
        ConfigurationError: an entry names an unknown kind or key, or a value is out of its range.
    """
    entries, places = [], []
    for part in text.split(","):
        where = f"failure {part.strip()!r}"
        kind, *pairs = part.strip().split(":")
        if kind not in KINDS:
            raise ConfigurationError(
                f"{where}: {kind!r} is no kind of failure and {text!r} no file that can be read; "
                f"kinds are {', '.join(KINDS)}, as in crash:mtbf=60s:on=text"
            )
        raw: dict[str, object] = {"kind": kind}
        for pair in pairs:
            for key, value in _read_pair(pair, where):
                if key in raw:
                    raise ConfigurationError(f"{where}: {key} is given twice: give it once")
                raw[key] = value
        try:
            entries.append(msgspec.convert(raw, _Entry))
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{where}: {error}; kinds are {', '.join(KINDS)}, keys are {', '.join(_SHORT)}, as in crash:mtbf=60s:on=text"
            ) from error
        places.append(where)
    return _plan(entries, places)


_SHORT = {key: key for key in ("on", "app", "stage", "node", "factor", "stream")} | {
    "at": "at_s",
    "mtbf": "mtbf_s",
    "for": "for_s",
}
"""Keys of the short form; ``on`` alone is not one of a failure file."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _read_pair(pair: str, where: str) -> list[tuple[str, object]]:
    """The keys of a failure file that ``KEY=VALUE`` of the short form stands for."""
    key, equals, value = pair.partition("=")
    if key not in _SHORT or not equals or not value:
        raise ConfigurationError(f"{where}: {pair!r} is not KEY=VALUE with a known key: use one of {', '.join(_SHORT)}")
    if key == "on":
        app, slash, stage = value.partition("/")
        return [("app", app), ("stage", stage)] if slash else [("app", app)]
    if key in ("at", "mtbf", "for"):
        seconds = seconds_of(value)
        if seconds is None:
            raise ConfigurationError(f"{where}: {key} is {value!r}: give {EXAMPLES}")
        return [(_SHORT[key], seconds)]
    if key in ("factor", "stream"):
        if _NUMBER.fullmatch(value) is None or (key == "stream" and not value.isdigit()):
            raise ConfigurationError(f"{where}: {key} is {value!r}: give a {'whole ' if key == 'stream' else ''}number")
        return [(key, int(value) if key == "stream" else float(value))]
    return [(key, value)]


def _plan(entries: Sequence[_Entry], places: Sequence[str]) -> FailurePlan:
    return FailurePlan(tuple(_planned(entry, at, where) for at, (entry, where) in enumerate(zip(entries, places, strict=True))))


def _planned(entry: _Entry, position: int, where: str) -> PlannedFailure:
    """The entry in microseconds, after what no range of a single key can say."""
    for complaint in _complaints(entry):
        raise ConfigurationError(f"{where}: {complaint}")
    return PlannedFailure(
        kind=entry.kind,
        target=Target(entry.app, entry.stage, entry.node),
        at_us=None if entry.at_s is None else round(entry.at_s * SECOND),
        mtbf_us=None if entry.mtbf_s is None else max(1, round(entry.mtbf_s * SECOND)),
        duration_us=round(entry.for_s * SECOND),
        factor=1.0 if entry.factor is None else entry.factor,
        stream=position if entry.stream is None else entry.stream,
    )


def _complaints(entry: _Entry) -> list[str]:
    is_node_kind = entry.kind in ("lose_node", "return_node")
    checks = [
        ((entry.at_s is None) == (entry.mtbf_s is None), "give either at_s, to happen once, or mtbf_s, to happen at random"),
        (bool(entry.stage) and not entry.app, f"stage is {entry.stage!r} without app: name the app that has it"),
        (
            is_node_kind and bool(entry.app or entry.stage),
            f"app is {entry.app!r} and {entry.kind} strikes a node: name one with node, or none for any",
        ),
        (
            entry.kind == "slow" and entry.factor is None,
            "slow has no factor: give how many times longer things take, at least 1",
        ),
        (entry.kind != "slow" and entry.factor is not None, f"factor is {entry.factor} and only slow has one: leave it out"),
        (
            entry.kind in ("crash", "return_node") and entry.for_s > 0,
            f"for_s is {entry.for_s:g} and a {entry.kind} has no length: leave it out",
        ),
        (
            entry.kind == "lose_node" and entry.mtbf_s is not None and entry.for_s == 0,
            "lose_node at random would lose every node in time: give for_s, after which a lost node comes back",
        ),
    ]
    return [complaint for is_wrong, complaint in checks if is_wrong]
