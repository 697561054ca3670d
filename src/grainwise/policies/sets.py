"""Which policies an app is controlled by: a set names one for each recurring question, and an app names its set."""

from grainwise.domain.errors import ConfigurationError
from grainwise.policies.own_sets import OWN
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.published import PUBLISHED

SETS: dict[str, PolicySet] = {each.name: each for each in (*OWN, *PUBLISHED)}
"""The known sets by name."""


def policy_set(name: str) -> PolicySet:
    """The set of this name.

    Raises:
        ConfigurationError: no set has this name; the message names those that there are.
    """
    found = SETS.get(name)
    if found is None:
        raise ConfigurationError(f"there is no policy set {name!r}; choose one of {', '.join(sorted(SETS))}")
    return found
