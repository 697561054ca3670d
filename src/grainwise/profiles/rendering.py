"""JSON for people and for diffs: a line per field and per element, records of plain values on one line."""

import json


def render(value: object, depth: int = 0) -> str:
    """JSON with a line per field and per element, except that a mapping or list of plain values stays on one line."""
    pad = " " * (2 * depth)
    if isinstance(value, dict) and depth and all(_is_flat(item) for item in value.values()):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        rows = [f"{pad}  {json.dumps(key)}: {render(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{pad}}}"
    if isinstance(value, list | tuple) and not all(_is_flat(item) for item in value):
        rows = [f"{pad}  {render(item, depth + 1)}" for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{pad}]"
    return json.dumps(value, ensure_ascii=False)


def _is_flat(value: object) -> bool:
    return not isinstance(value, dict) and not (
        isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value)
    )
