"""A small results file of the granularity study, made up: figures follow from a cell's numbers by simple arithmetic."""

from itertools import product

from reproduce.granularity.records import (
    Billing,
    Capacity,
    Cell,
    Change,
    Decision,
    Group,
    Header,
    ProfileSetRecord,
    Purpose,
    Results,
    Run,
    Window,
)

EVIL = "<script>alert(1)</script>[red]&"
FIXED = {"a | b | c": "split", "a+b | c": "partial", "a+b+c": "fused"}
MIXED = {"split": "split", "partial": "partial", "fused": "fused"}
OTHERS: dict[str, Group] = {
    "adaptive": "adaptive",
    "esg": "reconstructed",
    "esg_configuration": "configuration",
    "orion": "reconstructed",
    "orion_configuration": "configuration",
    "residency": "ablation",
    "no_batching": "ablation",
    "fixed_oracle": "ablation",
}
CAPABLE: dict[str, Group] = {
    "fixed:a | b | c": "fixed",
    "fixed:a+b+c": "fixed",
    "esg": "reconstructed",
    "adaptive": "adaptive",
}
SEEDS: dict[int, Purpose] = {1: "selection", 2: "selection", 3: "evaluation", 4: "evaluation", 5: "evaluation"}
HOPS = ("shared", "http")
BILLINGS: tuple[Billing, ...] = ("billed", "provisioned")
FACTORS = (0.8, 1.0, 1.2)
LOADS = (("light", 0.3), ("busy", 0.75))


def study(*, name: str = "vision", changes: tuple[Change, ...] = ()) -> Results:
    """Two apps and their mix over hops, billing, SLO factors and loads; in one cell hardly anything is in time."""
    places = (
        (apps, hop, billing, factor, load)
        for apps, hop, billing in product(((name,), ("text",), (name, "text")), HOPS, BILLINGS)
        for factor, load in product(FACTORS, LOADS)
    )
    cells = tuple(
        Cell(
            number=number,
            profiles="recalled-shape",
            apps=apps,
            hop=hop,
            slo_factor=factor,
            weights=1.0,
            billing=billing,
            load=load[0],
            load_fraction=load[1],
            burstiness="steady",
            nodes=4,
            sharing="slices",
            rates_per_s=tuple(10.0 * load[1] for _ in apps),
            slo_ms=tuple(600.0 * factor for _ in apps),
            is_feasible=True,
        )
        for number, (apps, hop, billing, factor, load) in enumerate(places)
    )
    header = Header(
        schema=1,
        size="smoke",
        grid_sha256="0123456789abcdef" * 4,
        grid_changed="",
        changes=changes,
        date="2026-01-02T03:04:05Z",
        machine="Imaginary CPU",
        cores=2,
        versions={"python": "3.11.7", "grainwise": "0.1.0"},
        profile_sets=(ProfileSetRecord("recalled-shape", "recalled", "d" * 64, (name, "text")),),
        selection_seeds=(1, 2),
        evaluation_seeds=(3, 4, 5),
        requests=200,
        cells=len(cells),
        cells_of_paper=10 * len(cells),
        headline_hop="http",
        headline_billing="provisioned",
        rule="the headline and nothing else",
        wall_s=12.0,
        core_s=20.0,
    )
    runs = tuple(run for cell in cells for run in _runs(cell))
    capacities = tuple(
        Capacity(
            "recalled-shape", app, factor, hop, "provisioned", way, group, seed, 10.0 + 5 * factor + at + 0.1 * seed,
            is_split=way == "fixed:a | b | c", is_fused=way == "fixed:a+b+c",
        )
        for app, factor, hop, seed in product((name, "text"), FACTORS, HOPS, (3, 4))
        for at, (way, group) in enumerate(CAPABLE.items())
    )  # fmt: skip
    decisions = tuple(
        Decision(cell.number, cell.apps[0], way, ms, 2.0 + ms / 100, 0.99)
        for cell in cells[:4]
        for way, ms in (("adaptive", 1.5), ("esg_configuration", 3.0))
    )
    return Results(header, cells, runs, capacities, decisions)


def _runs(cell: Cell) -> list[Run]:
    grains = FIXED if len(cell.apps) == 1 else MIXED
    found = []
    for seed, purpose in SEEDS.items():
        for grain, role in grains.items():
            found.append(_run(cell, f"fixed:{grain}", "fixed", role, seed, purpose))
        found.extend(_run(cell, way, group, way, seed, purpose) for way, group in OTHERS.items())
    return found


def _run(cell: Cell, way: str, group: Group, role: str, seed: int, purpose: Purpose) -> Run:
    hop = {"shared": 0.0, "http": 0.04}[cell.hop]
    tight = 1.2 - cell.slo_factor
    pieces = {"split": 3, "partial": 2, "fused": 1}.get(role, 2)
    lost = hop * pieces * (1 + tight) + 0.12 * cell.load_fraction * tight * (3 - pieces) ** 2
    attained = max(0.0, min(1.0, 1.0 - lost - 0.001 * seed + (0.01 if group == "adaptive" else 0.0)))
    if cell.load == "busy" and cell.slo_factor == 0.8 and cell.hop == "http":
        attained *= 0.4
    offered = 200 * len(cell.apps)
    met = round(attained * offered)
    usd = 0.1 + 0.01 * (3 - pieces) * (2 - cell.slo_factor) + 0.2 * hop * pieces
    windows = (Window(offered // 2, met // 2, usd, usd), Window(offered - offered // 2, met - met // 2, usd, usd))
    return Run(
        cell=cell.number,
        way=way,
        group=group,
        seed=seed,
        purpose=purpose,
        offered=offered,
        answered=offered,
        met=met,
        attainment=met / offered,
        billed_usd_per_1000=usd,
        provisioned_usd_per_1000=2 * usd,
        switch_usd_per_1000=0.05 * usd if group in ("adaptive", "ablation") else 0.0,
        p50_ms=100.0,
        p95_ms=200.0,
        local_fraction=0.5,
        slice_s=100.0,
        starts=4,
        regranulations=2 if group == "adaptive" else 0,
        utilisation=0.5,
        grains=("a | b | c",) * len(cell.apps),
        is_fused=role == "fused",
        is_split=role == "split",
        windows=windows,
    )
