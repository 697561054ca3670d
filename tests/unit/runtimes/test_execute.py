import itertools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grainwise import App, Batch, Failed, Slo, choose, each, sizes
from grainwise.control.events import ItemFailure
from grainwise.domain.errors import DeclarationError, GrainwiseError, InputError
from grainwise.domain.extent import make_extent
from grainwise.domain.graph import Element, Gathered, Input, Output
from grainwise.runtimes.execute import SKIPPED_VALUE, Resident

Image = NDArray[np.uint8]


@pytest.fixture
def app() -> App:
    return App("kit", slo=Slo(latency_ms=100))


def held(app: App, mask: int | None = None, **options: Any) -> Resident:
    """A resident with a clock that advances by 5 us with every reading."""
    ticks = itertools.count(0, 5)
    resident = Resident(app, app.spec(b""), lambda: next(ticks), **options)
    resident.load(resident.graph.all_mask if mask is None else mask)
    return resident


def run(resident: Resident, items: list[list[Any]], mask: int | None = None) -> tuple[Any, ...]:
    """The results of an extent; items hold the entry values in the order of the flow where the extent reads only those."""
    extent = make_extent(resident.graph, resident.graph.all_mask if mask is None else mask)
    order = [source.index for source in extent.inputs if isinstance(source, Input)]
    if len(order) == len(extent.inputs):
        items = [[item[index] for index in order] for item in items]
    return resident.run(extent, items).results


def split(texts: Batch[str]) -> Batch[list[str]]:
    return [text.split() for text in texts]


def upper(texts: Batch[str]) -> Batch[str]:
    return [text.upper() for text in texts]


def join(lists: Batch[list[str]]) -> Batch[str]:
    return [" ".join(words) for words in lists]


def raise_on_bad(texts: Batch[str]) -> Batch[str]:
    if any("bad" in text for text in texts):
        raise ValueError("a bad word")
    return texts


def one_stage(app: App, function: Callable[..., Any], **options: Any) -> Resident:
    declare: Any = app.stage
    stage = declare(function, **options)

    @app.flow
    def flow(text: str) -> str:
        made: str = stage(text)
        return made

    return held(app)


def test_a_stage_sees_the_items_of_all_requests_in_batches_of_its_own_size(app: App) -> None:
    seen: list[list[str]] = []

    def watched(words: Batch[str]) -> Batch[str]:
        seen.append(list(words))
        return [word.upper() for word in words]

    first, loud, last = app.stage(split, max_batch=2), app.stage(watched, max_batch=3), app.stage(join, max_batch=9)

    @app.flow
    def flow(text: str) -> str:
        return last(each(loud, first(text)))

    resident = held(app)
    extent = make_extent(resident.graph, resident.graph.all_mask)
    outcome = resident.run(extent, [["a b"], [""], ["c d e"]])
    assert outcome.results == (("A B",), ("",), ("C D E",))
    assert seen == [["a", "b", "c"], ["d", "e"]]
    assert [(span.stage, span.items, span.duration_us) for span in outcome.spans] == [
        (0, 2, 5), (0, 1, 5), (1, 3, 5), (1, 2, 5), (2, 3, 5),
    ]  # fmt: skip


def test_a_single_item_takes_the_short_way_with_the_same_result(app: App) -> None:
    first = app.stage(upper, size=sizes.length)
    second = app.stage(lambda_free_pair)

    @app.flow
    def flow(text: str, other: str) -> str:
        return second(first(text), other)

    resident = held(app)
    extent = make_extent(resident.graph, 3)
    assert extent.inputs == (Input(0), Input(1))
    outcome = resident.run(extent, [["abc", "d"]])
    assert outcome.results == (("ABCd",),)
    assert [(span.stage, span.items, span.size_sum) for span in outcome.spans] == [(0, 1, 3.0), (1, 1, 1.0)]


