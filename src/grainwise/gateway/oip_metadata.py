"""What the Open Inference Protocol says of the server and of an app."""

from grainwise.domain.values import ValueType
from grainwise.gateway.datatypes import datatype_of, shape_of
from grainwise.gateway.entry import Entry

VERSION = "1"
"""Every app has this version and no other."""
EXTENSIONS = ("binary_tensor_data",)


def server_metadata(version: str) -> dict[str, object]:
    """The answer to ``GET /v2``."""
    return {"name": "grainwise", "version": version, "extensions": list(EXTENSIONS)}


def app_metadata(entry: Entry) -> dict[str, object]:
    """The answer to ``GET /v2/models/{app}``."""
    return {
        "name": entry.spec.name,
        "versions": [VERSION],
        "platform": "grainwise",
        "inputs": [_describe(slot.name, slot.value_type) for slot in entry.slots],
        "outputs": [_describe(result.name, result.value_type) for result in entry.results],
    }


def app_config(entry: Entry) -> dict[str, object]:
    """The answer to ``GET /v2/models/{app}/config``, in the words of Triton's model configuration."""

    def row(name: str, value_type: ValueType) -> dict[str, object]:
        datatype = datatype_of(value_type)
        return {
            "name": name,
            "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
            "dims": shape_of(value_type),
        }

    return {
        "name": entry.spec.name,
        "platform": "grainwise",
        "max_batch_size": 0,
        "input": [row(slot.name, slot.value_type) for slot in entry.slots],
        "output": [row(result.name, result.value_type) for result in entry.results],
    }


def _describe(name: str, value_type: ValueType) -> dict[str, object]:
    return {"name": name, "datatype": datatype_of(value_type), "shape": shape_of(value_type)}
