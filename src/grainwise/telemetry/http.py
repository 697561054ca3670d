"""Counts of HTTP responses: the door answers many requests of which the controller never hears."""


class HttpCounters:
    """Responses by route and status, and bytes in and out. The routes are a fixed set, so the labels are bounded."""

    __slots__ = ("received_bytes", "responses", "sent_bytes")

    def __init__(self) -> None:
        self.responses: dict[tuple[str, int], int] = {}
        self.received_bytes = 0
        self.sent_bytes = 0

    def count(self, route: str, status: int, received: int = 0, sent: int = 0) -> None:
        """Count one response; ``received`` and ``sent`` are the bytes of the bodies."""
        key = (route, status)
        self.responses[key] = self.responses.get(key, 0) + 1
        self.received_bytes += received
        self.sent_bytes += sent
