"""OpenVINO's own format: ``model.xml`` and ``model.bin``, with the dictionary in ``rt_info``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.engines.session import open_session
from ocrslim.errors import EngineError, VerifyError
from ocrslim.export.bundle import Deployable, require_target, write_model, write_readme, write_sidecars
from ocrslim.export.verify import Verification, verify_det, verify_rec

__all__ = ["export_openvino", "read_characters", "write_ir"]

KEY = ["framework", "character"]  # where RapidOCR looks
THREADS = 2


def export_openvino(
    deployable: Deployable, out: Path, batches: Iterable[NDArray[np.float32]]
) -> tuple[tuple[Path, ...], Verification]:
    """Write OpenVINO's IR, the sidecars and a README.

    Args:
        deployable: float, or compressed for OpenVINO.
        out: exists.
        batches: to compare the IR with the ONNX file by.

    Raises:
        InputError: it was compressed for another engine.
        VerifyError: the IR computes something else, or the dictionary in it is another.
    """
    require_target(deployable, ("openvino",), "OpenVINO")
    xml, binary, verification = write_ir(deployable, out, batches)
    source = deployable.source
    written = [xml, binary, *write_sidecars(out, source.inference_yml, source.characters)]
    shape = "[N, 1, H, W]" if source.task == "det" else "[N, T, classes]"
    code = (
        "import openvino",
        f'compiled = openvino.compile_model("{out.name}/{xml.name}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
        f"answer = compiled(batch)[0]  # {shape} of [N, 3, H, W]",
    )
    notes = [
        "Without the hint OpenVINO runs the float parts in bfloat16 on CPUs that have it: not what was measured.",
        "Pre- and post-processing are in `inference.yml`, where the model came with one.",
    ]
    if source.characters is not None:
        notes.append("Pad lines to a multiple of 32 pixels: OpenVINO makes its kernels anew for every new width.")
        notes.append(
            'The dictionary, without the blank before it and the space behind it, is `model.get_rt_info(["framework",'
            ' "character"]).value`, one entry a line, and in `dictionary.txt`.'
        )
    return (*written, *write_readme(out, deployable, "OpenVINO", code, notes)), verification


def write_ir(
    deployable: Deployable, out: Path, batches: Iterable[NDArray[np.float32]]
) -> tuple[Path, Path, Verification]:
    """Write ``model.xml`` and ``model.bin``, load them again and compare.

    Constants that are float32 stay so: halving them would change what was measured.

    Args:
        deployable: whatever it was compressed for.
        out: exists; nothing is left in it if the comparison fails.
        batches: ``[N, 3, H, W]`` each.

    Raises:
        EngineError: OpenVINO cannot convert it.
        VerifyError: the IR computes something else, or the dictionary in it is another.
    """
    import openvino  # a second of imports, for this alone

    with tempfile.TemporaryDirectory(dir=out, prefix=".openvino-") as temporary:
        folder = Path(temporary)
        onnx = write_model(deployable, folder / "model.onnx")
        xml = folder / "model.xml"
        characters = deployable.source.characters
        try:
            model = openvino.Core().read_model(onnx)  # convert_model would change the graph that was measured
            if characters is not None:
                model.set_rt_info("\n".join(characters), KEY)
            openvino.save_model(model, xml, compress_to_fp16=False)
        except RuntimeError as error:
            raise EngineError(f"{deployable.source.path}: OpenVINO cannot convert it: {error}") from error
        before, after = (open_session(path, "openvino", THREADS) for path in (onnx, xml))
        verify = verify_rec if deployable.source.task == "rec" else verify_det
        verification = verify(before.run, after, batches)
        verification.check()
        if characters is not None and read_characters(xml) != characters:
            raise VerifyError(
                f"{deployable.source.path}: OpenVINO's IR does not keep its dictionary; use the ONNX file"
            )
        written = [out / name for name in ("model.bin", "model.xml")]  # the one that is looked for comes last
        for path in written:
            shutil.copyfile(folder / path.name, folder / f"{path.name}.done")
            os.replace(folder / f"{path.name}.done", path)
    return written[1], written[0], verification


def read_characters(xml: Path) -> tuple[str, ...] | None:
    """Return the dictionary in OpenVINO's IR; ``None`` where there is none."""
    import openvino

    model = openvino.Core().read_model(xml)
    if not model.has_rt_info(KEY):
        return None
    value = model.get_rt_info(KEY)
    text = getattr(value, "value", value)
    return tuple(str(text).split("\n"))
