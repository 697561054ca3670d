"""Twelve lines, no model: words of a text, each cleaned and measured by itself, and a report of them all.

    grainwise serve examples/text/app.py
    curl -d '{"text": "Deep  GRAIN, wise"}' localhost:8000/v1/apps/text

A stage is a function of a batch: it gets a list with one entry per item and returns a list of the same length. The flow
composes stages and runs as plain Python too: ``report("Deep grain")`` in a test needs no server. ``each`` fans out over a
list whose length is known only when the request is there; its body is a stage, or a function of stages.
"""

from grainwise import App, Batch, Slo, each, sizes

app = App("text", slo=Slo(latency_ms=100, target=0.99), description="Words of a text, cleaned, with their lengths.")


@app.stage(max_batch=8, size=sizes.length)
def split(texts: Batch[str]) -> Batch[list[str]]:
    return [text.split() for text in texts]


@app.stage(max_batch=32, size=sizes.length)
def clean(words: Batch[str]) -> Batch[str]:
    return [word.strip(".,;:!?\"'()").lower() for word in words]


@app.stage(max_batch=32, size=sizes.length)
def count(words: Batch[str]) -> Batch[str]:
    return [f"{word}:{len(word)}" for word in words]


@app.stage(max_batch=8)
def join(lists: Batch[list[str]]) -> Batch[str]:
    return [" ".join(words) for words in lists]


@app.flow
def report(text: str) -> str:
    return join(each(lambda word: count(clean(word)), split(text)))


@app.samples
def texts() -> list[str]:
    return ["Deep GRAIN, wise", "to be, or not to be: that is the question", " ".join(["many (small) words."] * 30)]
