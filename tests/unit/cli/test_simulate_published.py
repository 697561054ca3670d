"""``grainwise simulate --policy`` with every published set: each plans, serves and says which set it was."""

import pytest
from command_line import ROOT, grainwise

from grainwise.policies.published import PUBLISHED

SLEEP = ROOT / "examples" / "sleep" / "app.py"


@pytest.mark.parametrize("name", [each.name for each in PUBLISHED])
def test_a_published_set_simulates_an_app(name):
    said = grainwise("simulate", SLEEP, "--policy", name, "--workload", "poisson:10:3s", "--json")
    assert said.code == 0, said.words
    assert said.json["kind"] == "simulated"
    assert said.json["provenance"]["policy"].startswith(name)
    (result,) = said.json["apps"]
    assert result["name"] == "sleep"
    assert result["offered"] == result["answered"] > 10
    assert result["grain"] == "decode | detect | recognise"
