"""``grainwise policies``: every policy set, whose idea it is, and which policy answers which question."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct
from rich import box
from rich.padding import Padding
from rich.table import Table

from grainwise.cli.commands import print_json
from grainwise.cli.render import console
from grainwise.policies.own_sets import ADAPTIVE, FIXED, OWN
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.sets import SETS, policy_set

QUESTIONS: dict[str, tuple[str, str]] = {
    "admit": ("is this request accepted?", ""),
    "extent": ("what of the DAG does this invocation run?", "no decision: all of its function"),
    "offer": ("out of what is that chosen?", "every extent within the plan's functions"),
    "batch_now": ("how many items, where that is plain?", ""),
    "batch_or_wait": ("how many items, or is it worth waiting for more?", ""),
    "rank": ("which item first?", ""),
    "route": ("which instance?", ""),
    "scale": ("how many instances?", ""),
    "keep": ("may this idle instance end?", ""),
    "place": ("on which node does an instance start?", ""),
    "ask": ("is it time for another plan?", ""),
    "verdict": ("is another plan worth the change?", ""),
    "configure": ("how is a plan found?", "the joint search, judged by the evaluator that the app names"),
}
"""By the name of a part: its question, and what answers it in a set that has no policy of its own for it."""


class Part(Struct, frozen=True):
    """What answers one question in a set. ``is_own``: otherwise than in the set that this one is held against.

    ``policy`` is empty where there is none; ``summary`` is the first sentence of the policy, ``idea`` that of its
    file where that is about it alone.
    """

    question: str
    policy: str
    summary: str
    idea: str
    is_own: bool


class Listed(Struct, frozen=True):
    """A policy set as it is listed. ``against`` is the set whose parts count as not its own."""

    name: str
    summary: str
    source: str
    grade: str
    against: str
    measures_concurrency: bool
    varies_share: bool
    parts: tuple[Part, ...]


def show_policies(name: str | None, as_json: bool) -> None:
    """The command: all sets, or one with what each of its parts does.

    Raises:
        ConfigurationError: no set has this name; the message names those that there are.
    """
    chosen = list(SETS.values()) if name is None else [policy_set(name)]
    listed = [describe(each) for each in chosen]
    if as_json:
        print_json(listed if name is None else listed[0])
    elif name is None:
        _show_all(listed)
    else:
        _show_one(listed[0])


def describe(policies: PolicySet) -> Listed:
    """A set with its parts: our own are held against ``adaptive``, published ones against ``fixed``."""
    against = ADAPTIVE if any(policies.name == each.name for each in OWN) else FIXED
    provenance = policies.provenance
    return Listed(
        policies.name,
        provenance.summary,
        provenance.source,
        provenance.grade,
        against.name,
        policies.measures_concurrency,
        policies.varies_share,
        tuple(_part(question, getattr(policies, question), getattr(against, question)) for question in QUESTIONS),
    )


def _part(question: str, policy: Callable[..., object] | None, other: Callable[..., object] | None) -> Part:
    is_own = policy != other
    if policy is None:
        return Part(question, "", QUESTIONS[question][1], "", is_own)
    named = policy.func if isinstance(policy, partial) else policy
    module = inspect.getmodule(named)
    where = "" if module is None else module.__name__.removeprefix("grainwise.").removeprefix("policies.") + "."
    called = getattr(named, "__qualname__", type(named).__name__)
    # A file that has several answers to a question says nothing of this one.
    is_file_about_it = module is not None and called.startswith(("decide", "configure"))
    return Part(question, where + called, _first(named), _first(module) if is_file_about_it else "", is_own)


def _first(documented: object) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _show_all(listed: Sequence[Listed]) -> None:
    ours = [each for each in listed if each.grade == "ours"]
    published = [each for each in listed if each.grade != "ours"]
    console().print(_table(f"Our own sets; what is not named is as in {ADAPTIVE.name}", ours, is_published=False))
    title = f"After published schedulers, not their code; what is not named is as in {FIXED.name}"
    console().print(_table(title, published, is_published=True))
    console().print(_bases())
    console().print("grainwise policies NAME shows what each part of a set does.")


def _table(title: str, listed: Sequence[Listed], *, is_published: bool) -> Table:
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("set", no_wrap=True)
    shown.add_column("what it is", ratio=3)
    if is_published:
        shown.add_column("after (evidence)", ratio=2)
    shown.add_column("its own parts", no_wrap=True)
    for each in listed:
        origin = (f"{each.source} ({each.grade})",) if is_published else ()
        shown.add_row(each.name, each.summary, *origin, _own_parts(each), end_section=is_published)
    return shown


def _own_parts(listed: Listed) -> str:
    own = [f"{each.question}: {_short(each)}" for each in listed.parts if each.is_own]
    if not listed.varies_share:
        own.append("every invocation has its function's share")
    return "\n".join(own) or "-"


def _short(part: Part) -> str:
    """A policy by its file and its name."""
    return ".".join(part.policy.split(".")[-2:]) or "none"


def _bases() -> Table:
    """What the two sets have that others are held against."""
    shown = Table(title="What the others are held against", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("part", "question", ADAPTIVE.name, FIXED.name):
        shown.add_column(column)
    for ours, fixed in zip(describe(ADAPTIVE).parts, describe(FIXED).parts, strict=True):
        question = QUESTIONS[ours.question][0]
        shown.add_row(ours.question, question, ours.policy or "none", (fixed.policy or "none") if fixed.is_own else "the same")
    return shown


def _show_one(listed: Listed) -> None:
    screen = console()
    screen.print(f"{listed.name}: {listed.summary}")
    if listed.source:
        screen.print(
            f"after {listed.source}; evidence: {listed.grade}. It is built from what was published, and is not their code."
        )
    if listed.measures_concurrency:
        screen.print("The controller samples how many items each function has, once per second.")
    if not listed.varies_share:
        screen.print("Every invocation has the share of its function's plan.")
    screen.print(f"Marked * is what it has otherwise than {listed.against}.\n")
    for each in listed.parts:
        screen.print(f"{'*' if each.is_own else ' '} {each.question}, {QUESTIONS[each.question][0]} {each.policy or 'none'}")
        for told in (each.summary, each.idea if each.is_own else ""):
            if told:
                screen.print(Padding(told, (0, 0, 0, 4)))