def lambda_free_pair(firsts: Batch[str], seconds: Batch[str]) -> Batch[str]:
    return [first + second for first, second in zip(firsts, seconds, strict=True)]


def test_tensors_of_different_shape_are_not_batched_together(app: App) -> None:
    shapes: list[list[tuple[int, ...]]] = []

    def shaped(images: Batch[Image]) -> Batch[int]:
        shapes.append([image.shape for image in images])
        return [image.size for image in images]

    stage = app.stage(shaped, max_batch=8, size=sizes.pixels)

    @app.flow
    def flow(image: Image) -> int:
        return stage(image)

    pictures = [np.zeros(shape, np.uint8) for shape in [(2, 2), (3, 3), (2, 2), (3, 3), (1, 1)]]
    assert run(held(app), [[picture] for picture in pictures]) == ((4,), (9,), (4,), (9,), (1,))
    assert shapes == [[(2, 2), (2, 2)], [(3, 3), (3, 3)], [(1, 1)]]


def test_arrays_are_read_only_at_a_fused_boundary_and_not_copied(app: App) -> None:
    made: list[Image] = []
    got: list[Image] = []

    def make(numbers: Batch[int]) -> Batch[Image]:
        made.append(np.zeros(4, np.uint8))
        return [made[-1]]

    def take(images: Batch[Image]) -> Batch[Image]:
        got.extend(images)
        return images

    first, second = app.stage(make), app.stage(take)

    @app.flow
    def flow(number: int) -> Image:
        return second(first(number))

    (output,) = run(held(app), [[1]])[0]
    assert not got[0].flags.writeable
    assert np.shares_memory(got[0], made[0])
    assert np.shares_memory(output, made[0])


def test_a_raise_in_a_batch_of_one_fails_that_item_and_names_the_stage(app: App) -> None:
    resident = one_stage(app, raise_on_bad)
    assert run(resident, [["bad"]]) == (ItemFailure("raise_on_bad", "raised", "ValueError: a bad word"),)


def test_a_raise_in_a_larger_batch_runs_its_items_singly_once(app: App) -> None:
    resident = one_stage(app, raise_on_bad, max_batch=4)
    extent = make_extent(resident.graph, 1)
    outcome = resident.run(extent, [["a"], ["bad"], ["c"]])
    assert outcome.results == (("a",), ItemFailure("raise_on_bad", "raised", "ValueError: a bad word"), ("c",))
    assert [(span.items, span.raised) for span in outcome.spans] == [(3, True), (1, False), (1, True), (1, False)]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError("deep")])
@pytest.mark.parametrize("items", [1, 2])
def test_whatever_a_stage_raises_fails_its_items_only(app: App, error: BaseException, items: int) -> None:
    def exits(texts: Batch[str]) -> Batch[str]:
        if "bad" in texts:
            raise type(error)(*error.args)
        return texts

    resident = one_stage(app, exits, max_batch=2)
    results = run(resident, [["bad"], ["good"]][:items])
    assert results[0].kind == "raised"
    assert results[0].reason.startswith(type(error).__name__)
    assert results[1:] == (("good",),)[: items - 1]


def test_an_exception_that_cannot_describe_itself_is_still_a_failure(app: App) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def mute(texts: Batch[str]) -> Batch[str]:
        raise MuteError

    assert run(one_stage(app, mute), [["a"]])[0].reason == "MuteError: (it has no message)"


def test_a_long_reason_is_cut_and_has_no_traceback(app: App) -> None:
    def wordy(texts: Batch[str]) -> Batch[str]:
        raise ValueError("x" * 10_000)

    reason = run(one_stage(app, wordy), [["a"]])[0].reason
    assert len(reason) == 500
    assert "Traceback" not in reason


