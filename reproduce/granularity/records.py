"""What the study writes down: one JSON line each for the header, every cell, every run and every capacity.

Lines are tagged by ``type``. Everything else (winners, selections, comparisons, verdicts) is derived from these and never
stored, so that a table cannot disagree with its runs.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError

SCHEMA = 1
FEW_BYTES = 1 << 20
"""A larger file is compressed."""

Purpose = Literal["selection", "evaluation"]
Billing = Literal["billed", "provisioned"]
Group = Literal["fixed", "adaptive", "configuration", "reconstructed", "ablation"]
"""What a way is: one granularity for good; ours; a published configuration among our parts; a published scheduler with its own
parts; ours without one of its parts."""

SPLIT, FUSED = "split", "fused"
"""The two grains that every app has, named so in ways of cells with several apps."""
ADAPTIVE = "adaptive"


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """One change of the grid after it was first committed. ``sha256`` is of the figures after it, without these changes."""

    date: str
    reason: str
    sha256: str


class ProfileSetRecord(Struct, frozen=True):
    """Where the apps of a profile set come from. ``provenance`` is ``recalled``, ``measured`` or the like."""

    name: str
    provenance: str
    digest: str
    apps: tuple[str, ...]


class Header(Struct, frozen=True, tag="header"):
    """The first line. ``grid_changed`` is a sentence where the grid is not the one that its last listed change has, else empty.

    ``cells_of_paper`` is how many cells the whole grid has, so that the fraction is ``cells / cells_of_paper``.
    ``core_s`` is CPU time of all processes, in seconds.
    """

    schema: int
    size: str
    grid_sha256: str
    grid_changed: str
    changes: tuple[Change, ...]
    date: str
    machine: str
    cores: int
    versions: dict[str, str]
    profile_sets: tuple[ProfileSetRecord, ...]
    selection_seeds: tuple[int, ...]
    evaluation_seeds: tuple[int, ...]
    requests: int
    cells: int
    cells_of_paper: int
    headline_hop: str
    headline_billing: Billing
    rule: str
    """By which rule the cells of this size were chosen, in a sentence."""
    wall_s: float = 0.0
    core_s: float = 0.0


class Cell(Struct, frozen=True, tag="cell"):
    """One point of the grid. ``number`` is what runs refer to.

    ``apps`` has one name, or several that share the machines. ``slo_factor`` is the SLO over the base latency L of an app, so L
    is ``slo_ms[i] / slo_factor``. ``load`` is the level's name; ``load_fraction`` the rate over the saturation of split that
    bisection found; ``rates_per_s`` has a rate per app. ``weights`` is the factor by which models are larger.
    """

    number: int
    profiles: str
    apps: tuple[str, ...]
    hop: str
    slo_factor: float
    weights: float
    billing: Billing
    load: str
    load_fraction: float
    burstiness: str
    nodes: int
    sharing: str
    rates_per_s: tuple[float, ...]
    slo_ms: tuple[float, ...]
    is_feasible: bool
    """Whether a lone request can meet the SLO under some granularity, by the planner's times."""
    skipped: str = ""
    """Why nothing ran in it at this size; empty where something did."""
    has_rollout: bool = False
    """Whether the grid declares this cell for the ways that are judged by rollout."""

    @property
    def app(self) -> str:
        """The name of its app, or ``mixed``."""
        return self.apps[0] if len(self.apps) == 1 else "mixed"


class Window(Struct, frozen=True, array_like=True):
    """A stretch of a run: requests that came, those of them in time, and USD, billed and provisioned."""

    offered: int
    met: int
    billed_usd: float
    provisioned_usd: float


