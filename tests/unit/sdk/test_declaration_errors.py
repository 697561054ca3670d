"""Every declaration error says what, where (this file and a line) and how to mend it."""

import dataclasses
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from grainwise import App, Batch, Slo, choose, each, sizes
from grainwise.domain.errors import DeclarationError

FLOWS: list[tuple[Callable[..., Any], str, str]] = []
DECLARATIONS: list[tuple[Callable[[App], Any], str, str]] = []


class Kit:
    """An app with a few stages, for flows to go wrong with."""

    def __init__(self) -> None:
        self.app = App("kit", slo=Slo(latency_ms=100))
        self.split = self.app.stage(split)
        self.upper = self.app.stage(upper, max_batch=8)
        self.join = self.app.stage(join)
        self.count = self.app.stage(count)
        self.long = self.app.stage(is_long)
        self.pair = self.app.stage(pair)
        self.rows = self.app.stage(rows)


def split(texts: Batch[str]) -> Batch[list[str]]:
    return [text.split() for text in texts]


def upper(texts: Batch[str]) -> Batch[str]:
    return [text.upper() for text in texts]


def join(lists: Batch[list[str]]) -> Batch[str]:
    return [" ".join(words) for words in lists]


def count(texts: Batch[str]) -> Batch[int]:
    return [len(text) for text in texts]


def is_long(texts: Batch[str]) -> Batch[bool]:
    return [len(text) > 5 for text in texts]


def pair(firsts: Batch[str], seconds: Batch[str]) -> Batch[str]:
    return [first + second for first, second in zip(firsts, seconds, strict=True)]


def rows(texts: Batch[str]) -> Batch[list[list[str]]]:
    return [[line.split() for line in text.splitlines()] for text in texts]