def test_the_traceback_goes_to_the_log_once_per_type(app: App, caplog: pytest.LogCaptureFixture) -> None:
    resident = one_stage(app, raise_on_bad)
    with caplog.at_level(logging.WARNING, "grainwise.stage"):
        for _ in range(3):
            run(resident, [["bad"]])
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("items", [1, 3])
def test_failed_fails_one_item_as_declared(app: App, items: int) -> None:
    def picky(texts: Batch[str]) -> Batch[str | Failed]:
        return [Failed("it is bad") if text == "bad" else text for text in texts]

    results = run(one_stage(app, picky, max_batch=3), [["bad"], ["a"], ["b"]][:items])
    assert results == (ItemFailure("picky", "declared", "it is bad"), ("a",), ("b",))[:items]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (["a", "b", "c"], "stage 'broken' returned 3 results for 2 items"),
        ([], "stage 'broken' returned 0 results for 2 items"),
        ("ab", "stage 'broken' returned str, not a list"),
        (None, "stage 'broken' returned NoneType, not a list"),
        (np.zeros(2), "stage 'broken' returned ndarray, not a list"),
    ],
)
def test_a_wrong_number_of_results_fails_the_whole_batch(app: App, returned: Any, reason: str) -> None:
    def broken(texts: Batch[str]) -> Batch[str]:
        result: list[str] = returned
        return result

    results = run(one_stage(app, broken, max_batch=2), [["a"], ["b"]])
    assert [(result.kind, result.reason.startswith(reason)) for result in results] == [("value", True)] * 2


@pytest.mark.parametrize("items", [1, 2])
def test_a_result_of_another_type_fails_its_item(app: App, items: int) -> None:
    def broken(texts: Batch[str]) -> Batch[str]:
        results: list[Any] = [5 if text == "bad" else text for text in texts]
        return results

    results = run(one_stage(app, broken, max_batch=2), [["bad"], ["a"]][:items])
    expected = ItemFailure("broken", "value", "result of stage 'broken': expected str, got int")
    assert results == (expected, ("a",))[:items]


def test_a_failed_element_fails_its_request_and_no_other(app: App) -> None:
    calls: list[str] = []

    def watched(texts: Batch[str]) -> Batch[str]:
        calls.extend(texts)
        return texts

    first, picky, after, last = app.stage(split), app.stage(raise_on_bad, max_batch=2), app.stage(watched), app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return last(each(lambda word: after(picky(word)), first(text)))

    results = run(held(app), [["a bad b"], ["c d"]])
    assert results == (ItemFailure("raise_on_bad", "raised", "ValueError: a bad word"), ("c d",))
    assert calls == ["c", "d"], "the other elements of a failed request are not worked on"


def lists_by_mode(app: App) -> Resident:
    loud, first, last = app.stage(upper), app.stage(split), app.stage(join)

    @app.flow
    def flow(mode: str, words: list[str], text: str) -> str:
        return last(choose(mode, {"each": lambda w, t: each(loud, w), "split": lambda w, t: first(t)}, words, text))

    return held(app)


def test_an_untaken_fan_out_over_an_empty_list_is_skipped_and_not_empty(app: App) -> None:
    resident = lists_by_mode(app)
    assert run(resident, [["split", [], "a b"], ["each", [], "a b"], ["each", ["x"], "a"], ["split", ["x"], "a"]]) == (
        ("a b",), ("",), ("X",), ("a",),
    )  # fmt: skip


def test_a_skipped_input_gives_a_skipped_output(app: App) -> None:
    loud, first, last = app.stage(upper), app.stage(split), app.stage(join)

    @app.flow
    def flow(mode: bool, text: str) -> str:
        return choose(mode, {True: lambda t: last(first(t)), False: loud}, text)

    resident = held(app)
    graph = resident.graph
    extent = make_extent(graph, graph.mask(["join", "upper"]))
    assert extent.inputs == (Output(graph.index_by_name["split"]), Input(0), Input(1))
    assert resident.run(extent, [[SKIPPED_VALUE, False, "a"]]).results == ((SKIPPED_VALUE, "A"),)
    assert resident.run(extent, [[["a"], True, "a"], [SKIPPED_VALUE, False, "b"]]).results == (
        ("a", SKIPPED_VALUE),
        (SKIPPED_VALUE, "B"),
    )


