"""How Grainwise is driven from a shell."""
