"""Every fixed granularity and the published schedulers against adaptive, over the axes that decide. Simulated."""
