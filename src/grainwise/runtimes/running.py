"""One run of a compiled extent: batches of stage calls, guards, and what becomes of items whose stage fails."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from grainwise.control.events import ItemFailure, StageSpan
from grainwise.domain.errors import InputError
from grainwise.runtimes.columns import BASE, SKIPPED_VALUE, Call, Explode, Gather, GuardSlot, Merge, Program, Spread
from grainwise.sdk.stage import Failed, wrong_results

Outputs = tuple[object, ...]
Column = list[Any]


class HeldStage(Struct, frozen=True):
    """A resident stage at its place in the graph.

    ``measure`` gives the size of the first input of an item and is None where every item counts one. ``accept`` returns the
    result as it is handed on, or raises ``InputError``. ``shaped`` are the positions of array inputs.
    """

    name: str
    function: Callable[..., Any]
    max_batch: int
    measure: Callable[[Any], float] | None
    accept: Callable[[Any], Any]
    shaped: tuple[int, ...]


class Watch(Struct, frozen=True):
    """How a run tells time and says where it is: ``entering`` hears the number of each stage before each call of it."""

    clock_us: Callable[[], int]
    entering: Callable[[int], None] | None
    raised: Callable[[str, BaseException], None]


def said(error: BaseException) -> str:
    """An exception as the reason of a failure: type and message, no traceback."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's exception class may fail to describe itself
        text = "(it has no message)"
    name = type(error).__name__
    return f"{name}: {text}"[:500] if text else name


def run_one(
    program: Program, stages: Sequence[HeldStage | None], item: Sequence[object], watch: Watch
) -> tuple[Outputs | ItemFailure, list[StageSpan]]:
    """Run a linear program for a single item: the shortest way through fused stages."""
    values: list[Any] = [*item, *(None,) * (program.columns - program.inputs)]
    spans: list[StageSpan] = []
    clock, entering = watch.clock_us, watch.entering
    for step in program.steps:
        assert isinstance(step, Call)
        stage = stages[step.stage]
        assert stage is not None
        if entering is not None:
            entering(step.stage)
        inputs = step.inputs
        try:
            size = 1.0 if stage.measure is None else stage.measure(values[inputs[0]])
        except InputError as error:
            return ItemFailure(stage.name, "value", str(error)), spans
        began = clock()
        try:
            results = (
                stage.function([values[inputs[0]]]) if len(inputs) == 1 else stage.function(*[[values[i]] for i in inputs])
            )
        except BaseException as error:  # noqa: BLE001 - a stage is user code: even SystemExit fails its item only
            spans.append(StageSpan(step.stage, 1, size, clock() - began, True))
            watch.raised(stage.name, error)
            return ItemFailure(stage.name, "raised", said(error)), spans
        spans.append(StageSpan(step.stage, 1, size, clock() - began))
        if not isinstance(results, list | tuple) or len(results) != 1:
            return ItemFailure(stage.name, "value", wrong_results(stage.name, results, 1)), spans
        result = results[0]
        if type(result) is Failed:
            return ItemFailure(stage.name, "declared", result.reason), spans
        try:
            values[step.output] = stage.accept(result)
        except InputError as error:
            return ItemFailure(stage.name, "value", str(error)), spans
    return tuple([values[slot] for slot in program.outputs]), spans


