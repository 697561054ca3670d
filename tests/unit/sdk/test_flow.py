import dataclasses
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from grainwise import App, Batch, Failed, Slo, choose, each, sizes
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import DeclarationError, InputError
from grainwise.domain.graph import EachNode, Element, Gathered, Guard, Input, Merged, Output, StageNode
from grainwise.domain.values import FieldType, ValueType
from grainwise.sdk.edges import describe, fits
from grainwise.sdk.stage import Stage, StageFailedError

TEXT = ValueType("text", "str")


@pytest.fixture
def app() -> App:
    return App("kit", slo=Slo(latency_ms=100))


def split(texts: Batch[str]) -> Batch[list[str]]:
    return [text.split() for text in texts]


def upper(texts: Batch[str]) -> Batch[str]:
    return [text.upper() for text in texts]


def lower(texts: Batch[str]) -> Batch[str]:
    return [text.lower() for text in texts]


def join(lists: Batch[list[str]]) -> Batch[str]:
    return [" ".join(words) for words in lists]


def pair(firsts: Batch[str], seconds: Batch[str]) -> Batch[str]:
    return [first + second for first, second in zip(firsts, seconds, strict=True)]


def is_long(texts: Batch[str]) -> Batch[bool]:
    return [len(text) > 5 for text in texts]


class Greeter:
    constructed = 0

    def __init__(self) -> None:
        type(self).constructed += 1

    def __call__(self, names: Batch[str]) -> Batch[str | Failed]:
        return [f"hello {name}" if name else Failed("no name") for name in names]


def test_a_chain_with_a_fan_out_becomes_a_graph(app: App) -> None:
    first, loud, last = app.stage(split, max_batch=4, size=sizes.length), app.stage(upper), app.stage(join)

    @app.flow
    def report(text: str) -> str:
        return last(each(loud, first(text)))

    graph = app.spec(b"file").graph
    assert graph.input_names == ("text",)
    assert graph.output_names == ("output",)
    assert graph.stages == (
        StageNode("split", "split", (Input(0),)),
        StageNode("upper", "upper", (Element(0),), (0,)),
        StageNode("join", "join", (Gathered(0),)),
    )
    assert graph.eaches == (EachNode(Output(0), Output(1)),)
    assert graph.outputs == (Output(2),)
    assert report("a b") == "A B"


def test_a_body_may_read_values_from_outside_it(app: App) -> None:
    first, both, last = app.stage(split), app.stage(pair), app.stage(join)

    @app.flow
    def report(text: str, suffix: str) -> str:
        return last(each(lambda word: both(word, suffix), first(text)))

    assert app.graph.stages[1].inputs == (Element(0), Input(1))
    assert report("a b", "!") == "a! b!"


