"""Which files an app is made of: its app file, and every module of its own folder that is imported from there.

The files are read, not run: the answer depends on nothing but their content, and can be had without an import of the app.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path


def neighbours(path: Path) -> bytes:
    """The modules beside or below the app file that it imports, at any depth and also inside functions, as one value.

    Sorted by relative path, each with its path, its length and its bytes; empty for an app that is one file. A module that
    is imported by a computed name is not found.
    """
    path = path.resolve()
    folder = path.parent
    found: dict[str, bytes] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        try:
            source = file.read_bytes()
            tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError):
            # A file that is no Python has nothing to follow; whoever imports it says what is wrong.
            continue
        for candidate in _imported(tree, file, folder):
            name = candidate.relative_to(folder).as_posix()
            if name not in found and candidate != path and candidate.is_file():
                found[name] = candidate.read_bytes()
                waiting.append(candidate)
    return b"".join(b"%s\0%d\0%s" % (name.encode(), len(found[name]), found[name]) for name in sorted(found))


def source_digest(path: Path) -> str:
    """What ``AppSpec.source_digest`` is for the app file at ``path``, without importing it.

    Raises:
        OSError: the file cannot be read.
    """
    return hashlib.sha256(path.read_bytes() + neighbours(path)).hexdigest()


def _imported(tree: ast.Module, file: Path, folder: Path) -> Iterator[Path]:
    """Where the modules that ``tree`` imports would lie in ``folder``, their packages included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            root = folder if not node.level else file.parent
            for _ in range(node.level - 1):
                root = root.parent
            if root != folder and folder not in root.parents:
                continue
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(root, [*parts, alias.name])


def _files(root: Path, parts: list[str]) -> Iterator[Path]:
    """The files behind a dotted name: every package on the way, and the module itself; some may not exist."""
    place = root
    for part in parts:
        if part == "*":
            return
        yield place / f"{part}.py"
        place = place / part
        yield place / "__init__.py"
