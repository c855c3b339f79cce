"""Read images with PaddleOCR or RapidOCR as they come from PyPI; run by ``dropin.py`` in an environment of its own.

    python dropin_reader.py paddleocr|rapidocr DET REC IMAGES OUT ENGINE THREADS

``DET`` and ``REC`` are folders of ``ocrslim export``; ``IMAGES`` holds a path a line; ``OUT`` becomes JSON: the texts
and the seconds of each image, loading apart. ``ENGINE`` is onnxruntime or openvino; ``THREADS`` 0 is the tool's own
choice. Nothing of ocrslim is imported here.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

Reader = Callable[[str], list[str]]


def main(arguments: list[str]) -> None:
    """Load, read and write; the first image is read twice, so that what a first run does once is not timed."""
    tool, det, rec, images, out, engine, threads = arguments
    paths = Path(images).read_text(encoding="utf-8").splitlines()
    start = time.perf_counter()
    read = {"paddleocr": paddleocr, "rapidocr": rapidocr}[tool](Path(det), Path(rec), engine, int(threads))
    loading = time.perf_counter() - start
    read(paths[0])
    texts, seconds = [], []
    for path in paths:
        start = time.perf_counter()
        texts.append(read(path))
        seconds.append(time.perf_counter() - start)
    result = {"version": importlib.metadata.version(tool), "loading": loading, "texts": texts, "seconds": seconds}
    Path(out).write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


def paddleocr(det: Path, rec: Path, engine: str, threads: int) -> Reader:
    """As the folders' READMEs say; the models that PaddleOCR would fetch for turned pages are off."""
    import yaml
    from paddleocr import PaddleOCR

    def name(folder: Path) -> str:
        config = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
        return str(config["Global"]["model_name"])

    ocr = PaddleOCR(
        text_detection_model_name=name(det),
        text_detection_model_dir=str(det),
        text_recognition_model_name=name(rec),
        text_recognition_model_dir=str(rec),
        engine=engine,
        engine_config={"intra_op_num_threads": threads} if threads else None,
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
    )
    return lambda path: list(ocr.predict(path)[0]["rec_texts"])


def rapidocr(det: Path, rec: Path, engine: str, threads: int) -> Reader:
    """As the folders' READMEs say; without the classifier of turned lines, which is no model of ours."""
    from rapidocr import EngineType, RapidOCR

    params: dict[str, Any] = {"Global.use_cls": False, "Global.log_level": "error"}
    for section, folder in (("Det", det), ("Rec", rec)):
        xml = folder / "model.xml"
        params[f"{section}.model_path"] = str(xml if xml.is_file() else folder / "model.onnx")
        params[f"{section}.engine_type"] = EngineType(engine)
    if threads:
        params["EngineConfig.onnxruntime.intra_op_num_threads"] = threads
        params["EngineConfig.openvino.inference_num_threads"] = threads
    ocr = RapidOCR(params=params)
    return lambda path: list(ocr(path).txts or ())


if __name__ == "__main__":
    main(sys.argv[1:])
