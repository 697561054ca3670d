"""A granularity as people write it: ``fused``, ``split``, or groups like ``decode+detect | recognise``."""

from grainwise.domain.app import AppSpec
from grainwise.domain.plan import Grain
from grainwise.gateway.errors import FieldError
from grainwise.planning.granularity import check_granularity


def parse_grain(spec: AppSpec, text: str, field: str = "grain") -> Grain:
    """The granularity that ``text`` names, groups and stages in the order of the graph.

    Whether the machine has room for it is the planner's question.

    Raises:
        FieldError: a stage is unknown, missing or named twice, or the groups are no granularity; the message says why.
    """
    names = [node.name for node in spec.graph.stages]
    word = text.strip()
    if word == "fused":
        groups = [names]
    elif word == "split":
        groups = [[name] for name in names]
    else:
        groups = _groups(spec, word, names, field)
    masks = sorted((spec.graph.mask(group) for group in groups), key=lambda mask: mask & -mask)
    reason = check_granularity(spec.graph, tuple(masks))
    if reason is not None:
        raise FieldError(field, f"{word!r} is no granularity of app {spec.name}: {reason}")
    return tuple(spec.graph.names(mask) for mask in masks)


def _groups(spec: AppSpec, word: str, names: list[str], field: str) -> list[list[str]]:
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
    return groups
