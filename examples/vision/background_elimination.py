"""The foreground of a picture as a PNG: super-resolution, deblurring, background removal."""

from typing import Annotated

import numpy as np
from networks.session import chosen_device
from networks.stages import Cutout, Deblur, SuperResolution
from numpy.typing import NDArray

from grainwise import App, Slo, sizes

app = App("background-elimination", slo=Slo(latency_ms=400, target=0.99))

device = chosen_device()
super_resolution = app.stage(SuperResolution, max_batch=4, size=sizes.pixels, device=device)
deblur = app.stage(Deblur, max_batch=4, size=sizes.pixels, device=device)
background_removal = app.stage(Cutout, name="background_removal", max_batch=4, size=sizes.one, device=device)


@app.flow
def background_elimination(picture: Annotated[NDArray[np.uint8], (None, 64, 3)]) -> bytes:
    """Enlarge and sharpen a picture, cut its foreground out."""
    return background_removal(deblur(super_resolution(picture)))


@app.samples
def samples() -> list[NDArray[np.uint8]]:
    """Pictures to profile with."""
    from scenes import scenes  # drawn only when they are asked for, and then in an instance

    return scenes()