def test_fan_outs_nest(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    @app.flow
    def report(texts: list[str]) -> list[str]:
        return each(lambda text: last(each(loud, first(text))), texts)

    assert [node.scope for node in app.graph.stages] == [(0,), (0, 1), (0,)]
    assert app.graph.eaches == (EachNode(Input(0), Output(2)), EachNode(Output(0), Output(1), (0,)))
    assert app.graph.outputs == (Gathered(0),)
    assert report(["a b", "c"]) == ["A B", "C"]


def test_bodies_made_by_one_function_are_no_cycle(app: App) -> None:
    first, loud, last = app.stage(split), app.stage(upper), app.stage(join)

    def over(body: Any) -> Any:
        return lambda text: last(each(lambda word: body(word), first(text)))

    @app.flow
    def report(text: str) -> str:
        result: str = over(over(loud))(text)
        return result

    assert len(app.graph.eaches) == 2
    assert report("a b") == "A B"


def test_choose_guards_its_branches_and_merges_their_results(app: App) -> None:
    loud, quiet, last = app.stage(upper), app.stage(lower), app.stage(upper, name="last")

    @app.flow
    def report(mode: str, text: str) -> str:
        return last(choose(mode, {"loud": loud}, text, otherwise=quiet))

    graph = app.graph
    assert graph.stages[0].guards == (Guard(Input(0), "loud"),)
    assert graph.stages[1].guards == (Guard(Input(0), None, ("loud",)),)
    assert graph.stages[2].inputs == (Merged((Output(0), Output(1))),)
    assert graph.stages[2].guards == ()
    assert report("loud", "a") == "A"
    assert report("other", "A") == "A"


def test_choose_inside_each_keeps_both_scope_and_guard(app: App) -> None:
    long, loud, quiet = app.stage(is_long), app.stage(upper), app.stage(lower)

    @app.flow
    def report(texts: list[str]) -> list[str]:
        return each(lambda text: choose(long(text), {True: loud, False: quiet}, text), texts)

    assert app.graph.stages[1] == StageNode("upper", "upper", (Element(0),), (0,), (Guard(Output(0), True),))
    assert app.graph.eaches[0].result == Merged((Output(1), Output(2)))
    assert report(["abcdefg", "ABC"]) == ["ABCDEFG", "abc"]


def test_eagerly_a_key_without_branch_is_an_input_error(app: App) -> None:
    loud = app.stage(upper)
    with pytest.raises(InputError, match="choose has no branch for the key 'c'; there are branches for 'a', 'b'"):
        choose("c", {"a": loud, "b": loud}, "text")
    with pytest.raises(InputError, match="no branch for the key True"):
        choose(True, {1: loud}, "text")


def test_a_stage_used_twice_gets_a_second_node(app: App) -> None:
    loud = app.stage(upper)

    @app.flow
    def report(text: str) -> str:
        return loud(loud(loud(text)))

    spec = app.spec(b"")
    assert [node.name for node in spec.graph.stages] == ["upper", "upper#2", "upper#3"]
    assert {node.declared for node in spec.graph.stages} == {"upper"}
    assert [stage.name for stage in spec.stages] == ["upper"]
    assert spec.spec(2).name == "upper"


def test_a_stage_that_no_flow_uses_is_left_out(app: App) -> None:
    loud, _ = app.stage(upper), app.stage(lower)

    @app.flow
    def report(text: str) -> str:
        return loud(text)

    assert [stage.name for stage in app.spec(b"").stages] == ["upper"]


class Answer(NamedTuple):
    loud: str
    words: list[str]


def test_outputs_are_named_by_a_named_tuple_a_dict_or_their_position() -> None:
    def names(returned: Any, annotation: Any) -> tuple[str, ...]:
        app = App("kit", slo=Slo(latency_ms=100))
        loud, first = app.stage(upper), app.stage(split)

        def report(text: str) -> Any:
            return returned(loud(text), first(text))

        report.__annotations__["return"] = annotation
        app.flow(report)
        return app.spec(b"").graph.output_names

    assert names(Answer, Answer) == ("loud", "words")
    assert names(lambda one, two: {"one": one, "two": two}, dict[str, Any]) == ("one", "two")
    assert names(lambda one, two: (one, two), tuple[str, list[str]]) == ("output_0", "output_1")
    with pytest.raises(DeclarationError, match="the result 'output_1' of flow 'report' is annotated str"):
        names(lambda one, two: (one, two), tuple[str, str])


def test_a_class_is_constructed_once_and_only_when_it_runs(app: App) -> None:
    Greeter.constructed = 0
    greet = app.stage(Greeter, max_batch=2)
    assert Greeter.constructed == 0
    assert greet("you") == "hello you"
    assert greet("me") == "hello me"
    assert Greeter.constructed == 1
    assert greet.name == "greeter"
    assert greet.spec.is_class
    with pytest.raises(StageFailedError, match="stage 'greeter' failed: no name"):
        greet("")


def test_a_wrong_number_of_results_is_said_eagerly(app: App) -> None:
    @app.stage
    def twice(texts: Batch[str]) -> Batch[str]:
        return texts * 2

    with pytest.raises(StageFailedError, match="stage 'twice' returned 2 results for 1 items"):
        twice("a")


def test_class_names_become_snake_case(app: App) -> None:
    class CropHTTPBoxes:
        def __call__(self, texts: Batch[str]) -> Batch[str]:
            return texts

    assert app.stage(CropHTTPBoxes).name == "crop_http_boxes"
    assert app.stage(CropHTTPBoxes, name="crop").name == "crop"
    assert app.stages.keys() == {"crop_http_boxes", "crop"}


def test_the_spec_says_everything_that_was_declared() -> None:
    app = App("kit", slo=Slo(latency_ms=50, target=0.9), reject_late=True, description="what it does")
    loud = app.stage(upper, max_batch=3, size=sizes.length, device="gpu", memory_mib=10, timeout_ms=20)

    @app.flow
    def report(text: str) -> str:
        return loud(text)

    spec = app.spec(b"file")
    assert (spec.name, spec.slo, spec.reject_late, spec.description) == ("kit", app.slo, True, "what it does")
    stage = spec.stages[0]
    assert (stage.inputs, stage.output, stage.size, stage.device) == ((TEXT,), TEXT, "length", "gpu")
    assert (stage.max_batch, stage.memory_mib, stage.timeout_ms, stage.is_class) == (3, 10, 20, False)
    assert (spec.inputs, spec.outputs) == ((TEXT,), (TEXT,))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AppSpec) == spec


