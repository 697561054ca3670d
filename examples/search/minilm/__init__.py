"""The parts of the search app: a sentence encoder, the handbook it is about, and the stages between them."""
