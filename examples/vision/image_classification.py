"""What a picture shows, looked at closely: super-resolution, segmentation, classification."""

from typing import Annotated

import numpy as np
from networks.session import chosen_device
from networks.stages import Classification, Segmentation, SuperResolution, Verdict
from numpy.typing import NDArray

from grainwise import App, Slo, sizes

app = App("image-classification", slo=Slo(latency_ms=125, target=0.99))

device = chosen_device()
super_resolution = app.stage(SuperResolution, max_batch=4, size=sizes.pixels, device=device)
segmentation = app.stage(Segmentation, max_batch=4, size=sizes.one, device=device)
classification = app.stage(Classification, max_batch=8, size=sizes.one, device=device)


@app.flow
def image_classification(picture: Annotated[NDArray[np.uint8], (None, 64, 3)]) -> Verdict:
    """Enlarge a picture, keep its largest segment, say what it shows."""
    return classification(segmentation(super_resolution(picture)))


@app.samples
def samples() -> list[NDArray[np.uint8]]:
    """Pictures to profile with."""
    from scenes import scenes  # drawn only when they are asked for, and then in an instance

    return scenes()