class Run:
    """A run of any program for any number of items."""

    def __init__(
        self, program: Program, stages: Sequence[HeldStage | None], items: Sequence[Sequence[object]], watch: Watch
    ) -> None:
        self.program = program
        self.stages = stages
        self.watch = watch
        self.spans: list[StageSpan] = []
        self.failures: list[ItemFailure | None] = [None] * len(items)
        self.any_failed = False
        self.roots: dict[int, list[int]] = {BASE: list(range(len(items)))}
        self.parents: dict[int, list[int]] = {}
        self.starts: dict[int, list[int]] = {}
        self.columns: list[Column] = [[item[slot] for item in items] for slot in range(program.inputs)]
        self.columns.extend([] for _ in range(program.columns - program.inputs))

    def finish(self) -> tuple[tuple[Outputs | ItemFailure, ...], list[StageSpan]]:
        """Perform every step; the outputs or the failure of each item, and the spans."""
        for step in self.program.steps:
            if isinstance(step, Call):
                self._call(step)
            elif isinstance(step, Explode):
                self._explode(step)
            elif isinstance(step, Spread):
                outer = self.columns[step.outer]
                self.columns[step.inner] = [outer[row] for row in self.parents[step.each]]
            elif isinstance(step, Gather):
                self._gather(step)
            else:
                self._merge(step)
        outputs = [self.columns[slot] for slot in self.program.outputs]
        results = tuple(
            tuple([column[row] for column in outputs]) if failure is None else failure
            for row, failure in enumerate(self.failures)
        )
        return results, self.spans

    def _explode(self, step: Explode) -> None:
        elements: Column = []
        parents: list[int] = []
        starts = [0]
        roots = self.roots[step.parent]
        for row, items in enumerate(self.columns[step.over]):
            if items is not SKIPPED_VALUE and self.failures[roots[row]] is None:
                elements.extend(items)
                parents.extend([row] * len(items))
            starts.append(len(elements))
        self.columns[step.element] = elements
        self.parents[step.each] = parents
        self.starts[step.each] = starts
        self.roots[step.each] = [roots[row] for row in parents]

    def _gather(self, step: Gather) -> None:
        starts, results, overs = self.starts[step.each], self.columns[step.result], self.columns[step.over]
        gathered: Column = []
        for row, over in enumerate(overs):
            if over is SKIPPED_VALUE or not self._admits(step.guards, row):
                gathered.append(SKIPPED_VALUE)
                continue
            part = results[starts[row] : starts[row + 1]]
            is_skipped = self.program.may_skip and any(value is SKIPPED_VALUE for value in part)
            gathered.append(SKIPPED_VALUE if is_skipped else part)
        self.columns[step.gathered] = gathered

    def _merge(self, step: Merge) -> None:
        options = [self.columns[slot] for slot in step.options]
        self.columns[step.merged] = [
            next((value for value in values if value is not SKIPPED_VALUE), SKIPPED_VALUE)
            for values in zip(*options, strict=True)
        ]

    def _admits(self, guards: tuple[GuardSlot, ...], row: int) -> bool:
        for slot, guard in guards:
            key = self.columns[slot][row]
            if key is SKIPPED_VALUE or not guard.admits(key):
                return False
        return True

    def _call(self, step: Call) -> None:
        stage = self.stages[step.stage]
        assert stage is not None
        roots = self.roots[step.level]
        output: Column = [SKIPPED_VALUE] * len(roots)
        self.columns[step.output] = output
        inputs = [self.columns[slot] for slot in step.inputs]
        rows: Sequence[int] = range(len(roots))
        if self.any_failed:
            rows = [row for row in rows if self.failures[roots[row]] is None]
        if self.program.may_skip:
            rows = [
                row
                for row in rows
                if self._admits(step.guards, row) and not any(column[row] is SKIPPED_VALUE for column in inputs)
            ]
        if not rows:
            return
        size_by_row = self._sizes(stage, inputs[0], rows, roots)
        for bucket in _buckets(stage, inputs, rows):
            for start in range(0, len(bucket), stage.max_batch):
                self._batch(step.stage, stage, inputs, bucket[start : start + stage.max_batch], roots, size_by_row, output)

    def _sizes(self, stage: HeldStage, column: Column, rows: Sequence[int], roots: list[int]) -> dict[int, float] | None:
        if stage.measure is None:
            return None
        size_by_row: dict[int, float] = {}
        for row in rows:
            try:
                size_by_row[row] = stage.measure(column[row])
            except InputError as error:
                self._fail(roots[row], stage, "value", str(error))
        return size_by_row

    def _batch(
        self,
        number: int,
        stage: HeldStage,
        inputs: list[Column],
        rows: Sequence[int],
        roots: list[int],
        size_by_row: dict[int, float] | None,
        output: Column,
    ) -> None:
        if self.any_failed:
            rows = [row for row in rows if self.failures[roots[row]] is None]
            if not rows:
                return
        count = len(rows)
        size_sum = float(count) if size_by_row is None else sum([size_by_row[row] for row in rows])
        batches = [[column[row] for row in rows] for column in inputs]
        clock = self.watch.clock_us
        if self.watch.entering is not None:
            self.watch.entering(number)
        began = clock()
        try:
            results = stage.function(*batches)
        except BaseException as error:  # noqa: BLE001 - a stage is user code: even SystemExit fails its items only
            self.spans.append(StageSpan(number, count, size_sum, clock() - began, True))
            self.watch.raised(stage.name, error)
            if count == 1:
                self._fail(roots[rows[0]], stage, "raised", said(error))
                return
            for row in rows:
                self._batch(number, stage, inputs, (row,), roots, size_by_row, output)
            return
        self.spans.append(StageSpan(number, count, size_sum, clock() - began))
        if not isinstance(results, list | tuple) or len(results) != count:
            reason = wrong_results(stage.name, results, count)
            for row in rows:
                self._fail(roots[row], stage, "value", reason)
            return
        accept = stage.accept
        for row, result in zip(rows, results, strict=True):
            if type(result) is Failed:
                self._fail(roots[row], stage, "declared", result.reason)
                continue
            try:
                output[row] = accept(result)
            except InputError as error:
                self._fail(roots[row], stage, "value", str(error))

    def _fail(self, item: int, stage: HeldStage, kind: Any, reason: str) -> None:
        """Only the first failure of an item is kept: it is the one that the others follow from."""
        if self.failures[item] is None:
            self.failures[item] = ItemFailure(stage.name, kind, reason)
            self.any_failed = True


def _buckets(stage: HeldStage, inputs: list[Column], rows: Sequence[int]) -> list[Sequence[int]]:
    """Rows whose arrays have the same shape and dtype, in the order in which the shapes first occur."""
    if not stage.shaped or stage.max_batch == 1 or len(rows) == 1:
        return [rows]
    buckets: dict[tuple[object, ...], list[int]] = {}
    for row in rows:
        key = tuple([(array.shape, array.dtype) for array in [inputs[position][row] for position in stage.shaped]])
        buckets.setdefault(key, []).append(row)
    return list(buckets.values())


__all__ = ["HeldStage", "Outputs", "Run", "Watch", "run_one", "said"]
