"""Layers put together into an ONNX graph, with weights that are the same bytes on every machine.

The weights are random: what a network computes means nothing, what it costs is that of a trained one of the same shape.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

Dimension = int | str


def weights(name: str, shape: Sequence[int], bound: float) -> NDArray[np.float32]:
    """Values in [-bound, bound) that depend on ``name`` and ``shape`` only.

    They come from the raw words of PCG64, which NumPy keeps stable, and not from one of its distributions, which it does not.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    count = int(np.prod(shape))
    words = np.random.PCG64(seed).random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
    return (unit * np.float32(bound)).reshape(tuple(shape))


class Graph:
    """A network under construction: every method adds one layer and returns the name of its output.

    Tensors are float32 in the order batch, channels, height, width, but for ``image`` and ``as_image``: uint8 pictures in the
    order batch, height, width, channels, as apps hand them around.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._channels: dict[str, int] = {}

    def image(self, name: str, height: Dimension, width: Dimension) -> str:
        """The input: RGB pictures, scaled to [-1, 1)."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, ("batch", height, width, 3)))
        moved = self._add("Transpose", [self._add("Cast", [name], to=TensorProto.FLOAT)], perm=(0, 3, 1, 2))
        scaled = self._add("Mul", [moved, self._scalar(1 / 127.5)])
        return self._with_channels(self._add("Sub", [scaled, self._scalar(1.0)]), 3)

    def as_image(self, x: str) -> str:
        """Values in [-1, 1] as uint8 pictures; what lies outside is clipped."""
        scaled = self._add("Mul", [self._add("Add", [x, self._scalar(1.0)]), self._scalar(127.5)])
        whole = self._add("Round", [self._add("Clip", [scaled, self._scalar(0.0), self._scalar(255.0)])])
        return self._add("Cast", [self._add("Transpose", [whole], perm=(0, 2, 3, 1))], to=TensorProto.UINT8)

    def conv(self, x: str, channels: int, kernel: int = 3, stride: int = 1, rate: int = 1, gain: float = 1.0) -> str:
        """A convolution that keeps height and width but for ``stride``; ``rate`` is its dilation.

        Its weights keep the variance of what they are given, times ``gain`` squared (He et al., 2015).
        """
        given = self._channels[x]
        fan_in = given * kernel * kernel
        weight = self._weight((channels, given, kernel, kernel), gain * float(np.sqrt(6.0 / fan_in)))
        pad = rate * (kernel - 1) // 2
        options = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "dilations": (rate, rate)}
        made = self._add("Conv", [x, weight, self._zeros(channels)], pads=(pad, pad, pad, pad), **options)
        return self._with_channels(made, channels)

    def conv_relu(self, x: str, channels: int, kernel: int = 3, stride: int = 1, rate: int = 1) -> str:
        """``conv`` and ``relu``."""
        return self.relu(self.conv(x, channels, kernel, stride, rate))

    def relu(self, x: str) -> str:
        """Max(x, 0)."""
        return self._like(self._add("Relu", [x]), x)

    def add(self, x: str, y: str) -> str:
        """The sum of two tensors of one shape, or of which one has height and width 1."""
        return self._like(self._add("Add", [x, y]), x)

    def concat(self, *parts: str) -> str:
        """The channels of all, one after the other."""
        return self._with_channels(self._add("Concat", list(parts), axis=1), sum(self._channels[part] for part in parts))

    def max_pool(self, x: str) -> str:
        """Half the height and width."""
        return self._like(self._add("MaxPool", [x], kernel_shape=(2, 2), strides=(2, 2)), x)

    def mean(self, x: str) -> str:
        """The mean over height and width, which are 1 afterwards."""
        return self._like(self._add("GlobalAveragePool", [x]), x)

    def enlarge(self, x: str, factor: int, mode: str = "linear") -> str:
        """``factor`` times the height and width, bilinear or by the nearest pixel."""
        scales = self._constant("scales", np.array([1, 1, factor, factor], np.float32))
        nearest = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"} if mode == "nearest" else {}
        return self._like(self._add("Resize", [x, "", scales], mode=mode, **nearest), x)

    def pixel_shuffle(self, x: str, factor: int) -> str:
        """``factor`` times the height and width, from ``factor`` squared times the channels (Shi et al., 2016)."""
        made = self._add("DepthToSpace", [x], blocksize=factor, mode="CRD")
        return self._with_channels(made, self._channels[x] // factor**2)

    def flatten(self, x: str, height: int, width: int) -> str:
        """One row per item."""
        return self._with_channels(self._add("Flatten", [x], axis=1), self._channels[x] * height * width)

    def dense(self, x: str, features: int, gain: float = 1.0) -> str:
        """A row per item times a matrix: the one layer whose weights are read once for a whole batch, however large it is."""
        given = self._channels[x]
        weight = self._weight((given, features), gain * float(np.sqrt(6.0 / given)))
        return self._with_channels(self._add("Gemm", [x, weight, self._zeros(features)]), features)

    def softmax(self, x: str) -> str:
        """Shares of one over the features of every row."""
        return self._like(self._add("Softmax", [x], axis=1), x)

    def strongest(self, x: str) -> str:
        """The channel with the largest value at every pixel: int64, batch x height x width."""
        return self._add("ArgMax", [x], axis=1, keepdims=0)

    def stretch(self, x: str) -> str:
        """Every item moved and scaled so that its least value is 0 and its largest 1."""
        least = self._add("ReduceMin", [x], axes=(1, 2, 3), keepdims=1)
        range_ = self._add("Sub", [self._add("ReduceMax", [x], axes=(1, 2, 3), keepdims=1), least])
        width = self._add("Max", [range_, self._scalar(1e-6)])
        return self._like(self._add("Div", [self._add("Sub", [x, least]), width]), x)

    def squeeze(self, x: str) -> str:
        """A tensor of one channel without the axis of channels."""
        return self._add("Squeeze", [x, self._constant("axes", np.array([1], np.int64))])

    def model(self, **outputs: tuple[str, int, Sequence[Dimension]]) -> ModelProto:
        """The finished network; per output its name: the tensor, its element type of ONNX and its shape."""
        results = []
        for name, (tensor, kind, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
            results.append(helper.make_tensor_value_info(name, kind, tuple(shape)))
        graph = helper.make_graph(self._nodes, self.name, self._inputs, results, self._constants)
        return helper.make_model(
            graph, producer_name="grainwise-vision", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )

    def _add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def _weight(self, shape: Sequence[int], bound: float) -> str:
        name = f"weight_{len(self._constants)}"
        return self._keep(name, weights(f"{self.name}/{name}", shape, bound))

    def _zeros(self, count: int) -> str:
        return self._constant("bias", np.zeros(count, np.float32))

    def _scalar(self, value: float) -> str:
        return self._constant("scalar", np.array(value, np.float32))

    def _constant(self, kind: str, value: NDArray[np.generic]) -> str:
        return self._keep(f"{kind}_{len(self._constants)}", value)

    def _keep(self, name: str, value: NDArray[np.generic]) -> str:
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def _with_channels(self, x: str, channels: int) -> str:
        self._channels[x] = channels
        return x

    def _like(self, x: str, other: str) -> str:
        return self._with_channels(x, self._channels[other])
