"""Made apps: chains, diamonds and fan-outs whose run times, batching gain, memory and bytes are drawn from a seed.

They are what a predictor is trained on beside profiled apps, so that it has seen more kinds of apps than anybody has profiled.
Every draw is integer or plain arithmetic: a seed gives the same app on every interpreter.
"""

from collections.abc import Sequence
from functools import cache

from msgspec import Struct

from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Input, Output, StageNode
from grainwise.domain.machine import HopModel
from grainwise.domain.rng import Rng
from grainwise.domain.values import ValueType
from grainwise.predictors.fit import hop_model, latency_model, residuals, workload_of
from grainwise.predictors.latency import RESIDUAL_LEVELS, ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.profiles.artifact import Profile, digest
from grainwise.simulation.app import kinds_of
from grainwise.simulation.contents import Kind
from grainwise.workloads.integers import uniform
from grainwise.workloads.quantiles import gamma

_NUMBER = ValueType(kind="integer", annotation="int")
_LIST = ValueType(kind="list", annotation="list[int]", element=_NUMBER)
_RESIDUALS = 64
_CORES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class Sample(Struct, frozen=True):
    """An app without its SLO, its load and its machines: what was measured, or made up, about its stages.

    ``source`` is the name of the profiled app, or the shape of a made one; ``profile_digest`` is empty for a made one.
    ``workload`` is at one request per second.
    """

    source: str
    spec: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    kinds: tuple[Kind, ...]
    residuals: tuple[tuple[float, ...], ...]
    hop_residuals: tuple[float, ...] = ()
    profile_digest: str = ""


def profiled(profile: Profile, spec: AppSpec) -> Sample:
    """An app as it was profiled.

    Raises:
        ArtifactError: a stage has no usable point.
    """
    return Sample(
        source=spec.name,
        spec=spec,
        model=latency_model(profile, spec),
        hop=hop_model(profile),
        workload=workload_of(profile, 1.0),
        kinds=kinds_of(profile),
        residuals=residuals(profile),
        hop_residuals=profile.calibration.hop_residuals if profile.calibration is not None else (),
        profile_digest=digest(profile),
    )


def made(rng: Rng) -> Sample:
    """An app of a drawn shape, of 3 to 5 stages."""
    shape = ("chain", "chain", "diamond", "fan-out", "fan-out")[rng.below(5)]
    if shape == "chain":
        graph = _chain(3 + rng.below(3))
    elif shape == "diamond":
        graph = _graph((Input(0),), (Output(0),), (Output(0),), (Output(1), Output(2)))
    else:
        graph = _fan_out(1 + rng.below(2))
    count = len(graph.stages)
    models, noise = zip(*(_stage(rng, bool(node.scope)) for node in graph.stages), strict=True)
    kinds = _kinds(rng, graph)
    mean = [sum(kind.counts[at] for kind in kinds) / len(kinds) for at in range(count)]
    sizes = [sum(kind.counts[at] * kind.sizes[at] for kind in kinds) / max(1e-9, len(kinds) * mean[at]) for at in range(count)]
    stages = tuple(
        StageSpec(node.declared, (_NUMBER,), _LIST if _is_taken_apart(graph, at) else _NUMBER, max_batch=1 << rng.below(5))
        for at, node in enumerate(graph.stages)
    )
    model = LatencyModel(tuple(models), ColdStartModel(spread(rng, 20_000, 3), spread(rng, 20_000, 5)), "made", "made")
    spec = AppSpec(f"made-{shape}", Slo(1000.0), graph, stages, (_NUMBER,), (_NUMBER,), "made", "made")
    workload = Workload(
        1.0, tuple(mean), tuple(sizes), tuple(map(float, kinds[0].output_bytes)), tuple(map(float, kinds[0].input_bytes))
    )
    hop = HopModel(spread(rng, 150, 3), spread(rng, 100, 3), spread(rng, 80, 3), spread(rng, 60, 3), spread(rng, 12, 4))
    made_of = Sample(f"made {shape}", spec, model, hop, workload, kinds, tuple(noise))
    return _with_variants(made_of)


def spread(rng: Rng, low: float, octaves: int) -> float:
    """A value from ``low`` to ``low * 2**octaves``, every octave as likely."""
    return low * (1 << rng.below(octaves)) * (1 + uniform(rng))


