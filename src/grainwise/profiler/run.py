"""``grainwise profile``: measure an app within a budget of seconds and give what was found as an artifact."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from grainwise.domain.errors import ConfigurationError, DeclarationError
from grainwise.predictors.fit import Configuration as Held
from grainwise.predictors.fit import configurations
from grainwise.profiler.bench import Bench
from grainwise.profiler.choose import choose
from grainwise.profiler.facts import library_versions, machine_facts, today
from grainwise.profiler.grid import Configuration, anchors, candidates, shares
from grainwise.profiler.hop import measure_hop
from grainwise.profiler.inputs import take_inputs
from grainwise.profiler.measure import Instances, measure
from grainwise.profiler.progress import Progress
from grainwise.profiler.record import Record, record_samples
from grainwise.profiles.artifact import SCHEMA, ColdParts, Point, Profile, StageProfile, check
from grainwise.runtimes.local.machine import cpu_cores, device_class

DEFAULT_BUDGET_S = 600.0

_LEAST_POINT_S = 0.05
_POINTS_IN_BUDGET = 400
"""Of a large budget a point gets this part at the least, up to ``_MOST_POINT_S``: more repeats, not more points."""
_MOST_POINT_S = 0.5
_ROUND_FRACTION = 0.05
_LEAST_ROUND_S = 0.5
_FITS_PER_ROUND = 4
_NEGLIGIBLE = 0.001
"""A stage whose held-out error in a mean request is below this fraction of the SLO's latency gets no further points."""


async def profile(
    app_path: Path,
    *,
    budget_s: float = DEFAULT_BUDGET_S,
    inputs: Sequence[tuple[object, ...]] | None = None,
    previous: Profile | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    save: Callable[[Profile], None] = lambda profile: None,
) -> Profile:
    """Measure every stage of an app in real instances over batch, CPU share and input size, warm and repeated.

    Args:
        app_path: the app file.
        budget_s: seconds that the whole may take.
        inputs: a tuple of entry values per sample, ``bytes`` being the content of a file; None for the app's own samples.
        previous: a profile of the same app on this machine to go on with: its points and its hop model are kept.
        on_progress: hears of every point before it is measured.
        save: gets an incomplete profile after every round, so that nothing measured is lost.

    Raises:
        ArtifactError: ``previous`` is of another app or machine; the message names the field.
        ConfigurationError: the budget cannot hold the points that are always measured (the message names the least budget that
            can), or there is nothing to profile with.
        DeclarationError: the app cannot be served, a stage fails on every sample, or no sample reaches it.
        InputError: an input does not fit the app.
    """
    began = time.monotonic()
    if not budget_s > 0:
        raise ConfigurationError(f"the budget is {budget_s:g} s; it must be positive")
    bench = await Bench.open(app_path)
    try:
        if previous is not None:
            check(previous, spec=bench.runtime.spec, device_class=device_class())
        run = _Run(bench, budget_s, began, previous, on_progress, save)
        return await run.profile(inputs)
    finally:
        await bench.close()


