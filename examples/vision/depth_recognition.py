"""How near every point of a blurred picture is: deblurring, super-resolution, depth."""

from typing import Annotated

import numpy as np
from networks.session import chosen_device
from networks.stages import Deblur, Depth, SuperResolution
from numpy.typing import NDArray

from grainwise import App, Slo, sizes

app = App("depth-recognition", slo=Slo(latency_ms=250, target=0.99))

device = chosen_device()
deblur = app.stage(Deblur, max_batch=4, size=sizes.pixels, device=device)
super_resolution = app.stage(SuperResolution, max_batch=4, size=sizes.pixels, device=device)
depth = app.stage(Depth, max_batch=4, size=sizes.one, device=device)


@app.flow
def depth_recognition(picture: Annotated[NDArray[np.uint8], (None, 64, 3)]) -> NDArray[np.uint8]:
    """Sharpen and enlarge a picture, say what in it is near."""
    return depth(super_resolution(deblur(picture)))


@app.samples
def samples() -> list[NDArray[np.uint8]]:
    """Pictures to profile with."""
    from scenes import scenes  # drawn only when they are asked for, and then in an instance

    return scenes()
