"""ESG as policy sets (after Hui, Xu, Guo and Shen, HPDC 2024, reconstructed): with its own dispatcher, and with ours.

What is its own is in ``esg_offers`` (configurations), ``esg_dispatch`` (machines and warm instances) and
``planning.published.esg_plan`` (what instances are started with). A batch is part of a configuration, so both sets run exactly
the batch that it names and wait for no more.
"""

from dataclasses import replace

from grainwise.planning.published.esg_plan import configure
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance
from grainwise.policies.published import esg_dispatch, esg_offers

SOURCE = "Hui, Xu, Guo, Shen: ESG, HPDC 2024"

ESG_CONFIGURATION = replace(
    FIXED,
    name="esg_configuration",
    provenance=Provenance(
        "before each function runs, batch and vCPUs of the cheapest path that is in time; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=configure,
    offer=esg_offers.EsgOffers,
    extent=esg_offers.decide,
    batch_now=esg_dispatch.batch_now,
    batch_or_wait=esg_dispatch.never_wait,
)
ESG = replace(
    ESG_CONFIGURATION,
    name="esg",
    provenance=Provenance(
        "configurations of the cheapest path in time; locality, warm instances, home, best fit; one warm instance ahead",
        SOURCE,
        "reconstructed",
    ),
    route=esg_dispatch.route,
    place=esg_dispatch.place,
    scale=esg_dispatch.scale,
)

SETS: tuple[PolicySet, ...] = (ESG, ESG_CONFIGURATION)
