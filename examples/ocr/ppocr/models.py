"""Where the models lie, that they are the right ones, and how a session is opened.

The weights are package data: nothing is downloaded, nothing is imported from the packages that carry them.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

# Read by the native libraries when they are first imported: a file that is imported once and then forked may start no
# thread, and the telemetry uploader of recent ONNX Runtime releases would be one.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import onnxruntime
from msgspec import Struct

from grainwise.domain.errors import ArtifactError

cv2.setNumThreads(1)


class ModelFile(Struct, frozen=True):
    """One ONNX file inside a package, and the digest of the release that this app was checked with."""

    package: str
    requirement: str
    path: str
    sha256: str

    def find(self) -> Path:
        """Where the file lies, its content verified.

        Raises:
            ArtifactError: the package is not installed, or carries another model under this name.
        """
        remedy = f'install it with: pip install "{self.requirement}"'
        found = importlib.util.find_spec(self.package)
        if found is None or found.origin is None:
            raise ArtifactError(f"the OCR app needs the model {self.path} of the package {self.package}; {remedy}")
        file = Path(found.origin).parent / self.path
        if not file.is_file():
            raise ArtifactError(f"the installed package {self.package} has no {self.path}; {remedy}")
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != self.sha256:
            raise ArtifactError(f"{file} is another model (sha256 {digest[:12]}, expected {self.sha256[:12]}); {remedy}")
        return file


class Variant(Struct, frozen=True):
    """The models of one speed and quality."""

    name: str
    detect: ModelFile
    orient: ModelFile
    recognise: ModelFile


LIGHT = Variant(
    name="light",
    detect=ModelFile(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime==1.4.4",
        "models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    orient=ModelFile(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime==1.4.4",
        "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    recognise=ModelFile(
        "rapidocr_onnxruntime",
        "rapidocr-onnxruntime==1.4.4",
        "models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
)
"""PP-OCRv4 mobile: about four times as fast to detect."""

ACCURATE = Variant(
    name="accurate",
    detect=ModelFile(
        "rapidocr",
        "rapidocr>=3.10,<4",
        "models/PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    orient=ModelFile(
        "rapidocr",
        "rapidocr>=3.10,<4",
        "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    recognise=ModelFile(
        "rapidocr",
        "rapidocr>=3.10,<4",
        "models/PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
)
"""PP-OCRv6 small: keeps spaces and small print."""


def open_session(model: ModelFile) -> onnxruntime.InferenceSession:
    """A session that uses as many threads as the instance was given (``GRAINWISE_THREADS``, else one) and never spins.

    Raises:
        ArtifactError: the model is absent or another one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("GRAINWISE_THREADS", "1"))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Pictures and lines have many shapes: kept blocks and per-shape memory plans cost a third of the memory and save no time.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(str(model.find()), options, providers=["CPUExecutionProvider"])