def test_a_numpy_key_counts_as_a_plain_one_and_a_key_without_branch_fails(app: App) -> None:
    def key_of(texts: Batch[str]) -> Batch[int]:
        keys: list[Any] = [np.int64(len(text)) for text in texts]
        return keys

    key, loud, quiet = app.stage(key_of), app.stage(upper), app.stage(split)
    last = app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return choose(key(text), {1: loud, 2: lambda t: last(quiet(t))}, text)

    resident = held(app)
    missing = ItemFailure("key_of", "value", "choose has no branch for the key 3; there are branches for 1, 2")
    assert run(resident, [["a"], ["b "], ["abc"]]) == (("A", SKIPPED_VALUE), (SKIPPED_VALUE, "b"), missing)
    assert resident.key(Output(0), np.int64(2)) == 2
    assert resident.key(Input(0), "a") is None
    with pytest.raises(InputError, match="no branch for the key 3"):
        resident.key(Output(0), 3)


class Counter:
    constructed = 0

    def __init__(self) -> None:
        type(self).constructed += 1
        self.suffix = "!"

    def __call__(self, texts: Batch[str]) -> Batch[str]:
        return [text + self.suffix for text in texts]


def test_a_declared_stage_is_constructed_once_for_all_its_places(app: App) -> None:
    Counter.constructed = 0
    stage = app.stage(Counter)

    @app.flow
    def flow(text: str) -> str:
        return stage(stage(text))

    resident = held(app, mask=1)
    assert resident.resident == 1
    report = resident.load(3)
    assert (report.stages, report.load_us, report.total_us) == (2, (), 0)
    assert resident.load(3).stages == 0
    assert Counter.constructed == 1
    assert run(resident, [["a"]]) == (("a!!",),)


class Fragile:
    is_broken = True

    def __init__(self) -> None:
        if type(self).is_broken:
            raise OSError("no model file")

    def __call__(self, texts: Batch[str]) -> Batch[str]:
        return texts


def test_a_failing_constructor_keeps_the_old_residency_and_names_the_stage(app: App) -> None:
    Counter.constructed = 0
    good, fragile = app.stage(Counter), app.stage(Fragile)

    @app.flow
    def flow(text: str) -> str:
        return good(fragile(good(text)))

    resident = held(app, mask=0)
    with pytest.raises(GrainwiseError, match="stage 'fragile' of app 'kit' cannot be loaded: OSError: no model file"):
        resident.load(7)
    assert resident.resident == 0
    with pytest.raises(GrainwiseError, match="this instance does not hold counter; load it"):
        run(resident, [["a"]], 1)
    Fragile.is_broken = False
    report = resident.load(7)
    assert [name for name, _ in report.load_us] == ["counter", "fragile"]
    assert report.total_us == 10
    assert run(resident, [["a"]]) == (("a!!",),)
    Fragile.is_broken = True


def test_whoever_watches_hears_where_the_process_is(app: App) -> None:
    entered: list[int] = []
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return last(each(loud, first(text)))

    resident = held(app, entering=entered.append)
    assert entered == [0, -1, 1, -1, 2, -1]
    entered.clear()
    run(resident, [["a b"]])
    assert entered == [0, 1, 1, 2, -1]


