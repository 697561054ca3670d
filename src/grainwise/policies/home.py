"""The home of a function: the node on which it is started where nothing speaks for another one.

As in OpenWhisk, whose home invoker is the hash of the namespace and the action modulo the number of invokers. Here it is a
SHA-256 of the app's name and the names of its stages, so that it is the same on every interpreter and in every run.
"""

import hashlib
from collections.abc import Sequence


def home_of(app: str, stages: Sequence[str], nodes: Sequence[str]) -> str:
    """The node that is the home of a function; empty where there are no nodes.

    Args:
        app: its name.
        stages: the names of the function's stages.
        nodes: the names of the nodes, in any order.
    """
    if not nodes:
        return ""
    digest = hashlib.sha256("/".join((app, *stages)).encode()).digest()
    return sorted(nodes)[int.from_bytes(digest[:8], "big") % len(nodes)]
