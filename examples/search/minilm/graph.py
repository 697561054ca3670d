"""The encoder as an ONNX graph, written node by node from its weights.

The architecture is BERT's (Devlin et al., NAACL 2019) with 6 layers, 12 heads and a width of 384, as MiniLM was distilled
(Wang et al., NeurIPS 2020); the sentence vector is the mean over tokens, normalised (Reimers and Gurevych, EMNLP 2019).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS = 6
HEADS = 12
WIDTH = 384
HEAD_WIDTH = WIDTH // HEADS
EPSILON = 1e-12
"""What layer normalisation adds to a variance, by the model's configuration."""

# The first versions with an exact Gelu, and with the layout that ONNX Runtime 1.20 reads.
OPSET = 20
IR_VERSION = 9

MODEL_FILE = "encoder.onnx"
DATA_FILE = "encoder.bin"
"""The constants: beside the graph and not in it, so that the runtime maps them and instances share what they only read."""

ALIGNMENT = 4096
"""A constant begins at a multiple of this many bytes: a page, which is what can be mapped."""

Weights = Mapping[str, NDArray[np.float32]]


class _Writer:
    """Nodes and constants in the order in which they are added; every method returns the name of a value."""

    def __init__(self, weights: Weights, data: BinaryIO) -> None:
        self.weights = weights
        self.data = data
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """A constant that shapes are computed from; the graph holds it."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def array(self, name: str, value: NDArray[np.float32]) -> str:
        """A constant in the data file."""
        self.data.seek(-(-self.data.tell() // ALIGNMENT) * ALIGNMENT)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape, data_location=TensorProto.EXTERNAL)
        place = {"location": DATA_FILE, "offset": self.data.tell(), "length": value.nbytes}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(entry)) for key, entry in place.items())
        self.constants[name] = tensor
        self.data.write(np.ascontiguousarray(value, "<f4").data)
        return name

    def weight(self, name: str) -> str:
        return self.array(name, self.weights[name])

    def node(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def dense(self, value: str, layer: str) -> str:
        """``value`` x weightᵀ + bias; the weights are stored as (out, in)."""
        kernel = self.array(f"{layer}.weight", self.weights[f"{layer}.weight"].T)
        return self.node("Add", self.node("MatMul", value, kernel), self.weight(f"{layer}.bias"))

    def normalise_layer(self, value: str, layer: str) -> str:
        scale, shift = self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")
        return self.node("LayerNormalization", value, scale, shift, axis=-1, epsilon=EPSILON)

    def heads(self, value: str, *, turned: bool = False) -> str:
        """(batch, tokens, width) to (batch, heads, tokens, head width), or with the last two exchanged."""
        split = self.constant("split", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64))
        return self.node("Transpose", self.node("Reshape", value, split), perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])

    def to_unit_length(self, value: str, name: str) -> str:
        axes = self.constant("last_axis", np.array([-1], np.int64))
        return self.node("Div", value, self.node("ReduceL2", value, axes, keepdims=1), to=name)


def write_encoder(weights: Weights, folder: Path) -> None:
    """Write the encoder into ``folder``, as ``MODEL_FILE`` and ``DATA_FILE``.

    Its inputs are ``ids``, (batch, tokens) int64, and ``mask``, (batch, tokens) float32 with 1 for a token and 0 for padding;
    its outputs are ``tokens``, (batch, tokens, 384) float32, and ``vector``, (batch, 384) float32, all of unit length.
    """
    with (folder / DATA_FILE).open("wb") as data:
        writer = _Writer(weights, data)
        outputs = _encoder(writer)
    graph = helper.make_graph(
        writer.nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", "length"]),
        ],
        [
            helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, ["batch", "length", WIDTH]),
            helper.make_tensor_value_info(outputs[1], TensorProto.FLOAT, ["batch", WIDTH]),
        ],
        list(writer.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())


def _encoder(writer: _Writer) -> tuple[str, str]:
    """All nodes; the names of the two outputs."""
    length = writer.node("Shape", "ids", start=1, end=2)
    begin = writer.constant("zero", np.array([0], np.int64))
    places = writer.node("Slice", writer.weight("embeddings.position_embeddings.weight"), begin, length, begin)
    words = writer.node("Gather", writer.weight("embeddings.word_embeddings.weight"), "ids")
    # A question is one segment, the first of the two that the model knows.
    segment = writer.array("segment", writer.weights["embeddings.token_type_embeddings.weight"][0])
    state = writer.node("Add", writer.node("Add", words, segment), places)
    state = writer.normalise_layer(state, "embeddings.LayerNorm")
    hidden = writer.node("Sub", writer.constant("one", np.array(1, np.float32)), "mask")
    hidden = writer.node("Mul", hidden, writer.constant("minus_much", np.array(-1e9, np.float32)))
    hidden = writer.node("Unsqueeze", hidden, writer.constant("head_axes", np.array([1, 2], np.int64)))
    for number in range(LAYERS):
        state = _layer(writer, state, hidden, f"encoder.layer.{number}")
    tokens = writer.to_unit_length(state, "tokens")
    summed = writer.node(
        "MatMul", writer.node("Unsqueeze", "mask", writer.constant("row_axis", np.array([1], np.int64))), state
    )
    vector = writer.to_unit_length(writer.node("Squeeze", summed, "row_axis"), "vector")
    return tokens, vector


def _layer(writer: _Writer, state: str, hidden: str, name: str) -> str:
    """Attention over all tokens and a network per token, each added to what it read and normalised."""
    query = writer.heads(writer.dense(state, f"{name}.attention.self.query"))
    key = writer.heads(writer.dense(state, f"{name}.attention.self.key"), turned=True)
    value = writer.heads(writer.dense(state, f"{name}.attention.self.value"))
    scale = writer.constant("scale", np.array(HEAD_WIDTH**-0.5, np.float32))
    scores = writer.node("Add", writer.node("Mul", writer.node("MatMul", query, key), scale), hidden)
    mixed = writer.node("MatMul", writer.node("Softmax", scores, axis=-1), value)
    joined = writer.constant("join", np.array([0, 0, WIDTH], np.int64))
    mixed = writer.node("Reshape", writer.node("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
    attended = writer.node("Add", writer.dense(mixed, f"{name}.attention.output.dense"), state)
    attended = writer.normalise_layer(attended, f"{name}.attention.output.LayerNorm")
    inner = writer.node("Gelu", writer.dense(attended, f"{name}.intermediate.dense"))
    added = writer.node("Add", writer.dense(inner, f"{name}.output.dense"), attended)
    return writer.normalise_layer(added, f"{name}.output.LayerNorm")
