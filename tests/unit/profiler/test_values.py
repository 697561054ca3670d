"""Values of samples on their way through a flow: fan-outs, joins, branches, and samples that are dropped."""

from grainwise import App, Batch, Slo, choose, each
from grainwise.domain.values import SKIPPED, Payload, Ref
from grainwise.profiler.values import Values

app = App("flow", slo=Slo(latency_ms=100))


@app.stage()
def split(texts: Batch[str]) -> Batch[list[str]]:
    return [text.split() for text in texts]


@app.stage()
def is_long(texts: Batch[str]) -> Batch[bool]:
    return [len(text) > 5 for text in texts]


@app.stage()
def mark(words: Batch[str], texts: Batch[str]) -> Batch[str]:
    return [f"{word}/{text}" for word, text in zip(words, texts, strict=True)]


@app.stage()
def long(texts: Batch[str]) -> Batch[str]:
    return texts


@app.stage()
def short(texts: Batch[str]) -> Batch[str]:
    return texts


@app.stage()
def join(lists: Batch[list[str]], kinds: Batch[str]) -> Batch[str]:
    return [kind + " ".join(words) for words, kind in zip(lists, kinds, strict=True)]


@app.flow
def flow(text: str) -> str:
    marked = each(lambda word: mark(word, text), split(text))
    return join(marked, choose(is_long(text), {True: long, False: short}, text))


GRAPH = app.graph
STAGE = GRAPH.index_by_name


def one(handle: int, key: bool | None = None) -> Payload:
    return Payload((Ref(handle, 8, (1.0,)),), "one", key)


def many(*handles: int) -> Payload:
    return Payload(tuple(Ref(handle, 8, (1.0,)) for handle in handles), "many")


def test_each_stage_gets_the_items_that_the_flow_gives_it():
    values = Values(GRAPH, [(one(1),), (one(2),)])
    assert [place.inputs for place in values.places(STAGE["split"])] == [(one(1),), (one(2),)]
    values.put(STAGE["split"], 0, (), many(10, 11))
    values.put(STAGE["split"], 1, (), many())
    places = values.places(STAGE["mark"])
    assert [(place.sample, place.path) for place in places] == [(0, (0,)), (0, (1,))]
    assert {payload.refs[0].handle for payload in places[1].inputs} == {11, 1}
    for place in places:
        values.put(STAGE["mark"], place.sample, place.path, one(100 + place.path[0]))
    values.put(STAGE["is_long"], 0, (), one(20, True))
    values.put(STAGE["is_long"], 1, (), one(21, False))
    assert [place.sample for place in values.places(STAGE["long"])] == [0]
    assert [place.sample for place in values.places(STAGE["short"])] == [1]
    values.put(STAGE["long"], 0, (), one(30))
    values.put(STAGE["short"], 1, (), one(31))
    joins = values.places(STAGE["join"])
    assert many(100, 101) in joins[0].inputs
    assert one(30) in joins[0].inputs
    assert SKIPPED in joins[0].inputs
    assert many() in joins[1].inputs
    assert one(31) in joins[1].inputs


def test_a_sample_on_which_a_stage_fails_goes_no_further():
    values = Values(GRAPH, [(one(1),), (one(2),)])
    values.drop(0)
    values.drop(0)
    assert [place.sample for place in values.places(STAGE["split"])] == [1]