def test_outputs_come_in_the_order_of_the_extent_with_lists_for_fan_outs(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def flow(text: str) -> tuple[str, list[str]]:
        words = each(loud, first(text))
        return last(words), words

    resident = held(app)
    extent = make_extent(resident.graph, 7)
    assert extent.outputs == (Output(2), Gathered(0))
    assert run(resident, [["a b"]]) == (("A B", ["A", "B"]),)
    assert run(resident, [["a b"]], 1) == ((["a", "b"],),)
    assert run(resident, [["a"], ["b"]], 2) == (("A",), ("B",))
    assert run(resident, [[["A", "B"]]], 4) == (("A B",),)
    assert [resident.is_many(source) for source in (Input(0), Output(0), Gathered(0), Output(2))] == [False, True, True, False]


def test_sizes_are_measured_for_every_consumer_and_per_element_of_a_list(app: App) -> None:
    first = app.stage(split)
    loud = app.stage(upper, size=sizes.length)
    last = app.stage(join, size=len)
    whole = app.stage(join, size=lambda words: 10 * len(words), name="whole")

    @app.flow
    def flow(text: str) -> tuple[str, str]:
        words = first(text)
        return last(each(loud, words)), whole(words)

    resident = held(app)
    assert resident.graph.sized_consumers(Output(0)) == (1, 3)
    assert resident.measure(Output(0), "abc") == (3.0, 10.0)
    assert resident.measure(Gathered(0), "ABC") == (1.0,)
    assert resident.measure(Element(0), "abc") == (3.0,)
    assert resident.measure(Output(3), "x") == ()
    extent = make_extent(resident.graph, resident.graph.all_mask)
    spans = resident.run(extent, [["ab c"]]).spans
    assert {span.stage: span.size_sum for span in spans if span.stage in (2, 3)} == {2: 2.0, 3: 20.0}


def test_a_stage_that_counts_items_counts_the_elements_of_a_list_that_it_reads_whole(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return last(each(loud, first(text)))

    resident = held(app)
    assert resident.measure(Gathered(0), "A") == (1.0,)
    spans = resident.run(make_extent(resident.graph, 7), [["a b c"]]).spans
    assert [span.size_sum for span in spans if span.stage == 2] == [3.0]


@pytest.mark.parametrize("items", [1, 2])
@pytest.mark.parametrize("size", [lambda text: math.nan, lambda text: -1, lambda text: "x", lambda text: 1 / 0])
def test_a_size_function_that_fails_is_a_value_failure_everywhere(app: App, size: Any, items: int) -> None:
    first, second = app.stage(upper), app.stage(raise_on_bad, size=size, max_batch=2)

    @app.flow
    def flow(text: str) -> str:
        return second(first(text))

    resident = held(app)
    for result in run(resident, [["a"], ["b"]][:items]):
        assert (result.stage, result.kind) == ("raise_on_bad", "value")
        assert "the size function of stage 'raise_on_bad'" in result.reason
    with pytest.raises(InputError, match="the size function of stage 'raise_on_bad'"):
        resident.measure(Output(0), "A")


def test_codecs_rebuild_what_the_producer_declared(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return last(each(loud, first(text)))

    resident = held(app)
    assert resident.codec(Output(0)).value_type.kind == "text"
    assert resident.codec(Output(0)).name == "result of split"
    assert resident.codec(Element(0)).name == "element of result of split"
    assert resident.codec(Gathered(0)).name == "list of each result of upper"
    assert resident.codec(Input(0)).name == "text"
    assert resident.codec(Output(2)) is resident.codec(Output(2))


def test_another_declaration_than_the_server_has_is_refused(app: App) -> None:
    loud = app.stage(upper)

    @app.flow
    def flow(text: str) -> str:
        return loud(text)

    other = App("kit", slo=Slo(latency_ms=100))
    twice = other.stage(upper)

    @other.flow
    def other_flow(text: str) -> str:
        return twice(twice(text))

    with pytest.raises(DeclarationError, match="declared otherwise here than at the server"):
        Resident(app, other.spec(b""), lambda: 0)


def test_a_group_that_cuts_through_a_fan_out_is_refused(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def flow(text: str) -> str:
        return last(each(lambda word: loud(loud(word)), first(text)))

    resident = held(app)
    with pytest.raises(GrainwiseError, match="is no group of stages"):
        run(resident, [["a b"]], resident.graph.mask(["upper", "join"]))
