"""What the load generator posts: per app one or several bodies, the one nearest in size where the workload gives sizes.

What a file holds is unknown to the client: the size of a body is its length in bytes over the mean length of the app's bodies.
"""

import json
import mimetypes
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from grainwise.cli.load_generator import Call
from grainwise.domain.errors import ConfigurationError
from grainwise.workloads.traffic import Arrival


class Bodies:
    """The calls of one app; without sizes they are sent in turn, and so are those of the same length."""

    def __init__(self, calls: Sequence[Call]) -> None:
        """Args: calls: at least one."""
        self._calls = list(calls)
        self._turn = 0
        by_length: dict[int, list[Call]] = {}
        for call in sorted(calls, key=lambda call: len(call.body)):
            by_length.setdefault(len(call.body), []).append(call)
        mean = sum(len(call.body) for call in calls) / len(calls) or 1.0
        self._groups = list(by_length.values())
        sizes = [length / mean for length in by_length]
        self._borders = [(low + high) / 2 for low, high in pairwise(sizes)]

    def choose(self, size: float) -> Call:
        """The next call, or, with a size above 0, the next of those that are nearest to it."""
        group = self._groups[bisect_left(self._borders, size)] if size > 0 else self._calls
        self._turn += 1
        return group[(self._turn - 1) % len(group)]


def choose_by_app(bodies: Mapping[str, Bodies]) -> Callable[[Arrival], Call]:
    """From an arrival to what is posted for it."""
    return lambda arrival: bodies[arrival.app].choose(arrival.size)


def read_bodies(
    urls: Mapping[str, str],
    files: Sequence[str],
    json_bodies: Sequence[str],
    is_right: Callable[[bytes], bool] | None,
) -> dict[str, Bodies]:
    """The bodies for each app.

    Args:
        urls: where the requests for each app are posted.
        files: paths, each after ``APP=`` where it is for one app only.
        json_bodies: JSON texts, likewise.
        is_right: judges every answer.

    Raises:
        ConfigurationError: a file cannot be read, a text is no JSON, or an app has nothing to post.
    """
    calls: dict[str, list[Call]] = {app: [] for app in urls}
    for text in json_bodies:
        apps, body = _split(text, urls)
        try:
            json.loads(body)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"--json-body is no JSON: {error}") from error
        for app in apps:
            calls[app].append(Call(urls[app], body.encode(), "application/json", is_right))
    for text in files:
        apps, name = _split(text, urls)
        path = Path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"the body {path} cannot be read: {error.strerror}; give --body FILE or APP=FILE"
            ) from error
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        for app in apps:
            calls[app].append(Call(urls[app], data, kind, is_right))
    for app, found in calls.items():
        if not found:
            prefix = f"{app}=" if len(urls) > 1 else ""
            raise ConfigurationError(f"nothing to post to {app}: give --body {prefix}FILE or --json-body {prefix}JSON")
    return {app: Bodies(found) for app, found in calls.items()}


def _split(text: str, urls: Mapping[str, str]) -> tuple[Sequence[str], str]:
    """The apps that a body is for, and the body."""
    app, separator, rest = text.partition("=")
    return ([app], rest) if separator and app in urls else (list(urls), text)
