"""A granularity as people write it: ``fused``, ``split``, or groups like ``decode+detect | recognise``."""

from grainwise.domain.app import AppSpec
from grainwise.domain.plan import Grain
from grainwise.gateway.errors import FieldError


def parse_grain(spec: AppSpec, text: str, field: str = "grain") -> Grain:
    """The granularity that ``text`` names, groups and stages in the order of the graph.

    Whether instances can run it is the planner's question.

    Raises:
        FieldError: a stage is unknown, missing or named twice.
    """
    names = [node.name for node in spec.graph.stages]
    word = text.strip()
    if word == "fused":
        return (tuple(names),)
    if word == "split":
        return tuple((name,) for name in names)
    groups = [[stage.strip() for stage in group.split("+")] for group in word.split("|")]
    seen: set[str] = set()
    for group in groups:
        for stage in group:
            if stage not in names:
                raise FieldError(
                    field, f"app {spec.name} has no stage {stage!r}; say fused, split, or group {', '.join(names)} with + and |"
                )
            if stage in seen:
                raise FieldError(field, f"stage {stage!r} is named twice")
            seen.add(stage)
    missing = [name for name in names if name not in seen]
    if missing:
        raise FieldError(field, f"every stage needs a group; missing: {', '.join(missing)}")
    position = {name: index for index, name in enumerate(names)}
    ordered = [tuple(sorted(group, key=position.__getitem__)) for group in groups]
    return tuple(sorted(ordered, key=lambda group: position[group[0]]))
