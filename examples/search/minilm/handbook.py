"""The text that is searched: the handbook of a station that does not exist, a passage a line, and its vectors."""

from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from grainwise.domain.errors import ArtifactError
from minilm.encoder import Embed, Embedded, Tokenise, encoder_recipe
from minilm.files import TOKENIZER, made_once

HANDBOOK = Path(__file__).resolve().parent.parent / "handbook.txt"

EMBEDDED_FILE = "handbook.safetensors"

BATCH = 16


class Passage(Struct, frozen=True):
    """One line of the handbook, and the heading above it."""

    section: str
    text: str


class EmbeddedHandbook(Struct, frozen=True):
    """Every passage in vectors of unit length: ``vectors``, (passages, 384) float32; and of passage ``i`` the pieces
    ``tokens[starts[i]:starts[i + 1]]``, of ``tokens``, (pieces of all passages, 384) float32.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.float32]
    starts: NDArray[np.int64]

    def tokens_of(self, passage: int) -> NDArray[np.float32]:
        """The pieces of one passage, (pieces, 384) float32."""
        return self.tokens[self.starts[passage] : self.starts[passage + 1]]


def read_passages() -> list[Passage]:
    """The passages in their order; a line that begins with ``#`` is the heading of those below it."""
    section = ""
    passages: list[Passage] = []
    for line in HANDBOOK.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line:
            passages.append(Passage(section, line))
    return passages


def open_embedded() -> EmbeddedHandbook:
    """The handbook in vectors, computed when it is first asked for.

    Raises:
        ArtifactError: it is to be computed, and the model is absent or another one.
    """
    recipe = encoder_recipe() + TOKENIZER.sha256.encode() + HANDBOOK.read_bytes()
    arrays = load_file(made_once("handbook", recipe, _embed) / EMBEDDED_FILE)
    return EmbeddedHandbook(arrays["vectors"], arrays["tokens"], arrays["starts"])


def _embed(folder: Path) -> None:
    tokenise, embed = Tokenise(), Embed()
    ids: list[NDArray[np.int64]] = []
    for passage, tokens in zip(read_passages(), tokenise([passage.text for passage in read_passages()]), strict=True):
        if not isinstance(tokens, np.ndarray):
            raise ArtifactError(f"{HANDBOOK}: the line {passage.text!r} has no word in it; remove it")
        ids.append(tokens)
    # By length, so that a batch has little padding.
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    embedded: dict[int, Embedded] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        embedded.update(zip(batch, embed([ids[index] for index in batch]), strict=True))
    passages = [embedded[index] for index in range(len(ids))]
    save_file(
        {
            "vectors": np.stack([passage.vector for passage in passages]),
            "tokens": np.concatenate([passage.tokens for passage in passages]),
            "starts": np.cumsum([0, *(len(passage.tokens) for passage in passages)], dtype=np.int64),
        },
        folder / EMBEDDED_FILE,
    )
