"""Recorded traffic: what files of traces say, how they are found, described, fetched, and stood in for where there are none."""
