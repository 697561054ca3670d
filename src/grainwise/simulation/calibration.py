"""What calls, hops and starts really took, and how far the predictions of a profile were off.

A live run and a simulated one are read alike, from the trail of events and actions of the same controller.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.control.actions import Action, Invoke, Respond
from grainwise.control.events import Event, InvocationDone, RequestArrived
from grainwise.domain.app import AppSpec
from grainwise.domain.machine import HopModel
from grainwise.domain.time import Instant, Micros
from grainwise.predictors.latency import LatencyModel
from grainwise.profiles.calibration import Calibration, CallGroup, DoorCalibration, SampleCalibration, StageCalibration

Trail = list[tuple[Event, list[Action], Instant]]
"""What a controller was told and what it said, in order: of a live log, or of a run in virtual time."""

QUANTILES = 101
"""Residuals are kept as so many evenly spaced quantiles."""

LEAST_CALLS = 20
"""Fewer calls of a stage correct its mean and leave its residuals as they were profiled."""

LEAST_OF_SAMPLE = 3
"""Fewer invocations for a sample say nothing about it."""

_MIB = 1_048_576


class CallSeen(Struct, frozen=True, gc=False):
    """One call of a stage. ``is_first``: the first of its stage in its instance.

    ``sample`` is the one whose request the invocation was for, -1 where it was for several requests. ``together`` has the calls
    and the items of the stage in the invocation.
    """

    stage: int
    items: int
    size_sum: float
    cpu_cores: float
    duration_us: Micros
    is_first: bool
    sample: int = -1
    together: tuple[int, int] = (1, 1)


class HopSeen(Struct, frozen=True, gc=False):
    """What an invocation took beyond its calls: the messages both ways and all that the instance does around its stages."""

    nbytes: int
    overhead_us: Micros


class Observed(Struct, frozen=True):
    """Everything of a trail that is calibrated."""

    calls: tuple[CallSeen, ...]
    hops: tuple[HopSeen, ...]
    arrived: tuple[Instant, ...]
    responded: tuple[Instant, ...]


def observe(trail: Trail, since: Instant, samples: int = 1) -> Observed:
    """Read a trail: calls and hops of invocations from ``since`` on.

    Args:
        trail: from its first event on.
        since: when requests began, or later.
        samples: requests come from so many samples in turn.
    """
    calls: list[CallSeen] = []
    hops: list[HopSeen] = []
    arrived: list[Instant] = []
    responded: list[Instant] = []
    open_invocations: dict[int, tuple[Invoke, Instant]] = {}
    called: set[tuple[int, int]] = set()
    sample_of: dict[int, int] = {}
    for event, actions, now in trail:
        if isinstance(event, InvocationDone):
            found = open_invocations.pop(event.invocation, None)
            if found is None:
                continue
            invoke, began = found
            service = 0
            of = {sample_of.get(item.request, -1) for item in invoke.items}
            sample = of.pop() if len(of) == 1 else -1
            together: dict[int, tuple[int, int]] = {}
            for span in event.spans:
                before = together.get(span.stage, (0, 0))
                together[span.stage] = (before[0] + 1, before[1] + span.items)
            is_warm = True
            for span in event.spans:
                service += span.duration_us
                is_first = (invoke.instance, span.stage) not in called
                called.add((invoke.instance, span.stage))
                is_warm = is_warm and not is_first
                if began >= since:
                    calls.append(
                        CallSeen(
                            span.stage,
                            span.items,
                            span.size_sum,
                            invoke.cpu_cores,
                            span.duration_us,
                            is_first,
                            sample,
                            together[span.stage],
                        )
                    )
            if began >= since and is_warm:
                nbytes = sum(ref.nbytes for row in invoke.inputs for payload in row for ref in payload.refs)
                hops.append(HopSeen(nbytes, now - began - service))
        elif isinstance(event, RequestArrived):
            sample_of[event.request] = len(sample_of) % samples
            if now >= since:
                arrived.append(now)
        for action in actions:
            if isinstance(action, Invoke):
                open_invocations[action.invocation] = (action, now)
            elif isinstance(action, Respond) and now >= since:
                responded.append(now)
    return Observed(tuple(calls), tuple(hops), tuple(arrived), tuple(responded))


class Provenance(Struct, frozen=True):
    """Where a calibration comes from."""

    date: str
    app_digest: str
    runs: tuple[str, ...]
    foreign_cores: float


def calibrate(
    observed: Observed,
    spec: AppSpec,
    samples: int,
    model: LatencyModel,
    hop: HopModel,
    door: DoorCalibration,
    source: Provenance,
) -> Calibration:
    """What corrects a profile so that it predicts what was observed.

    Args:
        observed: of live runs that are not used to validate the result.
        spec: the app.
        samples: how many samples the profile has.
        model: of the profile without any calibration.
        hop: of that profile; its slope and its CPU time are kept.
        door: what HTTP added in the same runs.
        source: where the observations come from.
    """
    fitted, residuals = _hop(observed.hops, hop)
    return Calibration(
        date=source.date,
        app_digest=source.app_digest,
        runs=source.runs,
        foreign_cores=round(source.foreign_cores, 3),
        stages=tuple(_stage(index, spec, samples, observed.calls, model) for index in range(len(spec.graph.stages))),
        hop=fitted,
        hop_residuals=residuals,
        door=door,
    )


def _stage(index: int, spec: AppSpec, samples: int, calls: Sequence[CallSeen], model: LatencyModel) -> StageCalibration:
    pairs = [
        (each, model.stage(index, each.items, each.size_sum, each.cpu_cores).mean_us)
        for each in calls
        if each.stage == index and not each.is_first
    ]
    groups: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for call, predicted in pairs:
        groups.setdefault((call.items, call.cpu_cores), []).append((call.duration_us, predicted))
    factor = _ratio([(call.duration_us, predicted) for call, predicted in pairs])
    by_sample = tuple(_sample(at, pairs, factor, spec.spec(index).max_batch) for at in range(samples))
    ratios = [
        call.duration_us / max(predicted * factor * (by_sample[call.sample].factor if call.sample >= 0 else 1.0), 1e-9)
        for call, predicted in pairs
    ]
    return StageCalibration(
        spec.graph.stages[index].name,
        len(pairs),
        round(factor, 5),
        quantiles(ratios) if len(ratios) >= LEAST_CALLS else (),
        tuple(CallGroup(items, cores, len(found), round(_ratio(found), 5)) for (items, cores), found in sorted(groups.items())),
        by_sample,
    )


def _sample(sample: int, pairs: Sequence[tuple[CallSeen, float]], factor: float, max_batch: int) -> SampleCalibration:
    """How one sample differs from what its size predicts, and into how many calls its items fall."""
    own = [(call, predicted) for call, predicted in pairs if call.sample == sample]
    # A call counts for its part of an invocation, so that these are means over invocations.
    invocations = sum(1 / call.together[0] for call, _ in own)
    if invocations < LEAST_OF_SAMPLE:
        return SampleCalibration()
    split = sum(1 / -(-call.together[1] // max_batch) for call, _ in own) / invocations
    ratio = _ratio([(call.duration_us, predicted * factor) for call, predicted in own])
    return SampleCalibration(round(ratio, 4), round(split, 3))


def _hop(hops: Sequence[HopSeen], model: HopModel) -> tuple[HopModel, tuple[float, ...]]:
    """The hop whose mean is the measured one, with the measured slope of the profiler, and its residuals."""
    if len(hops) < LEAST_CALLS:
        return model, ()
    mean_bytes = sum(each.nbytes for each in hops) / len(hops)
    mean_us = sum(each.overhead_us for each in hops) / len(hops)
    fixed_us = max(0.0, mean_us - model.us_per_mib * mean_bytes / _MIB)
    fitted = HopModel(round(fixed_us, 1), model.us_per_mib, model.cpu_fixed_us, model.cpu_us_per_mib, model.process_mib)
    return fitted, quantiles([max(0, each.overhead_us) / max(fitted.latency_us(each.nbytes), 1e-9) for each in hops])


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Measured over predicted, summed; 1 where nothing was seen."""
    predicted = sum(each for _, each in pairs)
    return sum(each for each, _ in pairs) / predicted if predicted > 0 else 1.0


def quantiles(values: Sequence[float], count: int = QUANTILES) -> tuple[float, ...]:
    """Mid-point quantiles of some values, scaled so that their mean is that of the values."""
    ordered = sorted(values)
    kept = [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]
    mean, kept_mean = sum(ordered) / len(ordered), sum(kept) / count
    scale = mean / kept_mean if kept_mean > 0 else 1.0
    return tuple(round(each * scale, 4) for each in kept)
