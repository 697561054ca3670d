"""From a text to its vectors: word pieces, and a network that gives one vector per piece and one for the whole."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

# Read by the native libraries when they are first imported: a file that is imported once and then forked may start no
# thread, and the telemetry uploader of recent ONNX Runtime releases would be one.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import onnxruntime
from msgspec import Struct
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from grainwise import Batch, Failed
from minilm import graph
from minilm.files import TOKENIZER, WEIGHTS, made_once

MAX_TOKENS = 256
"""What the model was evaluated with; the rest of a longer text is not read."""

LENGTH_STEP = 8
"""Texts are padded to a multiple of this, so that texts of nearly equal length share a batch and padding stays small."""


class Embedded(Struct, frozen=True):
    """What a text means: ``vector``, (384,) float32, as a whole, and ``tokens``, (words, 384) float32, piece by piece.

    All are of unit length; the marks of beginning and end have no part in ``tokens``.
    """

    vector: NDArray[np.float32]
    tokens: NDArray[np.float32]


class Tokenise:
    """A text to the numbers of its word pieces, (tokens,) int64 with a mark at each end; fails on a text without any."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(TOKENIZER.find()))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts: Batch[str]) -> Batch[NDArray[np.int64] | Failed]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> NDArray[np.int64] | Failed:
        ids = np.array(self._tokenizer.encode(text).ids, np.int64)
        return ids if len(ids) > 2 else Failed(f"no question: {len(text)} characters and no word among them")


class Embed:
    """Word pieces, (tokens,) int64, to vectors."""

    def __init__(self) -> None:
        self._session = open_session(encoder_file())

    def __call__(self, texts: Batch[NDArray[np.int64]]) -> Batch[Embedded]:
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, ids in enumerate(texts):
            by_length[-(-len(ids) // LENGTH_STEP) * LENGTH_STEP].append(index)
        embedded: dict[int, Embedded] = {}
        for length, members in by_length.items():
            tokens, vectors = self._run([texts[index] for index in members], length)
            for row, index in enumerate(members):
                # Copied, so that a vector does not keep its whole batch alive.
                inner = tokens[row, 1 : len(texts[index]) - 1].copy()
                embedded[index] = Embedded(vectors[row].copy(), inner)
        return [embedded[index] for index in range(len(texts))]

    def _run(self, texts: Sequence[NDArray[np.int64]], length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(texts, length, 384) and (texts, 384)."""
        ids = np.zeros((len(texts), length), np.int64)
        mask = np.zeros((len(texts), length), np.float32)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        tokens, vectors = self._session.run(["tokens", "vector"], {"ids": ids, "mask": mask})
        return tokens, vectors


def encoder_recipe() -> bytes:
    """What decides the content of the encoder's files: the weights, and how the graph is written."""
    return WEIGHTS.sha256.encode() + Path(graph.__file__).read_bytes()


def encoder_file() -> Path:
    """The encoder in ONNX, written when it is first asked for.

    Raises:
        ArtifactError: it is to be written, and the weights are absent or other ones.
    """
    made = made_once("encoder", encoder_recipe(), lambda folder: graph.write_encoder(load_file(WEIGHTS.find()), folder))
    return made / graph.MODEL_FILE


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """A session that uses as many threads as the instance was given (``GRAINWISE_THREADS``, else one) and never spins."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("GRAINWISE_THREADS", "1"))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Texts have many lengths: kept blocks and per-shape memory plans cost memory and save no time.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
