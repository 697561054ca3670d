"""What an app is made of: its file and the modules of its own folder, found without running them."""

import hashlib
from pathlib import Path

import pytest

from grainwise.runtimes.loading import load_app
from grainwise.runtimes.sources import neighbours, source_digest

APP = """
import os, numpy
import words.tables as tables
from words import clean
from plain import suffix
from grainwise import App, Batch, Slo

app = App("many", slo=Slo(latency_ms=100))


@app.stage
def one(texts: Batch[str]) -> Batch[str]:
    import later
    return [clean.tidy(text) + suffix for text in texts]


@app.flow
def flow(text: str) -> str:
    return one(text)
"""
FILES = {
    "app.py": APP,
    "plain.py": "suffix = '!'\n",
    "later.py": "",
    "unused.py": "",
    "words/__init__.py": "",
    "words/tables.py": "from .deep.data import VALUE\n",
    "words/clean.py": "from . import sibling\ndef tidy(text):\n    return text.strip()\n",
    "words/sibling.py": "",
    "words/unused.py": "",
    "words/deep/data.py": "from ..far import *\nVALUE = 1\n",
    "words/far.py": "import app\n",
}
USED = set(FILES) - {"app.py", "unused.py", "words/unused.py"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_digest_follows_every_module_that_is_imported_and_no_other(folder: Path, name: str) -> None:
    before = source_digest(folder / "app.py")
    (folder / name).write_text(FILES[name] + "# an edit\n")
    assert (source_digest(folder / "app.py") != before) == (name in USED | {"app.py"})


def test_a_module_that_is_new_or_gone_changes_the_digest(folder: Path) -> None:
    before = neighbours(folder / "app.py")
    (folder / "later.py").unlink()
    assert neighbours(folder / "app.py") != before
    (folder / "later.py").write_text("")
    assert neighbours(folder / "app.py") == before


def test_an_app_that_is_one_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("import os, numpy\nfrom grainwise import App\n")
    assert source_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_neighbour_that_is_no_python_is_part_of_it_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("import broken\n")
    (tmp_path / "broken.py").write_text("this is ( no Python")
    assert b"no Python" in neighbours(path)


def test_the_spec_of_an_imported_app_has_this_digest() -> None:
    path = Path(__file__).parents[3] / "examples" / "ocr" / "app.py"
    pytest.importorskip("onnxruntime")
    found = neighbours(path)
    assert all(f"ppocr/{name}.py\0".encode() in found for name in ("__init__", "detection", "lines", "models", "page"))
    assert load_app(path).spec(path.read_bytes()).source_digest == source_digest(path)
