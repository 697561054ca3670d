"""A network opened on the device that the environment names.

``GRAINWISE_VISION_DEVICE`` is ``cpu``, the default, or ``gpu``: then every stage that runs a network is declared for a GPU and
opens its session there.
"""

import os
from typing import Any

# Read by the native libraries when they are first imported: a file that is imported once and then forked may start no
# thread, and the telemetry uploader of recent ONNX Runtime releases would be one.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime

from grainwise.domain.app import DeviceKind
from grainwise.domain.errors import ArtifactError, ConfigurationError
from networks.store import network_file

DEVICE_VARIABLE = "GRAINWISE_VISION_DEVICE"


def chosen_device() -> DeviceKind:
    """Where the networks are to run.

    Raises:
        ConfigurationError: the environment names another device.
    """
    named = os.environ.get(DEVICE_VARIABLE, "cpu")
    if named == "cpu":
        return "cpu"
    if named == "gpu":
        return "gpu"
    raise ConfigurationError(f"{DEVICE_VARIABLE} is {named!r}; it is cpu or gpu")


def providers(device: DeviceKind) -> list[str]:
    """The execution providers of ONNX Runtime for a device, the preferred one first.

    Raises:
        ArtifactError: a GPU is asked for, and this build of ONNX Runtime drives none.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    available: list[str] = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in available:
        raise ArtifactError(
            f"{DEVICE_VARIABLE} is gpu and this ONNX Runtime has no CUDAExecutionProvider, only {', '.join(available)}; "
            "install onnxruntime-gpu in place of onnxruntime, or unset the variable"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


class Network:
    """A network that is ready to run; opening it is the load part of a stage's cold start."""

    def __init__(self, name: str) -> None:
        """Args: name: one of ``networks.store.NAMES``.

        Raises:
            ArtifactError: it can neither be found nor built, its file is damaged, or the device is not to be had.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("GRAINWISE_THREADS", "1"))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        # A plan of memory per shape saves no time where batches have many shapes.
        options.enable_mem_pattern = False
        wanted = providers(chosen_device())
        path = network_file(name)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:
            raise ArtifactError(f"{path} cannot be opened: {error}; if the file is damaged, delete it") from error
        if self._session.get_providers()[0] != wanted[0]:
            raise ArtifactError(f"{wanted[0]} could not be started for {name}: are driver and CUDA libraries installed?")

    def __call__(self, pictures: Any) -> Any:
        """What the network makes of (batch, height, width, 3) uint8: an array whose first axis is batch."""
        return self._session.run(None, {"pictures": pictures})[0]
