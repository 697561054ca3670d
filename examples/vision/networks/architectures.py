"""The six networks, each a small relative of a well-known one: its layers and its shape of need, not its weights.

Super-resolution and deblurring work at the picture's own size and give a picture. The other four see every picture at one
size, as the networks that they are after do.
"""

from collections.abc import Callable

from onnx import ModelProto, TensorProto

from networks.dimensions import BACKGROUND_SIDE, CLASSIFICATION_SIDE, DEPTH_MAP_SIDE, DEPTH_SIDE, SCALE, SEGMENTATION_SIDE
from networks.graph import Graph

SEGMENTS = 21
"""Kinds of things that are told apart: those of Pascal VOC and the background."""

CLASSES = 1000
"""Kinds of pictures that are told apart, as many as in ImageNet."""


def super_resolution() -> ModelProto:
    """EDSR's residual body and pixel shuffle (Lim et al., 2017; Ledig et al., 2017), over a bilinear enlargement."""
    graph, channels = Graph("super-resolution"), 32
    picture = graph.image("pictures", "height", "width")
    head = graph.conv(picture, channels)
    body = head
    for _ in range(5):
        body = graph.add(body, graph.conv(graph.conv_relu(body, channels), channels, gain=0.1))
    body = graph.add(head, graph.conv(body, channels, gain=0.5))
    detail = graph.pixel_shuffle(graph.conv(body, 3 * SCALE**2, gain=0.02), SCALE)
    return _picture(graph, graph.add(graph.enlarge(picture, SCALE), detail), ("batch", "larger height", "larger width", 3))


def deblur() -> ModelProto:
    """The generator of DeblurGAN (Kupyn et al., 2018) as a U-Net: residual blocks at a quarter of the size, a global skip."""
    graph, channels = Graph("deblur"), 32
    picture = graph.image("pictures", "height", "width")
    whole = graph.conv_relu(graph.conv_relu(picture, channels, kernel=5), channels)
    half = graph.conv_relu(graph.conv_relu(whole, 2 * channels, stride=2), 2 * channels)
    quarter = graph.conv_relu(half, 4 * channels, stride=2)
    for _ in range(5):
        quarter = _residual(graph, quarter, 4 * channels)
    half = _up(graph, quarter, half, 2 * channels)
    whole = _up(graph, half, whole, channels)
    return _picture(graph, graph.add(picture, graph.conv(whole, 3, gain=0.02)), ("batch", "height", "width", 3))


def segmentation() -> ModelProto:
    """DeepLab (Chen et al., 2018): an encoder that dilates instead of shrinking, a pyramid of rates, bilinear enlargement."""
    graph, channels, side = Graph("segmentation"), 176, SEGMENTATION_SIDE
    x = graph.image("pictures", side, side)
    x = graph.conv_relu(graph.conv_relu(x, 32, kernel=7, stride=2), 64, stride=2)
    x = _residual(graph, x, 64)
    x = graph.conv_relu(x, channels, stride=2)
    for rate in (1, 1, 2, 2, 4, 4):
        x = _residual(graph, x, channels, rate)
    pyramid = [graph.conv_relu(x, 64, kernel=1), *(graph.conv_relu(x, 64, rate=rate) for rate in (3, 6, 9))]
    summary = graph.conv_relu(graph.mean(x), channels, kernel=1)
    x = graph.add(graph.conv_relu(graph.concat(*pyramid), channels, kernel=1), summary)
    logits = graph.conv(graph.conv_relu(x, channels), SEGMENTS, kernel=1)
    kinds = graph.strongest(graph.enlarge(logits, 8))
    return graph.model(kinds=(kinds, TensorProto.INT64, ("batch", side, side)))


