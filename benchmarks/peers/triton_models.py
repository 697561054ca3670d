"""A Triton model repository with the image application: one fused Python model, and an ensemble of three."""

from pathlib import Path

_MODEL = """import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "{given}").as_numpy()
            y = {work}
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("{made}", y)]))
        return responses
"""

_INVERT = "255 - x"
_MASK = "np.bitwise_xor(x, 0x55)"
_TOTAL = "np.array([x.reshape(-1)[::16].sum(dtype=np.int64)])"
_FUSED = "np.array([np.bitwise_xor(255 - x, 0x55).reshape(-1)[::16].sum(dtype=np.int64)])"

_IMAGE = "data_type: TYPE_UINT8 dims: [ 448, 448, 3 ]"
_NUMBER = "data_type: TYPE_INT64 dims: [ 1 ]"


def _python(folder: Path, name: str, given: tuple[str, str], made: tuple[str, str], work: str) -> None:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(_MODEL.format(given=given[0], made=made[0], work=work))
    (folder / name / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
        f'input [ {{ name: "{given[0]}" {given[1]} }} ]\noutput [ {{ name: "{made[0]}" {made[1]} }} ]\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )


def write_fused(folder: Path) -> None:
    """The model ``image`` in one Python model."""
    _python(folder, "image", ("image", _IMAGE), ("total", _NUMBER), _FUSED)


def write_split(folder: Path) -> None:
    """The model ``image`` as an ensemble of three Python models."""
    _python(folder, "invert", ("image", _IMAGE), ("inverted", _IMAGE), _INVERT)
    _python(folder, "mask", ("inverted", _IMAGE), ("masked", _IMAGE), _MASK)
    _python(folder, "total", ("masked", _IMAGE), ("total", _NUMBER), _TOTAL)
    (folder / "image" / "1").mkdir(parents=True)
    steps = ", ".join(
        f'{{ model_name: "{name}" model_version: -1 input_map {{ key: "{given}" value: "{given}" }} '
        f'output_map {{ key: "{made}" value: "{made}" }} }}'
        for name, given, made in (("invert", "image", "inverted"), ("mask", "inverted", "masked"), ("total", "masked", "total"))
    )
    (folder / "image" / "config.pbtxt").write_text(
        f'name: "image"\nplatform: "ensemble"\nmax_batch_size: 0\ninput [ {{ name: "image" {_IMAGE} }} ]\n'
        f'output [ {{ name: "total" {_NUMBER} }} ]\nensemble_scheduling {{ step [ {steps} ] }}\n'
    )
