import msgspec
import pytest

from grainwise.telemetry.result import RunResult
from worlds.apps import chain, fan
from worlds.runs import lively

EVIL = "</script><script>alert(1)</script><b>&[red]"


def renamed(result: RunResult) -> RunResult:
    apps = tuple(msgspec.structs.replace(app, name=EVIL) if app.name == "chain" else app for app in result.apps)
    spans = tuple(msgspec.structs.replace(span, app=EVIL) if span.app == "chain" else span for span in result.instances)
    return msgspec.structs.replace(result, apps=apps, instances=spans)


@pytest.fixture(scope="session")
def runs() -> tuple[RunResult, ...]:
    """Two settings with two seeds each; one app has a name that means something in HTML, in JavaScript and in rich."""
    apps = (chain(slo_ms=60), fan())
    split = tuple((name,) for name in ("plus_one", "double", "negate", "plus_one#2"))
    fanned = tuple((name,) for name in ("spread", "plus_one", "double", "total"))
    pairs = (("plus_one", "double"), ("negate", "plus_one#2"))
    return tuple(
        renamed(
            lively(
                *apps, grains=(split, fanned), regrain=pairs if policy == "slack" else None, seed=seed, requests=120,
                policy=policy, note=f"a note {EVIL}",
            )
        )
        for policy in ("slack", "plain")
        for seed in (1, 2)
    )  # fmt: skip
