"""Is the simulator right? Against theory, against other simulators, against itself and against failures."""