def classification() -> ModelProto:
    """A small ResNet (He et al., 2016) with the wide dense layers of VGG: most of its weights are read once per batch."""
    graph, side = Graph("classification"), CLASSIFICATION_SIDE
    x = graph.max_pool(graph.conv_relu(graph.image("pictures", side, side), 32, kernel=7, stride=2))
    for index, width in enumerate((64, 96, 160)):
        x = graph.conv_relu(x, width, stride=2 if index else 1)
        x = _residual(graph, _residual(graph, x, width), width)
    wide = graph.relu(graph.dense(graph.flatten(x, side // 16, side // 16), 3072))
    shares = graph.softmax(graph.dense(wide, CLASSES, gain=4.0))
    return graph.model(shares=(shares, TensorProto.FLOAT, ("batch", CLASSES)))


def background_removal() -> ModelProto:
    """U2-Net (Qin et al., 2020), lighter: a U whose every step is a U itself, and a mask made of the masks of all scales."""
    graph, side = Graph("background-removal"), BACKGROUND_SIDE
    x = graph.image("pictures", side, side)
    whole = _nested(graph, x, 24, 32, depth=4)
    half = _nested(graph, graph.max_pool(whole), 32, 64, depth=4)
    quarter = _nested(graph, graph.max_pool(half), 48, 96, depth=3)
    bottom = _nested(graph, graph.max_pool(quarter), 64, 128, depth=2)
    quarter = _nested(graph, graph.concat(graph.enlarge(bottom, 2), quarter), 48, 64, depth=3)
    half = _nested(graph, graph.concat(graph.enlarge(quarter, 2), half), 32, 48, depth=4)
    whole = _nested(graph, graph.concat(graph.enlarge(half, 2), whole), 24, 32, depth=4)
    masks = [graph.conv(whole, 1)]
    masks += [graph.enlarge(graph.conv(scale, 1), factor) for scale, factor in ((half, 2), (quarter, 4), (bottom, 8))]
    mask = graph.squeeze(graph.stretch(graph.conv(graph.concat(*masks), 1, kernel=1)))
    return graph.model(masks=(mask, TensorProto.FLOAT, ("batch", side, side)))


def depth() -> ModelProto:
    """MiDaS (Ranftl et al., 2020): a residual encoder, and a decoder that fuses its four scales from the coarsest up."""
    graph, side, channels = Graph("depth"), DEPTH_SIDE, 128
    x = graph.conv_relu(graph.image("pictures", side, side), 48, kernel=7, stride=2)
    scales = []
    for width, blocks in ((96, 3), (160, 3), (224, 3), (288, 2)):
        x = graph.conv_relu(x, width, stride=2)
        for _ in range(blocks):
            x = _residual(graph, x, width)
        scales.append(graph.conv(x, channels))
    fused = _residual(graph, scales[-1], channels)
    for scale in reversed(scales[:-1]):
        fused = graph.add(graph.enlarge(fused, 2), _residual(graph, scale, channels))
        fused = _residual(graph, fused, channels)
    x = graph.conv_relu(graph.enlarge(graph.conv(fused, channels), 2), 32)
    near = graph.squeeze(graph.stretch(graph.conv(x, 1)))
    return graph.model(nearness=(near, TensorProto.FLOAT, ("batch", DEPTH_MAP_SIDE, DEPTH_MAP_SIDE)))


BUILDERS: dict[str, Callable[[], ModelProto]] = {
    "super-resolution": super_resolution,
    "deblur": deblur,
    "segmentation": segmentation,
    "classification": classification,
    "background-removal": background_removal,
    "depth": depth,
}
"""How to build a network, by its name."""


def _residual(graph: Graph, x: str, channels: int, rate: int = 1) -> str:
    """x + conv(relu(conv(x))), and a ReLU; the branch is quiet, so that the values stay in range however many there are."""
    inner = graph.conv(graph.conv_relu(x, channels, rate=rate), channels, rate=rate, gain=0.3)
    return graph.relu(graph.add(x, inner))


def _up(graph: Graph, coarse: str, fine: str, channels: int) -> str:
    """A step up in a U-Net: enlarge, put beside what was there on the way down, and mix."""
    return graph.conv_relu(graph.concat(graph.conv_relu(graph.enlarge(coarse, 2, "nearest"), channels), fine), channels)


def _nested(graph: Graph, x: str, middle: int, channels: int, depth: int) -> str:
    """A residual U-block of U2-Net: a U-Net of ``depth`` scales with ``middle`` channels, added to its input's features."""
    outer = graph.conv_relu(x, channels)
    down = [graph.conv_relu(outer, middle)]
    for _ in range(depth - 1):
        down.append(graph.conv_relu(graph.max_pool(down[-1]), middle))
    up = graph.conv_relu(down[-1], middle, rate=2)
    for index in range(depth - 1, -1, -1):
        up = graph.conv_relu(graph.concat(up, down[index]), middle if index else channels)
        if index:
            up = graph.enlarge(up, 2)
    return graph.add(up, outer)


def _picture(graph: Graph, x: str, shape: tuple[int | str, ...]) -> ModelProto:
    return graph.model(result=(graph.as_image(x), TensorProto.UINT8, shape))
