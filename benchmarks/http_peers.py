"""A trivial three-stage application over HTTP, 0.6 MB a request: Grainwise beside its peers, same client, turns taken."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine, wait_for_quiet
from benchmarks.peers.contenders import APP, Contender, PeerUnavailableError, Running, contenders

MANY = 16
PROFILE_BUDGET_S = 8
NOT_RUN = (
    "Ray Serve: its controller, agents and object store keep a tenth of a core busy while others have their turn",
    "LitServe (split): it composes servers over HTTP only",
)


def profile_of(app: Path, folder: Path) -> Path:
    """A short profile of an app file in ``folder``."""
    path = folder / "profile.json"
    command = [
        sys.executable,
        "-m",
        "grainwise",
        "profile",
        str(app),
        "--budget",
        str(PROFILE_BUDGET_S),
        "--out",
        str(path),
        "--json",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


class Row(msgspec.Struct):
    """The turns of one contender: figures of the client with one and with many connections."""

    contender: Contender
    one: list[dict[str, object]] = msgspec.field(default_factory=list)
    many: list[dict[str, object]] = msgspec.field(default_factory=list)
    void: str = ""

    def median(self, figure: str, which: str = "many") -> float:
        """The median of a figure over the turns."""
        return statistics.median(float(turn[figure]) for turn in getattr(self, which))  # type: ignore[arg-type]

    def cpu_ms(self) -> float:
        """CPU of the server and the client together per request, in milliseconds, with many connections."""
        return 1000 * statistics.median(
            (float(turn["server_cpu_s"]) + float(turn["client_cpu_s"])) / max(1, int(turn["served"]))  # type: ignore[call-overload, arg-type]
            for turn in self.many
        )


def measure(is_quick: bool, only: tuple[str, ...] = ()) -> Result:
    """Run the comparison: in each round every server gets one turn with one client and one with many, order rotated."""
    rounds, seconds = (2, 1.0) if is_quick else (6, 1.5)
    skipped = list(NOT_RUN)
    foreign = ForeignLoad()
    foreign.rounds.clear()
    with tempfile.TemporaryDirectory(prefix="grainwise-bench-") as name:
        folder = Path(name)
        chosen = [each for each in contenders(profile_of(APP, folder)) if not only or any(part in each.name for part in only)]
        servers: list[tuple[Row, Running]] = []
        try:
            for number, contender in enumerate(chosen):
                title = f"{contender.name} ({contender.grain})"
                try:
                    servers.append((Row(contender), Running(contender, folder / str(number))))
                except PeerUnavailableError as error:
                    skipped.append(f"{title}: {error}")
                    print(f"skipped {title}: {error}", flush=True)
            wait_for_quiet(3 if is_quick else 20)
            for turn in range(rounds):
                foreign.begin()
                for row, server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
                    _turn(row, server, seconds)
                foreign.end()
                print(f"round {turn + 1} of {rounds}: foreign load {foreign.rounds[-1]:.2f} cores", flush=True)
        finally:
            for _, server in servers:
                server.close()
    rows = [row for row, _ in servers]
    for row in rows:
        if not row.void:
            row.one, row.many = ([turns[at] for at in foreign.kept()] for turns in (row.one, row.many))
    skipped += [f"{row.contender.name} ({row.contender.grain}): {row.void}" for row in rows if row.void]
    return _result([row for row in rows if not row.void], rounds, seconds, is_quick, foreign, skipped)


def _turn(row: Row, server: Running, seconds: float) -> None:
    if row.void:
        return
    try:
        for clients, turns in ((1, row.one), (MANY, row.many)):
            turns.append(server.drive(clients=clients, seconds=seconds))
            if turns[-1]["wrong"]:
                row.void = f"wrong answer, the row is void: {turns[-1]['example']}"
                return
    except PeerUnavailableError as error:
        row.void = f"it stopped answering, the row is void: {error}"


def _result(rows: list[Row], rounds: int, seconds: float, is_quick: bool, foreign: ForeignLoad, skipped: list[str]) -> Result:
    table = Table(
        f"448x448x3 uint8 over HTTP, three stages, one and {MANY} clients",
        (
            "server",
            "grain",
            f"requests/s, {MANY} clients",
            "p50 ms",
            "p99 ms",
            "CPU ms/request",
            "p50 ms, 1 client",
            "requests/s, 1 client",
        ),
        tuple(
            (
                row.contender.name,
                row.contender.grain,
                f"{row.median('rate_per_s'):,.0f}",
                f"{row.median('p50_ms'):.2f}",
                f"{row.median('p99_ms'):.2f}",
                f"{row.cpu_ms():.2f}",
                f"{row.median('p50_ms', 'one'):.2f}",
                f"{row.median('rate_per_s', 'one'):,.0f}",
            )
            for row in rows
        ),
        f"medians of {len(foreign.kept())} turns of {seconds:g} s each (the quieter of {rounds}), one worker per stage; "
        "CPU is of server and client",
    )
    by_name = {(row.contender.name, row.contender.grain): row for row in rows}

    def find(name: str, grain: str) -> Row | None:
        return by_name.get((name, grain))

    checks: list[Check] = []
    triton, ensemble, mosec = find("Triton, Python backend", "fused"), find("Triton, ensemble", "split"), find("MOSEC", "fused")
    for name in ("Grainwise, OIP binary", "Grainwise, raw body"):
        fused, split = find(name, "fused"), find(name, "split")
        for mine, peer, factor, what in (
            (fused, mosec, 1.0, "fused requests/s against MOSEC's single stage"),
            (fused, triton, 1.0, "fused requests/s against Triton's (goal)"),
            (split, ensemble, 1.0, "split requests/s against Triton's ensemble"),
            (split, ensemble, 1.5, "split requests/s against Triton's ensemble (goal)"),
        ):
            if mine is not None and peer is not None:
                ratio = _paired(mine, peer, "many", "rate_per_s")
                checks.append(Check(f"{name}: {what}", f"{ratio:.2f} x", f">= {factor:g} x", ratio >= factor))
        for mine, peer, what in ((fused, triton, "fused"), (split, ensemble, "split")):
            if mine is not None and peer is not None:
                ratio = _paired(mine, peer, "one", "p50_ms")
                checks.append(
                    Check(f"{name}: {what} p50 at one client against Triton's", f"{ratio:.2f} x", "<= 1 x", ratio <= 1)
                )
    data = {f"{row.contender.name} ({row.contender.grain})": {"one": row.one, "many": row.many} for row in rows}
    return Result(
        "http",
        now_text(),
        this_machine(),
        is_quick,
        round(foreign.median, 3),
        (table,),
        tuple(checks),
        dict(data),
        tuple(skipped),
    )


def _paired(mine: Row, peer: Row, which: str, figure: str) -> float:
    """The median over the rounds of the ratio inside a round: what disturbs a round disturbs both sides of its ratio."""
    pairs = zip(getattr(mine, which), getattr(peer, which), strict=True)
    return statistics.median(float(ours[figure]) / float(theirs[figure]) for ours, theirs in pairs)