def _with_variants(sample: Sample) -> Sample:
    """The same with the work of each kind of request relative to the mean, as ``Workload.variants`` has it."""
    if len(sample.kinds) == 1:
        return sample
    rows: list[list[float]] = []
    for at, stage in enumerate(sample.model.stages):
        work = [
            stage.predict(kind.counts[at], kind.counts[at] * kind.sizes[at], 1.0).mean_us if kind.counts[at] else 0.0
            for kind in sample.kinds
        ]
        mean = sum(work) / len(work)
        rows.append([each / mean if mean > 0 else 1.0 for each in work])
    old = sample.workload
    variants = tuple(zip(*rows, strict=True))
    workload = Workload(1.0, old.items, old.item_size, old.output_bytes, old.input_bytes, variants=variants)
    return Sample(
        sample.source, sample.spec, sample.model, sample.hop, workload, sample.kinds, sample.residuals, sample.hop_residuals
    )


def _stage(rng: Rng, is_inside: bool) -> tuple[StageModel, tuple[float, ...]]:
    """Run times between 10 and 320 ms (a quarter inside a fan-out), a part of which does not grow with the batch."""
    total = spread(rng, 10_000.0, 5) / (4 if is_inside else 1)
    fixed = total * uniform(rng)
    by_size = (total - fixed) * (uniform(rng) if rng.below(2) else 0.0)
    scales_to = (1.0, 2.0, 4.0)[rng.below(3)]
    parallel = 0.6 + 0.4 * uniform(rng)
    cores = tuple(each for each in _CORES if each <= max(1.0, scales_to))
    factors = tuple(1 / each if each <= 1 else 1 - parallel + parallel / each for each in cores)
    noise = _noise((1, 2, 3, 5)[rng.below(4)])
    levels = tuple(noise[min(_RESIDUALS - 1, int(level * _RESIDUALS))] for level in RESIDUAL_LEVELS)
    return StageModel(
        fixed, total - fixed - by_size, by_size, cores, factors, levels, 0.05,
        spread(rng, 15.0, 5), spread(rng, 10_000.0, 5), total,
    ), noise  # fmt: skip


@cache
def _noise(tenths: int) -> tuple[float, ...]:
    """Equally likely factors with mean 1 and about ``tenths`` / 10 as their coefficient of variation."""
    table = gamma(100.0 / (tenths * tenths))
    values = [table.at((at + 0.5) / _RESIDUALS) for at in range(_RESIDUALS)]
    mean = sum(values) / _RESIDUALS
    return tuple(value / mean for value in values)


def _kinds(rng: Rng, graph: Graph) -> tuple[Kind, ...]:
    """One kind, or three that differ in the size of what they bring and in how much a fan-out finds in it."""
    several = 3 if graph.eaches or rng.below(2) else 1
    elements = 2 + rng.below(7)
    nbytes = tuple(round(spread(rng, 1000.0, 11)) for _ in graph.stages)
    entry = (round(spread(rng, 10_000.0, 9)),)
    kinds = []
    for at in range(several):
        relative = (0.5, 1.0, 1.5)[at] if several > 1 else 1.0
        inside = max(1, round(elements * relative))
        counts = tuple(inside if node.scope else 1 for node in graph.stages)
        sizes = tuple(1.0 if node.scope else relative for node in graph.stages)
        kinds.append(Kind(counts, sizes, nbytes, entry))
    return tuple(kinds)


def _chain(count: int) -> Graph:
    return _graph(*((Output(at - 1),) if at else (Input(0),) for at in range(count)))


def _graph(*inputs: Sequence[Input | Output]) -> Graph:
    stages = tuple(StageNode(f"s{at}", f"s{at}", tuple(each)) for at, each in enumerate(inputs))
    return Graph(("value",), stages, (), (Output(len(stages) - 1),), ("result",))


def _fan_out(inside: int) -> Graph:
    """Two stages, the second of which makes a list; ``inside`` stages for each element; one stage over all results."""
    body = tuple(
        StageNode(f"s{2 + at}", f"s{2 + at}", (Element(0) if at == 0 else Output(1 + at),), (0,)) for at in range(inside)
    )
    last = f"s{2 + inside}"
    stages = (
        StageNode("s0", "s0", (Input(0),)), StageNode("s1", "s1", (Output(0),)), *body, StageNode(last, last, (Gathered(0),)),
    )  # fmt: skip
    return Graph(("value",), stages, (EachNode(Output(1), Output(1 + inside)),), (Output(2 + inside),), ("result",))


def _is_taken_apart(graph: Graph, stage: int) -> bool:
    return any(each.over == Output(stage) for each in graph.eaches)
