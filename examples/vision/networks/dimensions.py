"""How large a picture is to each network, in pixels."""

SCALE = 2
"""How many times larger super-resolution makes a picture, in both directions."""

MULTIPLE = 4
"""The deblurring network halves height and width twice, so both are multiples of this."""

SEGMENTATION_SIDE = 128
BACKGROUND_SIDE = 128
DEPTH_SIDE = 128
CLASSIFICATION_SIDE = 64
"""Height and width at which a network sees every picture."""

DEPTH_MAP_SIDE = DEPTH_SIDE // 2
"""Height and width of a map of nearness."""
