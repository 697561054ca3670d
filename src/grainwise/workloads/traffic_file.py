"""Traffic from a YAML file, or from one line for the command line.

A file::

    name: bursty
    duration_s: 600
    streams:
      - app: text
        arrivals: {process: gamma, rate_per_s: 50, cv: 3}
        sizes: {kind: lognormal, cv: 1}

A line is ``PROCESS:VALUES:OPTIONS``, options in any order; ``30s``, ``10m``, ``2h`` is how long:

- ``constant:20:60s``, ``poisson:50:600s``, ``gamma:50:cv=3:600s``: requests per second
- ``on_off:100:on=5s:off=20s:10m``: requests per second while on; both times are exponential means
- ``diurnal:20:amplitude=0.8:period=1h:2h``: a cycle that starts at its trough
- ``steps:5:10,40:20``: 5 requests per second for 10 s, then 40 for 20 s; ``:spacing=constant`` for even gaps
- ``users:20:think=1s:300s``: a closed loop; ``:thinking=constant`` for a fixed think time
- ``trace:NAME:rate-scale=2:time-scale=4:window=0s..600s``: a trace by name or path; ``:sizes=trace`` takes its sizes too,
  ``:only=APP`` one app, function or segment of it
- everywhere: ``size-cv=1`` for lognormal sizes around the profiled mean, ``size=2`` for requests of twice the mean
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import parse_steps
from grainwise.workloads.durations import EXAMPLES, seconds_of, window_of
from grainwise.workloads.sizes import Sizes
from grainwise.workloads.traffic import Arrivals, Traffic
from grainwise.workloads.yaml_text import read_yaml

MAX_BYTES = 64 << 20
"""A traffic file may hold as many counts as a trace."""
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_PATH_PART = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]|(\[\.\.\.\])")
_FORMS = "constant:RATE, poisson:RATE, gamma:RATE:cv=, on_off:RATE:on=:off=, diurnal:RATE, steps:…, users:COUNT, trace:NAME"


def read_traffic(data: bytes, name: str) -> Traffic:
    """The traffic that a YAML text describes.

    Args:
        data: the text.
        name: of the file, for messages.

    Raises:
        ConfigurationError: it is no YAML, a key is unknown, missing or given twice, or a value is outside its range; the
            message names file, key, value and range.
    """
    plain = read_yaml(data, name, MAX_BYTES)
    if not isinstance(plain, dict):
        raise ConfigurationError(f"{name} describes no traffic: expected the keys name and streams, found {_shown(plain)}")
    return _convert(plain, name)


def is_shorthand(text: str) -> bool:
    """Whether a text is a line of ``parse_traffic`` rather than the name of a file."""
    return text.partition(":")[0] in _PARSERS and ":" in text


def parse_traffic(text: str, app: str) -> Traffic:
    """The traffic of one stream for ``app`` that a line describes; see the module for its forms.

    Raises:
        ConfigurationError: it has no such form, or a value is outside its range.
    """
    kind, _, rest = text.partition(":")
    if kind not in _PARSERS:
        raise ConfigurationError(f"workload {text!r} has no known form; give a file or one of {_FORMS}")
    line = _Line(text, rest)
    arrivals = _PARSERS[kind](line)
    stream: dict[str, Any] = {"app": app, "arrivals": arrivals, "sizes": line.sizes()}
    plain = {"name": text, "streams": [stream], "duration_s": line.duration_s}
    line.refuse_rest()
    if line.duration_s is None and kind not in ("steps", "trace"):
        raise ConfigurationError(f"workload {text!r} has no end; add how long, as in {text}:60s")
    return _convert(plain, f"workload {text!r}")


class _Line:
    """A shorthand, taken apart: ``key=value`` options, a duration, and what stands before them."""

    def __init__(self, text: str, rest: str) -> None:
        self.text = text
        self.duration_s: float | None = None
        self.options: dict[str, str] = {}
        values: list[str] = []
        for part in rest.split(":"):
            key, separator, value = part.partition("=")
            if separator:
                self.options[key] = value
            elif values and self.duration_s is None and (seconds := seconds_of(part)) is not None:
                self.duration_s = seconds
            else:
                values.append(part)
        self.value = ":".join(values)

    def number(self) -> float:
        return self._float("its first value", self.value)

    def whole(self) -> int:
        try:
            return int(self.value)
        except ValueError:
            raise self.wrong(f"its first value is {self.value!r}, not a whole number") from None

    def factor(self, key: str, default: float | None = None) -> float:
        if key not in self.options and default is not None:
            return default
        return self._float(key, self._given(key))

    def seconds(self, key: str, default: float | None = None) -> float:
        if key not in self.options and default is not None:
            return default
        text = self._given(key)
        found = seconds_of(text)
        if found is None:
            raise self.wrong(f"{key} is {text!r}, not {EXAMPLES}")
        return found

    def window(self) -> tuple[float, float | None]:
        if "window" not in self.options:
            return 0.0, None
        text = self.options.pop("window")
        found = window_of(text)
        if found is None:
            raise self.wrong(f"window is {text!r}, not START..STOP with START before STOP, as in window=0s..600s")
        return found

    def sizes(self) -> dict[str, object] | None:
        source = self.options.pop("sizes", None)
        if source not in (None, "trace"):
            raise self.wrong(f"sizes={source} is not sizes=trace")
        mean = self.factor("size", 1.0)
        if source == "trace":
            return {"kind": "trace", "mean": mean}
        if "size-cv" in self.options:
            return {"kind": "lognormal", "cv": self.factor("size-cv"), "mean": mean}
        return {"kind": "constant", "mean": mean} if mean != 1.0 else None

    def refuse_rest(self) -> None:
        if self.options:
            raise self.wrong(f"unknown option {next(iter(self.options))}")

    def wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"workload {self.text!r}: {what}")

    def _float(self, key: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise self.wrong(f"{key} is {text!r}, not a number") from None

    def _given(self, key: str) -> str:
        if key not in self.options:
            raise self.wrong(f"{key} is missing; add :{key}=…")
        return self.options.pop(key)


def _plain_rate(kind: str) -> Callable[[_Line], dict[str, object]]:
    return lambda line: {"process": kind, "rate_per_s": line.number()}


def _steps(line: _Line) -> dict[str, object]:
    phases = [{"rate_per_s": phase.rate_per_s, "duration_s": phase.duration_us / SECOND} for phase in parse_steps(line.value)]
    return {"process": "steps", "phases": phases, "spacing": line.options.pop("spacing", "poisson")}


def _trace(line: _Line) -> dict[str, object]:
    start, stop = line.window()
    scales = {"rate_scale": line.factor("rate-scale", 1.0), "time_scale": line.factor("time-scale", 1.0)}
    only = line.options.pop("only", None)
    return {"process": "trace", "trace": line.value, "from_s": start, "until_s": stop, "only": only, **scales}


_PARSERS: Mapping[str, Callable[[_Line], dict[str, object]]] = {
    "constant": _plain_rate("constant"),
    "poisson": _plain_rate("poisson"),
    "gamma": lambda line: {"process": "gamma", "rate_per_s": line.number(), "cv": line.factor("cv")},
    "on_off": lambda line: {
        "process": "on_off",
        "rate_per_s": line.number(),
        "on_s": line.seconds("on"),
        "off_s": line.seconds("off"),
    },
    "diurnal": lambda line: {
        "process": "diurnal",
        "rate_per_s": line.number(),
        "amplitude": line.factor("amplitude", 0.5),
        "period_s": line.seconds("period", 86_400.0),
    },
    "steps": _steps,
    "users": lambda line: {
        "process": "users",
        "count": line.whole(),
        "think_s": line.seconds("think", 0.0),
        "think": line.options.pop("thinking", "exponential"),
    },
    "trace": _trace,
}


_TAGS = {
    field: [str(member.__struct_config__.tag) for member in get_args(union)]
    for field, union in (("process", Arrivals), ("kind", Sizes))
}


def _convert(plain: dict[str, Any], name: str) -> Traffic:
    try:
        return msgspec.convert(plain, Traffic)
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        what, path = (found["what"], found["path"] or "") if found else (str(error), "")
        known = _TAGS.get(path.rpartition(".")[2])
        if known and what.startswith("Invalid value"):
            what = f"expected one of {', '.join(known)}"
        raise ConfigurationError(f"{name}: {path.lstrip('.') or 'the file'}: {what}{_value_at(plain, path)}") from error


def _value_at(plain: Any, path: str) -> str:
    """What stands at the place that a message names; nothing where the place is not one value."""
    for key, index, anywhere in _PATH_PART.findall(path):
        if anywhere:
            return ""
        try:
            plain = plain[key] if key else plain[int(index)]
        except (KeyError, IndexError, TypeError):
            return ""
    return f", found {_shown(plain)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