def test_the_digest_follows_the_declaration_and_the_source_digest_the_file() -> None:
    def spec_of(source: bytes, max_batch: int) -> AppSpec:
        app = App("kit", slo=Slo(latency_ms=50))
        loud = app.stage(upper, max_batch=max_batch)

        @app.flow
        def report(text: str) -> str:
            return loud(text)

        return app.spec(source)

    assert spec_of(b"one", 1).digest == spec_of(b"two", 1).digest != spec_of(b"one", 2).digest
    assert spec_of(b"one", 1).source_digest != spec_of(b"two", 1).source_digest


@dataclasses.dataclass
class Box:
    picture: NDArray[np.uint8]
    score: float = 0.0


class Point(msgspec.Struct, rename="camel"):
    far_left: int


def test_annotations_become_value_types() -> None:
    def of(annotation: object) -> ValueType:
        return describe(annotation, "a value", "here")

    assert of(NDArray[np.float32]) == ValueType("tensor", "NDArray[float32]", "float32")
    assert of(np.ndarray) == ValueType("tensor", "ndarray")
    assert of(NDArray[Any]).dtype is None
    assert of(NDArray[np.floating[Any]]).dtype is None
    assert of(NDArray[np.floating]).dtype is None  # type: ignore[type-arg]
    assert of(list[bytes]).element == ValueType("bytes", "bytes")
    assert of(dict[str, float]) == ValueType("mapping", "dict[str, float]", element=ValueType("real", "float"))
    assert of(Box).fields == (
        FieldType("picture", ValueType("tensor", "NDArray[uint8]", "uint8")),
        FieldType("score", ValueType("real", "float"), False),
    )
    assert of(Point).fields == (FieldType("farLeft", ValueType("integer", "int")),)


def test_an_annotated_shape_is_kept() -> None:
    from typing import Annotated, Literal, NewType

    image = describe(Annotated[NDArray[np.uint8], (None, None, 3)], "a value", "here")
    assert (image.dtype, image.shape) == ("uint8", (None, None, 3))
    assert describe(NewType("Name", str), "a value", "here").kind == "text"
    assert describe(Literal["a", "b"], "a value", "here").kind == "text"


def test_fits_compares_kinds_dtypes_shapes_and_elements() -> None:
    def tensor(dtype: str | None, shape: tuple[int | None, ...] | None) -> ValueType:
        return ValueType("tensor", "", dtype, shape)

    assert fits(ValueType("integer", ""), ValueType("real", ""))
    assert not fits(ValueType("boolean", ""), ValueType("integer", ""))
    assert fits(tensor(None, None), tensor("uint8", (3,)))
    assert not fits(tensor("uint8", None), tensor("float32", None))
    assert fits(tensor("uint8", (None, 3)), tensor(None, (5, None)))
    assert not fits(tensor(None, (4, 3)), tensor(None, (5, None)))
    assert not fits(tensor(None, (4, 3)), tensor(None, (4,)))
    assert not fits(ValueType("list", "", element=TEXT), ValueType("list", "", element=ValueType("bytes", "")))


def test_a_custom_size_is_allowed_behind_a_first_stage(app: App) -> None:
    first, loud = app.stage(split), app.stage(upper, size=len)

    @app.flow
    def report(text: str) -> list[str]:
        return each(loud, first(text))

    assert app.spec(b"").spec(1).size == "custom"


def test_plain_values_and_functions_may_be_captured(app: App) -> None:
    suffix, table, weights = "!", {"a": [1, 2.5, ("b",)]}, np.zeros(3)

    def ending() -> str:
        return suffix

    @app.stage
    def end(texts: Batch[str]) -> Batch[str]:
        return [text + ending() + str(len(table) + len(weights)) for text in texts]

    assert end("a") == "a!4"


def test_repr_names_the_object(app: App) -> None:
    stage: Stage[[str], str] = app.stage(upper)
    assert repr(app) == "<app 'kit'>"
    assert repr(stage) == "<stage 'upper' of app 'kit'>"
    assert repr(Failed("why")) == "Failed('why')"
    assert repr(sizes.one) == "sizes.one"
