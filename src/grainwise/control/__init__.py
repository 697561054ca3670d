"""Who remembers what is happening: the state machine, its invariants, its log, the protocols of the performers."""
