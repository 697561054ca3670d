"""What a blurred picture shows, in five stages: deblur, super-resolution, background removal, segmentation, classification."""

from typing import Annotated

import numpy as np
from networks.session import chosen_device
from networks.stages import BackgroundRemoval, Classification, Deblur, Segmentation, SuperResolution, Verdict
from numpy.typing import NDArray

from grainwise import App, Slo, sizes

app = App("expanded-classification", slo=Slo(latency_ms=350, target=0.99))

device = chosen_device()
deblur = app.stage(Deblur, max_batch=4, size=sizes.pixels, device=device)
super_resolution = app.stage(SuperResolution, max_batch=4, size=sizes.pixels, device=device)
background_removal = app.stage(BackgroundRemoval, max_batch=4, size=sizes.one, device=device)
segmentation = app.stage(Segmentation, max_batch=4, size=sizes.one, device=device)
classification = app.stage(Classification, max_batch=8, size=sizes.one, device=device)


@app.flow
def expanded_classification(picture: Annotated[NDArray[np.uint8], (None, 64, 3)]) -> Verdict:
    """Sharpen and enlarge a picture, remove its background, keep its largest segment, say what it shows."""
    return classification(segmentation(background_removal(super_resolution(deblur(picture)))))


@app.samples
def samples() -> list[NDArray[np.uint8]]:
    """Pictures to profile with."""
    from scenes import scenes  # drawn only when they are asked for, and then in an instance

    return scenes()
