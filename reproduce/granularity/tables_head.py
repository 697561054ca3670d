"""What the study is, in words: who claims what, what is simulated on what, and by which grid the results came about."""

from reproduce.granularity.hops import levels
from reproduce.granularity.records import Header, Results
from reproduce.granularity.tables import Column, StudyTable

TITLE = "Granularity: adaptive beside every fixed one and beside published schedulers"
PAPER = (
    "X. Hui, Y. Xu, X. Shen: Exploring Function Granularity for Serverless Machine Learning Application with GPU Sharing, "
    "Proc. ACM Meas. Anal. Comput. Syst. 9(1), 2025, DOI 10.1145/3711699"
)


def claim(results: Results) -> str:
    """One paragraph: the claim, whose it is, what was simulated, and on which machine."""
    header = results.header
    sets = ", ".join(f"{each.name} ({each.provenance})" for each in header.profile_sets)
    return (
        "Grainwise claims that no single granularity is best over the settings in which an app of several stages is served, "
        "and that deciding it adaptively is as good as the best fixed one wherever that is known, and better where it is not. "
        "The paper below claims both; its figures stand here as its authors' claims, and ours are of other settings. The "
        "verdicts say which part of it holds here. The published schedulers are after their papers, reconstructed. Everything "
        "on this page is simulated in virtual time, by the controller that also serves, from the profile sets "
        f"{sets}, on {header.cores} cores of {header.machine}; only what is headed as measured was measured, on the hardware "
        "that stands with it."
    )


def grid_table(results: Results) -> StudyTable:
    """The grid by its hash, the part of it that was run, seeds and sizes."""
    header = results.header
    evaluation = ", ".join(map(str, header.evaluation_seeds))
    rows: list[tuple[str, str]] = [
        ("size", f"{header.size}: {header.rule}"),
        ("grid", f"SHA-256 {header.grid_sha256}{f'; {header.grid_changed}' if header.grid_changed else ''}"),
        ("cells", f"{header.cells:,} of {header.cells_of_paper:,} of the whole grid, {fraction(header):.3%}"),
        ("runs", f"{len(results.runs):,}, of {header.requests:,} requests or more; {failures(results):,} without a figure"),
        ("seeds", f"chosen on {', '.join(map(str, header.selection_seeds))}, compared on {evaluation}"),
        ("headline", f"hop {header.headline_hop}, cost {header.headline_billing}"),
        *(
            (f"profiles {each.name}", f"{each.provenance}; apps {', '.join(each.apps)}; digest {each.digest[:16]}")
            for each in header.profile_sets
        ),
        ("run", f"{header.date}, {header.wall_s:,.0f} s of time, {header.core_s:,.0f} s of all cores together"),
        ("versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
    ]
    return StudyTable("grid", "What was run", (Column(""), Column("")), tuple(rows))


def changes_table(results: Results) -> StudyTable:
    """Every listed change of the grid with its reason, and a line where it was changed without one."""
    header = results.header
    rows = [(change.date, change.reason, change.sha256[:16] or "not recorded") for change in header.changes]
    if header.grid_changed:
        rows.append(("", header.grid_changed, header.grid_sha256[:16]))
    columns = (Column("date"), Column("reason"), Column("SHA-256 after it"))
    return StudyTable("changes", "Changes of the grid", columns, tuple(rows))


def hops_table() -> StudyTable:
    """Every level of the hop, with what one costs and how that is known.

    Raises:
        ArtifactError: the file of hops is missing or malformed.
    """
    rows = tuple(
        (
            each.name,
            each.provenance,
            each.hop.fixed_us / 1000,
            each.hop.us_per_mib / 1000,
            each.hop.cpu_fixed_us / 1000,
            each.how,
        )
        for each in levels()
    )
    columns = (
        Column("hop"), Column("grade"), Column("ms", "number"), Column("and ms per MiB", "number"),
        Column("CPU ms", "number"), Column("how it is known"),
    )  # fmt: skip
    note = "Inputs of the simulation. Between nodes the network of the simulated cluster comes on top."
    return StudyTable("hops", "Levels of the hop", columns, rows, note)


def fraction(header: Header) -> float:
    """The part of the whole grid that was run."""
    return header.cells / max(1, header.cells_of_paper)


def failures(results: Results) -> int:
    """How many runs have no figure."""
    return sum(1 for run in results.runs if run.failed)