def flow(what: str, mend: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def remember(function: Callable[..., Any]) -> Callable[..., Any]:
        FLOWS.append((function, what, mend))
        return function

    return remember


def declaration(what: str, mend: str) -> Callable[[Callable[[App], Any]], Callable[[App], Any]]:
    def remember(function: Callable[[App], Any]) -> Callable[[App], Any]:
        DECLARATIONS.append((function, what, mend))
        return function

    return remember


@flow("branches on or compares a value of type bool", "write choose(key, {...}")
def branches_on_a_value(kit: Kit, text: str) -> str:
    return kit.upper(text) if kit.long(text) else text


@flow("branches on or compares a value", "write choose")
def compares_a_value(kit: Kit, text: str) -> str:
    return kit.upper(text) if kit.count(text) > 3 else text


@flow("branches on or compares a value", "write choose")
def checks_equality(kit: Kit, text: str) -> str:
    return kit.upper(text) if text == "a" else text


@flow("goes through a value (for, map, list, len, in or unpacking) of type list[str]", "write each(stage, values)")
def uses_the_builtin_map(kit: Kit, text: str) -> str:
    return kit.join(list(map(kit.upper, kit.split(text))))


@flow("goes through a value", "write each(stage, values)")
def loops_over_a_value(kit: Kit, text: str) -> str:
    return kit.join([kit.upper(word) for word in kit.split(text)])


@flow("goes through a value", "write each")
def takes_a_length(kit: Kit, text: str) -> str:
    return kit.upper(text) if len(kit.split(text)) else text


@flow("looks into a value", "let a stage do it")
def indexes_a_value(kit: Kit, text: str) -> str:
    return kit.upper(kit.split(text)[0])


@flow("reads the attribute 'upper' of a value of type str", "let a stage read it")
def reads_an_attribute(kit: Kit, text: str) -> str:
    return kit.upper(text.upper())


@flow("computes with a value", "only stages, each and choose")
def formats_a_value(kit: Kit, text: str) -> str:
    return kit.upper(f"{text}!")


@flow("computes with a value", "only stages, each and choose")
def adds_to_a_value(kit: Kit, text: str) -> str:
    return kit.upper(text + "!")


@flow("computes with a value", "only stages, each and choose")
def uses_a_value_as_a_key(kit: Kit, text: str) -> str:
    return {text: kit.upper(text)}[text]


@flow("is the constant 'fixed'", "give it to the stage as a default, or make it an entry value")
def passes_a_constant(kit: Kit, text: str) -> str:
    return kit.pair(text, "fixed")


@flow("takes 2 values and is given 1", "give one per parameter")
def passes_too_few(kit: Kit, text: str) -> str:
    return kit.pair(text)  # type: ignore[call-arg]


@flow("by position, not by name", "takes its values by position")
def passes_by_name(kit: Kit, text: str) -> str:
    return kit.upper(texts=text)  # type: ignore[call-arg]


@flow("parameter 'lists' of stage 'join' takes list[str] and is given a value of type str", "put a stage between")
def joins_a_wrong_edge(kit: Kit, text: str) -> str:
    return kit.join(kit.upper(text))  # type: ignore[arg-type]


@flow("each goes over a list, and this is a value of type str", "let a stage make a list of it")
def fans_out_over_text(kit: Kit, text: str) -> list[str]:
    return each(kit.upper, text)  # type: ignore[arg-type]


@flow("an each body uses no stage", "call a stage in it")
def has_a_body_without_a_stage(kit: Kit, text: str) -> list[str]:
    return each(lambda word: word, kit.split(text))


@flow("an each body returns a value from outside it", "return what one of its own stages made")
def has_a_body_that_returns_an_outer_value(kit: Kit, text: str) -> list[str]:
    loud = kit.upper(text)

    def body(word: str) -> str:
        kit.upper(word)
        return loud

    return each(body, kit.split(text))


@flow("an each body returns nothing", "return what one of its stages made")
def has_a_body_that_returns_nothing(kit: Kit, text: str) -> list[None]:
    def body(word: str) -> None:
        kit.upper(word)

    return each(body, kit.split(text))


@flow("an each body returns the list of another each", "let a stage of the body take that list first")
def returns_an_inner_list(kit: Kit, text: str) -> list[list[str]]:
    return each(lambda word: each(kit.upper, kit.split(word)), kit.split(text))


@flow("goes over the outer element itself", "let a stage take that inner list first")
def goes_over_an_element(kit: Kit, text: str) -> list[str]:
    return each(lambda row: kit.join(each(kit.upper, row)), kit.rows(text))


@flow("stage 'upper' is called in an each body and reads nothing of its element", "call it before the each")
def does_the_same_for_each_element(kit: Kit, text: str) -> list[str]:
    return each(lambda word: kit.pair(word, kit.upper(text)), kit.split(text))


@flow("goes over a list that has nothing to do with its element", "do this each before the outer one")
def goes_over_the_same_list_for_each_element(kit: Kit, text: str) -> list[str]:
    words = kit.split(text)
    return each(lambda word: kit.pair(word, kit.join(each(kit.upper, words))), words)


@flow("was made inside an each body", "return it from the body")
def leaks_a_value_of_a_body(kit: Kit, text: str) -> str:
    leaked: list[str] = []

    def body(word: str) -> str:
        leaked.append(kit.upper(word))
        return leaked[-1]

    each(body, kit.split(text))
    return kit.upper(leaked[0])


@flow("was made in a branch of choose, which may not run", "return it from the branch")
def leaks_a_value_of_a_branch(kit: Kit, text: str) -> str:
    leaked: list[str] = []

    def branch(word: str) -> str:
        leaked.append(kit.upper(word))
        return leaked[-1]

    choose(text, {"a": branch}, text, otherwise=kit.upper)
    return kit.upper(leaked[0])


@flow("the body of each is 3", "give it a stage or a function of stages")
def has_a_body_that_is_no_function(kit: Kit, text: str) -> list[str]:
    return each(3, kit.split(text))  # type: ignore[arg-type]


@flow("a branch of choose is 'upper'", "give it a stage or a function of stages")
def has_a_branch_that_is_no_function(kit: Kit, text: str) -> str:
    return choose(text, {"a": "upper"}, text)  # type: ignore[dict-item]


@flow("a branch of choose uses no stage", "call a stage in it")
def has_a_branch_without_a_stage(kit: Kit, text: str) -> str:
    return choose(kit.long(text), {True: kit.upper, False: lambda same: same}, text)


@flow("a branch of choose returns a value from outside it", "return what one of its own stages made")
def has_a_branch_that_returns_an_outer_value(kit: Kit, text: str) -> str:
    loud = kit.upper(text)

    def branch(word: str) -> str:
        kit.upper(word)
        return loud

    return choose(kit.long(text), {True: branch}, text, otherwise=kit.upper)


@flow("the branches of choose return str and int", "let all of them return the same type")
def has_branches_of_different_types(kit: Kit, text: str) -> Any:
    branches: Any = {True: kit.upper, False: kit.count}
    return choose(kit.long(text), branches, text)


@flow("the key of choose has type list[str]", "let a stage make a bool, an int or a str of it")
def chooses_by_a_list(kit: Kit, text: str) -> str:
    key: Any = kit.split(text)
    return choose(key, {"a": kit.upper}, text)


@flow("choose reads a key of type bool and has a branch for 'yes'", "write every branch key as bool")
def chooses_by_a_key_of_another_type(kit: Kit, text: str) -> str:
    branches: Any = {"yes": kit.upper}
    return choose(kit.long(text), branches, text)


@flow("choose has no branches", "give it a mapping from keys to stages")
def chooses_among_nothing(kit: Kit, text: str) -> str:
    return choose(kit.long(text), {}, text, otherwise=kit.upper)


@flow("a cycle: this each or choose body leads back to itself", "do the repetition inside a stage")
def has_a_body_that_calls_itself(kit: Kit, text: str) -> list[str]:
    def body(word: str) -> str:
        return kit.join(each(body, kit.split(word)))

    return each(body, kit.split(text))


@flow("a cycle: in flow", "a stage can only read what comes before it")
def feeds_a_stage_with_its_own_result(kit: Kit, text: str) -> str:
    loud = kit.pair(text, quiet)  # type: ignore[used-before-def] # noqa: F821
    quiet = kit.upper(loud)
    return kit.upper(quiet)


@flow("uses no stage", "call a stage in it")
def has_no_stage(kit: Kit, text: str) -> str:
    return text


@flow("returns nothing", "return what its stages made")
def forgets_to_return(kit: Kit, text: str) -> None:
    kit.upper(text)


@flow("returns its entry value 'output_1' as it came", "leave it out")
def returns_an_entry_value(kit: Kit, text: str) -> tuple[str, str]:
    return kit.upper(text), text


@flow("returns one value twice", "return it once")
def returns_a_value_twice(kit: Kit, text: str) -> tuple[str, str]:
    loud = kit.upper(text)
    return loud, loud


@flow("is annotated int and the stage returns str", "change one of the annotations")
def returns_another_type(kit: Kit, text: str) -> int:
    return kit.upper(text)  # type: ignore[return-value]


@flow("entry value 'text' of flow", "write text: ...")
def has_an_entry_value_without_annotation(kit, text):
    return kit.upper(text)


@flow("has no annotation for its result", "write -> ...")
def has_a_result_without_annotation(kit: Kit, text: str):
    return kit.upper(text)


@flow("has type object, which may not cross an edge", "numpy arrays, bytes, str")
def has_an_entry_value_that_may_not_cross(kit: Kit, text: object) -> str:
    return kit.upper(text)  # type: ignore[arg-type]


@flow("is *args, **kwargs or keyword-only", "name each entry value")
def has_a_keyword_only_entry_value(kit: Kit, *, text: str) -> str:
    return kit.upper(text)


@flow("returns a dict; its keys must be str", "name the outputs")
def returns_a_dict_without_names(kit: Kit, text: str) -> dict[int, str]:
    return {1: kit.upper(text)}


@flow("returns an empty tuple", "return what its stages made")
def returns_an_empty_tuple(kit: Kit, text: str) -> tuple[()]:
    return ()


@pytest.mark.parametrize(("function", "what", "mend"), FLOWS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_flow_is_refused_with_what_where_and_how(function: Callable[..., Any], what: str, mend: str) -> None:
    kit = Kit()
    kit.app.flow(bound(function, kit))
    with pytest.raises(DeclarationError) as raised:
        kit.app.spec(b"")
    assert_helpful(raised.value, what, mend)


def bound(function: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
    """The flow without its first parameter, with its signature, name and place kept."""
    return function.__get__(kit)  # type: ignore[no-any-return]


def assert_helpful(error: DeclarationError, what: str, mend: str) -> None:
    text = str(error)
    assert re.match(re.escape(str(Path(__file__))) + r":\d+: ", text), text
    assert what in text
    assert mend in text


@declaration("has type object, which may not cross an edge", "numpy arrays, bytes, str")
def takes_an_object(app: App) -> Any:
    @app.stage
    def stage(values: Batch[object]) -> Batch[str]:
        return [str(value) for value in values]


@declaration("parameter 'values' of stage 'stage' has type set[str]", "numpy arrays, bytes, str")
def takes_a_set(app: App) -> Any:
    @app.stage
    def stage(values: Batch[set[str]]) -> Batch[str]:
        return [" ".join(value) for value in values]


@declaration("the result of stage 'stage' has type tuple[int, int]", "numpy arrays, bytes, str")
def returns_a_tuple(app: App) -> Any:
    @app.stage
    def stage(values: Batch[str]) -> Batch[tuple[int, int]]:
        return [(1, 2) for _ in values]


@declaration("has type str | None, which may not cross an edge because of None", "use an empty list, or a flag beside it")
def takes_an_optional(app: App) -> Any:
    @app.stage
    def stage(values: Batch[str | None]) -> Batch[str]:
        return [value or "" for value in values]


@declaration("has type list, which may not cross an edge because it does not say of what", "list[...]")
def takes_a_bare_list(app: App) -> Any:
    @app.stage
    def stage(values: Batch[list]) -> Batch[str]:  # type: ignore[type-arg]
        return ["" for _ in values]


@declaration("because its keys are not str", "dict[str, ...]")
def takes_a_dict_of_int(app: App) -> Any:
    @app.stage
    def stage(values: Batch[dict[int, str]]) -> Batch[str]:
        return ["" for _ in values]


@declaration("because of its dtype complex128", "numpy arrays")
def takes_a_complex_array(app: App) -> Any:
    @app.stage
    def stage(values: Batch[NDArray[np.complex128]]) -> Batch[str]:
        return ["" for _ in values]


@dataclasses.dataclass
class Tree:
    children: "list[Tree]"


@declaration("has type Tree", "because it contains itself")
def takes_a_recursive_record(app: App) -> Any:
    @app.stage
    def stage(values: Batch[Tree]) -> Batch[str]:
        return ["" for _ in values]


class Tagged(msgspec.Struct, tag="x"):
    name: str


@declaration("because it is array_like or tagged", "msgspec.Struct of these")
def takes_a_tagged_struct(app: App) -> Any:
    @app.stage
    def stage(values: Batch[Tagged]) -> Batch[str]:
        return ["" for _ in values]


@dataclasses.dataclass
class Holder:
    lock: threading.Lock


@declaration("(in Holder), which may not cross an edge", "a dataclass or msgspec.Struct of these")
def takes_a_record_with_a_lock(app: App) -> Any:
    @app.stage
    def stage(values: Batch[Holder]) -> Batch[str]:
        return ["" for _ in values]


@declaration("parameter 'value' of stage 'stage' is annotated str; a stage takes and returns Batches", "write Batch[str]")
def takes_no_batch(app: App) -> Any:
    stage: Any = app.stage

    @stage
    def stage(value: str) -> Batch[str]:
        return [value]


@declaration("the result of stage 'stage' is annotated str", "write Batch[str]")
def returns_no_batch(app: App) -> Any:
    stage: Any = app.stage

    @stage
    def stage(values: Batch[str]) -> str:
        return values[0]


class TakesOne:
    def __call__(self, value: str) -> Batch[str]:
        return [value]


@declaration("parameter 'value' of stage 'takes_one' is annotated str", "write Batch[str]")
def is_a_class_that_takes_no_batch(app: App) -> Any:
    declare: Any = app.stage
    declare(TakesOne)


@declaration("parameter 'values' of stage 'stage' has no annotation", "write values: Batch[...]")
def has_no_annotation(app: App) -> Any:
    @app.stage
    def stage(values) -> Batch[str]:
        return list(values)


@declaration("stage 'stage' has no annotation for its result", "write -> Batch[...]")
def has_no_result_annotation(app: App) -> Any:
    @app.stage
    def stage(values: Batch[str]):
        return values


@declaration("cannot be resolved", "import the name at the top of the file")
def has_an_unknown_annotation(app: App) -> Any:
    @app.stage
    def stage(values: "Batch[Missing]") -> Batch[str]:  # type: ignore[name-defined] # noqa: F821
        return ["" for _ in values]


@declaration("already has a stage named 'upper', declared at", "give one of them name=...")
def declares_a_name_twice(app: App) -> Any:
    app.stage(upper)
    app.stage(upper)


@declaration("cannot be the name of a stage", "give it name=...")
def has_a_bad_name(app: App) -> Any:
    app.stage(upper, name="up#2")


@declaration("has max_batch=0", "a whole number >= 1")
def has_no_batch(app: App) -> Any:
    app.stage(upper, max_batch=0)


@declaration("has device='tpu'", "'cpu' or 'gpu'")
def has_an_unknown_device(app: App) -> Any:
    device: Any = "tpu"
    app.stage(upper, device=device)


@declaration("has timeout_ms=-1", "greater than 0")
def has_a_negative_timeout(app: App) -> Any:
    app.stage(upper, timeout_ms=-1)


@declaration("has memory_mib=0", "greater than 0")
def needs_no_memory(app: App) -> Any:
    app.stage(upper, memory_mib=0)


@declaration("has size='pixels'", "a measure of grainwise.sizes")
def has_a_size_that_is_text(app: App) -> Any:
    size: Any = "pixels"
    app.stage(upper, size=size)


@declaration("has size=sizes.pixels, which cannot measure str", "use sizes.nbytes, sizes.length")
def measures_text_in_pixels(app: App) -> Any:
    app.stage(upper, size=sizes.pixels)


class NeedsAPath:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, values: Batch[str]) -> Batch[str]:
        return values


@declaration("the constructor of stage 'needs_a_path' needs 'path'", "give the parameter a default")
def has_a_constructor_with_a_parameter(app: App) -> Any:
    declare: Any = app.stage
    declare(NeedsAPath)


class Silent:
    pass


@declaration("the class of stage 'silent' has no __call__", "write one that takes and returns Batches")
def has_no_call(app: App) -> Any:
    declare: Any = app.stage
    declare(Silent)


@declaration("is a coroutine or a generator", "write a plain function that returns a list")
def is_a_coroutine(app: App) -> Any:
    declare: Any = app.stage

    @declare
    async def stage(values: Batch[str]) -> Batch[str]:
        return values


@declaration("takes *args, **kwargs or a keyword-only value", "name each batch")
def takes_any_number(app: App) -> Any:
    declare: Any = app.stage

    @declare
    def stage(*values: Batch[str]) -> Batch[str]:
        return values[0]


@declaration("takes 0 batches", "a stage takes 1 to 6")
def takes_nothing(app: App) -> Any:
    declare: Any = app.stage

    @declare
    def stage() -> Batch[str]:
        return []


@declaration("cannot be a stage", "give a class or a function")
def is_no_function(app: App) -> Any:
    declare: Any = app.stage
    declare(3)


@declaration(
    "closes over unpicklable state: the captured variable 'lock' holds a lock", "make it in the constructor of a class"
)
def captures_a_lock(app: App) -> Any:
    lock = threading.Lock()

    @app.stage
    def stage(values: Batch[str]) -> Batch[str]:
        with lock:
            return values


@declaration("the captured variable 'opened' holds a _FileIO", "declare the class as the stage")
def captures_an_open_file(app: App) -> Any:
    class _FileIO(io.FileIO):
        pass

    opened = _FileIO(__file__)
    opened.close()

    @app.stage
    def stage(values: Batch[str]) -> Batch[str]:
        return [value + str(opened) for value in values]


@declaration("an entry of the captured variable 'pool'['locks'] holds a lock", "make it in the constructor")
def captures_a_lock_in_a_list(app: App) -> Any:
    pool = {"locks": [threading.Lock()]}

    @app.stage
    def stage(values: Batch[str]) -> Batch[str]:
        return [value + str(pool) for value in values]


@declaration("the captured variable 'lock' holds a lock", "make it in the constructor")
def captures_a_function_that_captures_a_lock(app: App) -> Any:
    lock = threading.Lock()

    def locked(value: str) -> str:
        with lock:
            return value

    @app.stage
    def stage(values: Batch[str]) -> Batch[str]:
        return [locked(value) for value in values]


@declaration("a default holds a lock", "make it in the constructor")
def has_a_lock_as_a_default(app: App) -> Any:
    class Stage:
        def __init__(self, lock: Any = threading.Lock()) -> None:  # noqa: B008
            self.lock = lock

        def __call__(self, values: Batch[str]) -> Batch[str]:
            return values

    app.stage(Stage)


@declaration("the class attribute 'lock' holds a lock", "make it in the constructor")
def has_a_lock_as_a_class_attribute(app: App) -> Any:
    class Stage:
        lock = threading.Lock()

        def __call__(self, values: Batch[str]) -> Batch[str]:
            return values

    app.stage(Stage)


@declaration("already has a flow at", "an app has one")
def declares_two_flows(app: App) -> Any:
    loud = app.stage(upper)

    @app.flow
    def first(text: str) -> str:
        return loud(text)

    @app.flow
    def second(text: str) -> str:
        return loud(text)


@declaration("has no flow", "compose its stages in a function under @app.flow")
def declares_no_flow(app: App) -> Any:
    app.stage(upper)
    app.spec(b"")


@declaration("unknown stage: 'upper' belongs to app 'other' and is used in a flow of app 'kit'", "declare it there")
def uses_a_stage_of_another_app(app: App) -> Any:
    other = App("other", slo=Slo(latency_ms=1))
    loud = other.stage(upper)

    @app.flow
    def report(text: str) -> str:
        return loud(text)

    app.spec(b"")


@declaration("a cycle: flow 'report' is called from a flow", "do repetition inside a stage")
def calls_the_flow_from_itself(app: App) -> Any:
    loud = app.stage(upper)

    @app.flow
    def report(text: str) -> str:
        return report(loud(text))

    app.spec(b"")


@declaration("a cycle: flow 'report' calls itself without end", "do the repetition inside a stage")
def repeats_without_end(app: App) -> Any:
    loud = app.stage(upper)

    def again(text: str) -> str:
        return again(loud(text))

    @app.flow
    def report(text: str) -> str:
        return again(text)

    app.spec(b"")


@declaration("is given a value of a flow outside that flow", "outside that flow")
def keeps_a_value_for_later(app: App) -> Any:
    loud = app.stage(upper)
    kept: list[str] = []

    @app.flow
    def report(text: str) -> str:
        kept.append(text)
        return loud(text)

    app.spec(b"")
    loud(kept[0])


@declaration("has a size function of its own and first reads the entry value 'text'", "or put a stage before it")
def measures_an_entry_value_with_a_function(app: App) -> Any:
    loud = app.stage(upper, size=len)

    @app.flow
    def report(text: str) -> str:
        return loud(text)

    app.spec(b"")


@declaration("has a size function of its own and first reads the entry value 'texts'", "use a measure of grainwise.sizes")
def measures_an_element_of_an_entry_value_with_a_function(app: App) -> Any:
    loud = app.stage(upper, size=len)

    @app.flow
    def report(texts: list[str]) -> list[str]:
        return each(loud, texts)

    app.spec(b"")


@declaration("has no entry value", "give it at least one parameter")
def has_no_entry_value(app: App) -> Any:
    @app.flow
    def report() -> str:
        return ""

    app.spec(b"")


@declaration("cannot be resolved", "import it at the top of the file")
def has_a_flow_with_an_unknown_annotation(app: App) -> Any:
    @app.flow
    def report(text: "Missing") -> str:  # type: ignore[name-defined] # noqa: F821
        return str(text)

    app.spec(b"")


@declaration("'my app' cannot be the name of an app", "use letters, digits")
def has_a_bad_app_name(app: App) -> Any:
    App("my app", slo=Slo(latency_ms=1))


@declaration("latency_ms must be > 0", "target in (0, 1]")
def has_an_impossible_slo(app: App) -> Any:
    App("app", slo=Slo(latency_ms=1, target=1.5))


class Box(NamedTuple):
    left: int


@declaration("has type Box", "numpy arrays")
def takes_a_named_tuple(app: App) -> Any:
    @app.stage
    def stage(values: Batch[Box]) -> Batch[str]:
        return ["" for _ in values]


@dataclasses.dataclass
class Here:
    name: str


def a_class_of_the_same_name() -> Any:
    @dataclasses.dataclass
    class Here:
        name: str

    return Here


There: Any = a_class_of_the_same_name()


def make_here(texts: Batch[str]) -> Batch[Here]:
    return [Here(text) for text in texts]


def take_there(values: Batch[There]) -> Batch[str]:
    return [value.name for value in values]


@declaration(
    "parameter 'values' of stage 'take_there' takes Here and is given a value of type Here", "change one of the annotations"
)
def hands_on_another_class_of_the_same_name(app: App) -> Any:
    make, take = app.stage(make_here), app.stage(take_there)

    @app.flow
    def report(text: str) -> str:
        return take(make(text))

    app.spec(b"")


@pytest.mark.parametrize(("declare", "what", "mend"), DECLARATIONS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_declaration_is_refused_with_what_where_and_how(declare: Callable[[App], Any], what: str, mend: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        declare(App("kit", slo=Slo(latency_ms=100)))
    assert_helpful(raised.value, what, mend)


def test_each_over_a_non_list_is_refused_eagerly_too() -> None:
    with pytest.raises(DeclarationError, match="each goes over a list, and this is str"):
        each(Kit().upper, "text")  # type: ignore[arg-type]
