"""Speed and memory of Grainwise, always as ratios of figures that were taken in the same run on the same machine."""