class Run(Struct, frozen=True, tag="run"):
    """One way in one cell with one seed. Counts are over all apps of the cell; attainment is a fraction.

    ``way`` is ``fixed:<grain>``, where the grain is as ``domain.plan.render_grain`` writes it (cells with several apps:
    ``fixed:split``, ``fixed:fused``, ``fixed:partial``, ``fixed:planned``), or the name of a policy set, with ``@rollout``
    or ``@analytic`` after it where that judges every plan; without one the first plan is judged by rollouts and those of the
    run in closed form. ``is_fused`` and ``is_split`` mark those two of the fixed ways. ``failed`` says why there is no figure;
    then all are 0 and the run counts as an attainment of 0.

    Costs are USD per 1,000 offered requests. ``switch_usd_per_1000`` is the part of the provisioned cost that instances took
    from start to ready which were started for a change of granularity. ``slice_s`` are instance-seconds times the part of a
    device (of a core where there is none) that each was given. ``local_fraction`` is None where nothing crossed a hop.
    """

    cell: int
    way: str
    group: Group
    seed: int
    purpose: Purpose
    offered: int
    answered: int
    met: int
    attainment: float
    billed_usd_per_1000: float
    provisioned_usd_per_1000: float
    switch_usd_per_1000: float
    p50_ms: float
    p95_ms: float
    local_fraction: float | None
    slice_s: float
    starts: int
    regranulations: int
    utilisation: float
    grains: tuple[str, ...]
    """The granularity of each app at the end."""
    is_fused: bool = False
    is_split: bool = False
    windows: tuple[Window, ...] = ()
    failed: str = ""

    def cost(self, billing: Billing) -> float:
        """USD per 1,000 requests as a cell bills."""
        return self.billed_usd_per_1000 if billing == "billed" else self.provisioned_usd_per_1000


class Capacity(Struct, frozen=True, tag="capacity"):
    """The highest rate at which a way attains 99 % with one app and SLO; 0 where it does so at none. Found by bisection."""

    profiles: str
    app: str
    slo_factor: float
    hop: str
    billing: Billing
    way: str
    group: Group
    seed: int
    per_s: float
    is_split: bool = False
    is_fused: bool = False


class Decision(Struct, frozen=True, tag="decision"):
    """The joint search beside a published configuration on one problem: milliseconds per decision, and the plan's quality.

    ``usd_per_hour`` and ``attainment`` are what the same evaluator predicts of each plan.
    """

    cell: int
    app: str
    way: str
    ms: float
    usd_per_hour: float
    attainment: float


class Results(Struct, frozen=True):
    """A whole results file."""

    header: Header
    cells: tuple[Cell, ...]
    runs: tuple[Run, ...]
    capacities: tuple[Capacity, ...] = ()
    decisions: tuple[Decision, ...] = ()


_Line = Header | Cell | Run | Capacity | Decision


def write_results(results: Results, path: Path) -> Path:
    """Write a results file as JSON lines, compressed where it is large; the path that it got."""
    lines: list[_Line] = [results.header, *results.cells, *results.runs, *results.capacities, *results.decisions]
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    plain, packed = path.with_suffix(".json"), path.with_suffix(".json.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in (plain, packed):
        old.unlink(missing_ok=True)
    if len(data) <= FEW_BYTES:
        plain.write_bytes(data)
        return plain
    packed.write_bytes(gzip.compress(data, mtime=0))
    return packed


def read_results(path: Path) -> Results:
    """A results file, compressed or not; a path without the ending ``.gz`` also finds the compressed one.

    Raises:
        ArtifactError: there is none, or it is malformed or of another schema.
    """
    if not path.exists() and path.with_suffix(".json.gz").exists():
        path = path.with_suffix(".json.gz")
    if not path.exists():
        raise ArtifactError(f"{path} is not there; write it with: python -m reproduce granularity")
    data = path.read_bytes()
    try:
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        lines = [msgspec.json.decode(line, type=_Line) for line in text.splitlines()]
    except (msgspec.MsgspecError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is no results file of the study: {error}; write it anew") from error
    return _gathered(lines, path)


def _gathered(lines: Iterable[_Line], path: Path) -> Results:
    headers, cells, runs, capacities, decisions = [], [], [], [], []
    for line in lines:
        if isinstance(line, Header):
            headers.append(line)
        elif isinstance(line, Cell):
            cells.append(line)
        elif isinstance(line, Run):
            runs.append(line)
        elif isinstance(line, Capacity):
            capacities.append(line)
        else:
            decisions.append(line)
    if len(headers) != 1 or headers[0].schema != SCHEMA:
        raise ArtifactError(f"{path} has no header of schema {SCHEMA}; write it anew")
    return Results(headers[0], tuple(cells), tuple(runs), tuple(capacities), tuple(decisions))
