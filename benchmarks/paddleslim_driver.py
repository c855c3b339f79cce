"""PaddleSlim's side of ``vs_paddleslim.py``: runs in PaddleSlim's own environment, with nothing of ocrslim.

    python paddleslim_driver.py compress SETTINGS.json      AutoCompression: quantization-aware training, distillation
    python paddleslim_driver.py serve MODEL THREADS         run a model in Paddle Inference for the scorer

``serve`` reads batches on stdin and answers on stdout, see :mod:`wire`; it ends with its stdin.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stopwatch import Stopwatch
from wire import read_array, write_array

PROGRAM, PARAMETERS = "inference.pdmodel", "inference.pdiparams"
# Fuses the recognisers' attention for AVX-512 and ends the process with SIGILL on CPUs that have none.
UNSAFE_PASS = "self_attention_fuse_pass"


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says."""
    if arguments[:1] == ["compress"]:
        settings = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
        _compress(settings)
    elif arguments[:1] == ["serve"]:
        _serve(Path(arguments[1]), int(arguments[2]))
    else:
        sys.stderr.write("paddleslim_driver.py: compress SETTINGS.json | serve MODEL THREADS\n")
        return 2
    return 0


def _compress(settings: dict[str, Any]) -> None:
    """Compress as the OCR example of PaddleSlim does, on batches that are made already."""
    watch = Stopwatch(Path(settings["marks"]))
    import paddle
    from paddleslim.auto_compression import AutoCompression

    paddle.enable_static()
    model, batches = Path(settings["model"]), sorted(Path(settings["batches"]).glob("*.npy"))
    name, softmax = _ends(paddle, model)
    config = settings["config"]
    if isinstance(config["Distillation"]["loss"], list) and not config["Distillation"].get("node"):
        config["Distillation"]["node"] = [[softmax] for _ in config["Distillation"]["loss"]]

    def loader() -> Iterator[dict[str, Any]]:
        yield from watch.timed({name: np.load(file)} for file in batches)

    compression = AutoCompression(
        model_dir=str(model),
        model_filename=PROGRAM,
        params_filename=PARAMETERS,
        save_dir=settings["out"],
        config=config,
        train_dataloader=loader,
        eval_callback=None,
    )
    compression.compress()
    watch.mark("done", version=paddle.__version__)


def _ends(paddle: Any, model: Path) -> tuple[str, str]:
    """Return the name of the input, and of what the last Softmax reads; "" where the model has none."""
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, feeds, _ = paddle.static.load_inference_model(str(model / "inference"), executor)
    read = [op.input("X")[0] for op in program.global_block().ops if op.type == "softmax"]
    return feeds[0], read[-1] if read else ""


def _serve(model: Path, threads: int) -> None:
    """Answer batches until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the libraries print must not mix with the answers
    from paddle import inference

    config = inference.Config(str(model / PROGRAM), str(model / PARAMETERS))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_memory_optim()
    config.set_cpu_math_library_num_threads(threads)
    config.delete_pass(UNSAFE_PASS)
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(20)
    predictor = inference.create_predictor(config)
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    made = predictor.get_output_handle(predictor.get_output_names()[0])
    while (batch := read_array(sys.stdin.buffer)) is not None:
        given.reshape(batch.shape)
        given.copy_from_cpu(batch)
        predictor.run()
        write_array(answers, made.copy_to_cpu())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
