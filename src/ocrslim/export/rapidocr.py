"""A folder that RapidOCR 3.x loads: the model in the format of its target, with the dictionary inside.

RapidOCR reads a recogniser's characters from the ONNX metadata ``character``, of OpenVINO's IR from
``rt_info["framework"]["character"]``, and asks for no other file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.export.bundle import (
    Deployable,
    require_open_shape,
    require_target,
    write_model,
    write_readme,
    write_sidecars,
)
from ocrslim.export.openvino import write_ir
from ocrslim.export.verify import Verification

__all__ = ["export_rapidocr"]

SECTION = {"det": "Det", "rec": "Rec"}


def export_rapidocr(
    deployable: Deployable, out: Path, batches: Iterable[NDArray[np.float32]]
) -> tuple[tuple[Path, ...], Verification | None]:
    """Write the folder.

    Args:
        deployable: float, or compressed for ONNX Runtime or OpenVINO: RapidOCR has both.
        out: exists.
        batches: to compare OpenVINO's IR with the ONNX file by.

    Returns:
        tuple: the files, and the comparison where there was one.

    Raises:
        InputError: it was compressed for another engine.
        VerifyError: OpenVINO's IR computes something else.
    """
    require_target(deployable, ("onnxruntime", "openvino"), "RapidOCR")
    require_open_shape(deployable, "RapidOCR")
    verification = None
    if deployable.target == "openvino":
        model, binary, verification = write_ir(deployable, out, batches)
        written = [model, binary]
    else:
        model = write_model(deployable, out / "model.onnx")
        written = [model]
    written += write_sidecars(out, None, deployable.source.characters)
    section = SECTION[deployable.source.task]
    engine = "OPENVINO" if deployable.target == "openvino" else "ONNXRUNTIME"
    path = f"{out.name}/{model.name}"
    code = (
        "from rapidocr import EngineType, RapidOCR",
        f'ocr = RapidOCR(params={{"{section}.model_path": "{path}", "{section}.engine_type": EngineType.{engine}}})',
        'print(ocr("page.png").txts)',
    )
    why = f"the model was quantized for {deployable.target}" if deployable.target else "the model is float"
    notes = (
        f"Keep `EngineType.{engine}`: {why}. The other model of the two comes the same way, as"
        f" `{SECTION['rec' if section == 'Det' else 'det']}.model_path`.",
    )
    return (*written, *write_readme(out, deployable, "RapidOCR 3.x", code, notes)), verification
