"""Pictures to try the apps with: a sky, a field and a few balls, drawn at run time.

    python examples/vision/scenes.py FOLDER

writes them there: ``.png`` to look at, and ``.rgb`` to post, the bare bytes of rows of 64 pixels of red, green and blue.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 64
"""Every picture is this wide, in pixels; its height is free."""

HEIGHTS = (64, 48, 64, 96, 64, 80)
"""Of the pictures to measure with: most are square."""


def scene(height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, WIDTH, 3) uint8 RGB."""
    rows, columns = np.mgrid[0:height, 0:WIDTH].astype(np.float64)
    random = np.random.default_rng(seed)
    horizon = height * random.uniform(0.35, 0.65)
    sky = np.stack([90 + 1.2 * rows, 140 + 0.9 * rows, np.full_like(rows, 230.0)], -1)
    grain = ((rows * 7 + columns * 13) % 11)[..., None]
    field = np.array([70.0, 130.0, 60.0]) + 3 * grain - 0.3 * rows[..., None]
    picture = np.where((rows > horizon)[..., None], field, sky)
    for _ in range(3):
        radius = random.uniform(5, 14)
        middle = (height * random.uniform(0.1, 0.9), WIDTH * random.uniform(0.1, 0.9))
        distance = np.hypot(rows - middle[0], columns - middle[1]) / radius
        colour = random.uniform(60, 250, 3) * np.clip(1.2 - 0.6 * distance, 0, 1)[..., None]
        picture = np.where((distance < 1)[..., None], colour, picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def scenes() -> list[NDArray[np.uint8]]:
    """A picture of every height in ``HEIGHTS``."""
    return [scene(height, seed) for seed, height in enumerate(HEIGHTS)]


def write(folder: Path) -> list[Path]:
    """Write every scene as ``scene-HEIGHT-NUMBER.png`` and ``.rgb``; the paths of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index, picture in enumerate(scenes()):
        path = folder / f"scene-{picture.shape[0]}-{index}"
        Image.fromarray(picture).save(path.with_suffix(".png"))
        path.with_suffix(".rgb").write_bytes(picture.tobytes())
        written.append(path.with_suffix(".rgb"))
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder to write the pictures to: python examples/vision/scenes.py FOLDER")
    print("\n".join(map(str, write(Path(sys.argv[1])))))
