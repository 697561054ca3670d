"""The nouns: stages, graphs, apps, plans, devices and the references that cross an edge.

Frozen values without behaviour beyond what follows from their own fields; this layer imports nothing of ours.
"""
