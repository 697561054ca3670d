"""Why: a frozen record that every decision carries and that is rendered only when read."""

from msgspec import Struct


class Because(Struct, frozen=True, array_like=True, gc=False):
    """The rule that decided and the facts that it used."""

    rule: str
    facts: tuple[tuple[str, float | int | str], ...] = ()

    def render(self) -> str:
        """One line for people."""
        if not self.facts:
            return self.rule
        return (
            self.rule
            + ": "
            + ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.facts)
        )
