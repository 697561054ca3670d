"""From the vectors of a question to the passages that answer it: the nearest ones, each compared piece by piece.

The comparison is late interaction (Khattab and Zaharia, SIGIR 2020): every piece of the question looks for the piece of the
passage that is most like it, and the mean of these likenesses is the score.
"""

import faiss
import numpy as np
from msgspec import Struct

from grainwise import Batch
from minilm.encoder import Embedded
from minilm.handbook import open_embedded, read_passages

MOST = 32
"""At most this many passages are compared piece by piece."""

MARGIN = 0.25
"""A passage whose cosine is this much below that of the nearest one is not compared: clear questions have few candidates."""

ANSWERS = 3
"""Passages in an answer."""


class Candidate(Struct, frozen=True):
    """A passage by its number in the handbook, and the cosine between it and the question."""

    passage: int
    cosine: float


class Scored(Struct, frozen=True):
    """A passage by its number in the handbook, and how well it answers the question, at most 1."""

    passage: int
    score: float


class Answer(Struct, frozen=True):
    """A passage of the handbook, its section, and how well it answers the question, at most 1."""

    passage: str
    section: str
    score: float


class Search:
    """The passages nearest to a question, nearest first: at least one, and as many as its vector leaves open."""

    def __init__(self) -> None:
        faiss.omp_set_num_threads(1)
        vectors = open_embedded().vectors
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def __call__(self, questions: Batch[Embedded]) -> Batch[list[Candidate]]:
        vectors = np.stack([question.vector for question in questions])
        cosines, passages = self._index.search(vectors, min(MOST, self._index.ntotal))
        return [
            [Candidate(int(p), float(c)) for p, c in zip(near, likeness, strict=True) if c >= likeness[0] - MARGIN]
            for near, likeness in zip(passages, cosines, strict=True)
        ]


class Score:
    """How well a candidate answers a question, from -1 to 1."""

    def __init__(self) -> None:
        self._handbook = open_embedded()

    def __call__(self, candidates: Batch[Candidate], questions: Batch[Embedded]) -> Batch[Scored]:
        scored: Batch[Scored] = []
        for candidate, question in zip(candidates, questions, strict=True):
            likeness = question.tokens @ self._handbook.tokens_of(candidate.passage).T
            scored.append(Scored(candidate.passage, float(likeness.max(axis=1).mean())))
        return scored


class Select:
    """The best passages as text, best first."""

    def __init__(self) -> None:
        self._passages = read_passages()

    def __call__(self, candidates: Batch[list[Scored]]) -> Batch[list[Answer]]:
        return [self._best(scored) for scored in candidates]

    def _best(self, scored: list[Scored]) -> list[Answer]:
        best = sorted(scored, key=lambda one: (-one.score, one.passage))[:ANSWERS]
        return [Answer(self._passages[one.passage].text, self._passages[one.passage].section, one.score) for one in best]