class _Run:
    """One profile in the making."""

    def __init__(
        self,
        bench: Bench,
        budget_s: float,
        began: float,
        previous: Profile | None,
        on_progress: Callable[[Progress], None],
        save: Callable[[Profile], None],
    ) -> None:
        self._bench = bench
        self._spec = bench.runtime.spec
        self._budget_s = budget_s
        self._began = began
        self._hop = previous.hop if previous is not None else None
        self._on_progress = on_progress
        self._save = save
        self._point_s = min(_MOST_POINT_S, max(_LEAST_POINT_S, budget_s / _POINTS_IN_BUDGET))
        self._libraries: dict[str, str] = {}
        self._points: list[list[Point]] = [[] for _ in self._spec.graph.stages]
        if previous is not None:
            self._points = [list(stage.points) for stage in previous.stages]
        self._record: Record
        self._fit_s = 0.0
        self._instances = Instances(bench, can_change_share=bench.runtime.capabilities.share_scope == "invocation")

    async def profile(self, inputs: Sequence[tuple[object, ...]] | None) -> Profile:
        samples = await take_inputs(self._bench.runtime, inputs)
        self._record = await record_samples(
            self._bench, samples, lambda stage: self._tell(stage, f"{stage}: cold start and samples")
        )
        if self._hop is None:
            self._tell("", "what handing a value on costs here")
            self._hop = await measure_hop()
        choices = shares(self._bench.runtime.capabilities, cpu_cores())
        always: list[Configuration] = []
        possible: list[Configuration] = []
        for index, stage in enumerate(self._record.stages):
            known = self._points[index]
            known.extend(point for point in stage.failures if point not in known)
            largest = self._spec.spec(index).max_batch
            always.extend(
                each for each in anchors(index, stage, largest, choices) if not each.is_measured(stage, self._points[index])
            )
            possible.extend(candidates(index, stage, largest, choices))
        self._check_budget(always)
        await self._measure(always, until=None)
        self._check_points()
        held = self._fit()
        least_error_us = self._spec.slo.latency_ms * 1000 * _NEGLIGIBLE
        while True:
            # A fit takes longer the more points there are; rounds grow with it, and the last one leaves time for one.
            round_s = max(_LEAST_ROUND_S, self._budget_s * _ROUND_FRACTION, _FITS_PER_ROUND * self._fit_s)
            round_s = min(self._left_s() - self._fit_s, round_s)
            chosen = choose(possible, self._record.stages, self._points, held, least_error_us, self._point_s, round_s)
            if not chosen:
                return self._found(held, is_complete=True)
            await self._measure(chosen, until=self._began + self._budget_s)
            held = self._fit()

    def _fit(self) -> list[Held]:
        """Every point with its held-out error; what is known so far is saved."""
        began = time.monotonic()
        held = configurations(self._found([], is_complete=False))
        self._save(self._found(held, is_complete=False))
        self._fit_s = time.monotonic() - began
        return held

    def _check_budget(self, always: Sequence[Configuration]) -> None:
        needed_s = sum(each.expected_s(self._record.stages[each.stage], self._point_s) for each in always)
        if needed_s > self._left_s():
            least_s = math.ceil(1.2 * (self._elapsed_s() + needed_s))
            raise ConfigurationError(
                f"a budget of {self._budget_s:g} s cannot hold the points that app {self._spec.name!r} needs at the least; "
                f"give at least {least_s} s"
            )

    async def _measure(self, configurations: Sequence[Configuration], until: float | None) -> None:
        for each in configurations:
            name = self._spec.graph.stages[each.stage].name
            record = self._record.stages[each.stage]
            size = record.items[each.item].size
            self._tell(name, f"{name}: batch of {each.items}, size {size:g} each, on {each.cpu_cores:g} cores")
            point = await measure(self._bench, self._instances, each, record, self._point_s, until)
            if point is None:
                break
            self._points[each.stage].append(point)
        instance = self._instances.any_alive()
        if instance:
            self._libraries = library_versions(self._bench.runtime.pid(instance))

    def _check_points(self) -> None:
        """Refuse to go on when a stage has no point that came to a duration.

        Raises:
            DeclarationError: there is such a stage.
        """
        for node, points in zip(self._spec.graph.stages, self._points, strict=True):
            if not any(point.outcome == "ok" for point in points):
                last = points[-1]
                raise DeclarationError(
                    f"app {self._spec.name!r}: stage {node.name!r} could not be measured at any configuration; the last: "
                    f"{last.outcome}: {last.detail}"
                )

    def _found(self, held: Sequence[Held], *, is_complete: bool) -> Profile:
        recorded = self._record
        assert self._hop is not None
        return Profile(
            schema=SCHEMA,
            app=self._spec.name,
            app_digest=self._spec.digest,
            source_digest=self._spec.source_digest,
            device_class=device_class(),
            machine=machine_facts(),
            share_mechanism=self._bench.runtime.capabilities.share_mechanism,
            libraries=self._libraries,
            date=today(),
            budget_s=self._budget_s,
            entry_bytes=recorded.entry_bytes,
            process_mib=recorded.process_mib,
            cold=ColdParts(recorded.process_us, recorded.import_us),
            hop=msgspec.structs.replace(self._hop, process_mib=recorded.process_mib),
            stages=tuple(self._stage(index, held) for index in range(len(self._points))),
            is_complete=is_complete,
        )

    def _stage(self, index: int, held: Sequence[Held]) -> StageProfile:
        node, stage = self._spec.graph.stages[index], self._record.stages[index]
        errors = [each.error_fraction for each in held if each.stage == index]
        return StageProfile(
            name=node.name,
            declared=node.declared,
            load_us=stage.load_us,
            first_call_us=stage.first_call_us,
            memory_mib=stage.memory_mib,
            items_per_request=stage.items_per_request,
            item_size=stage.item_size,
            output_bytes=stage.output_bytes,
            points=tuple(self._points[index]),
            samples=self._samples(index),
            held_out_error_fraction=sum(errors) / len(errors) if errors else 0.0,
        )

    def _samples(self, index: int) -> tuple[tuple[int, float], ...]:
        """Executions and sizes of a stage in each sample that ran to the end of all stages; none in one that passes it by."""
        ended = sorted({sample for stage in self._record.stages for sample, _, _ in stage.by_sample} - self._record.dropped)
        found = {sample: (count, size) for sample, count, size in self._record.stages[index].by_sample}
        return tuple(found.get(sample, (0, 0.0)) for sample in ended)

    def _tell(self, stage: str, detail: str) -> None:
        count = sum(len(points) for points in self._points)
        self._on_progress(Progress(stage, count, self._elapsed_s(), self._left_s(), detail))

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def _left_s(self) -> float:
        return max(0.0, self._budget_s - self._elapsed_s())


__all__ = ["DEFAULT_BUDGET_S", "Progress", "profile"]
