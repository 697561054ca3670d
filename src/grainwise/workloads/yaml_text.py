"""YAML as the files that people write are read: bounded, safe, and strict about keys that are given twice."""

from collections.abc import Hashable
from typing import Any

import yaml

from grainwise.domain.errors import ConfigurationError

MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, in which a key that is given twice is an error instead of the last one's silent victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(data: bytes, name: str, most_bytes: int = MAX_BYTES) -> Any:
    """What a YAML text holds; ``name`` is what errors call the file.

    Raises:
        ConfigurationError: it is over ``most_bytes``, no YAML, or gives a key twice; the message names line and column.
    """
    if len(data) > most_bytes:
        raise ConfigurationError(f"{name} has {len(data)} bytes and at most {most_bytes} are read: is it the right file?")
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" line {where.line + 1}, column {where.column + 1}" if where is not None else ""
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        if isinstance(error, RecursionError):
            said = "it is nested too deeply"
        raise ConfigurationError(f"{name}{at}: {said}; write it as YAML") from error
