"""A published set serves live: answers are right, every decision is explained, and on leaving the log is replayed elsewhere."""

from grainwise.control.actions import Invoke, KillInstance, LoadStages, Reject, Respond, StartInstance, StopInstance
from grainwise.control.events import AppDeployed
from grainwise.domain.config import AppConfig
from grainwise.policies.published import esg_offers

from .serving_harness import ROOT, run, serve

SLEEP_APP = ROOT / "examples" / "sleep" / "app.py"
SPLIT = "decode | detect | recognise"
ESG_RULES = {esg_offers.CHEAPEST, esg_offers.NEXT, esg_offers.BEST_EFFORT}
LENGTHS = (600, 1000, 1400, 300, 800, 1200)
EXPLAINED = (Invoke, KillInstance, LoadStages, Reject, StartInstance, StopInstance)


def test_esg_serves_right_explains_itself_and_replays(tmp_path):
    async def main():
        async with serve(SLEEP_APP, tmp_path, rate_per_s=5.0, config=AppConfig(policies="esg")) as live:
            assert live.serving.plan(live.app).grain == SPLIT
            answers = [await live.post({"text": "x" * length}) for length in LENGTHS]
            assert [(status, body["outputs"]["output"]) for status, body in answers] == [(200, length) for length in LENGTHS]
            (deployed,) = [entry.event for entry in live.entries() if isinstance(entry.event, AppDeployed)]
            assert deployed.config.policies == "esg"
            assert len(live.actions(Respond)) == len(LENGTHS)
            assert not live.actions(Reject)
            runs = live.actions(Invoke)
            assert sum(len(each.items) for each in runs) == 3 * len(LENGTHS), "every stage runs by itself"
            for kind in EXPLAINED:
                assert all(each.because.render() for each in live.actions(kind))
            assert {each.because.rule for each in runs} & ESG_RULES

    run(main())
