"""Who asks, when: arrival processes that drive the simulator and the live load generator alike."""
