"""The scripts in a folder for TensorRT, which a user with the GPU runs; they need nothing of ours."""

from __future__ import annotations

__all__ = ["build_script", "run_script"]

_BUILD = """\
#!/usr/bin/env bash
# Build a TensorRT engine of model.onnx and time it. Not run where this folder was made: there was no GPU.
# Needs trtexec, which comes with TensorRT (apt: libnvinfer-bin; container: nvcr.io/nvidia/tensorrt).
set -euo pipefail
cd "$(dirname "$0")"

# TensorRT 10 and newer take the precision from the Q/DQ nodes (strong typing); what has none stays float32.
# On TensorRT 8 and 9, or to let float parts run in float16: TRTEXEC_FLAGS="--int8 --fp16" ./build.sh
flags=(${{TRTEXEC_FLAGS:---stronglyTyped}})

trtexec --onnx=model.onnx --saveEngine=model.plan "${{flags[@]}}" \\
  --minShapes={name}:{least} --optShapes={name}:{usual} --maxShapes={name}:{largest} \\
  --profilingVerbosity=detailed --exportLayerInfo=layers.json --shapes={name}:{usual} "$@"
echo "Which layers run in int8: grep -i int8 layers.json"
"""

_RUN = '''\
"""Run model.onnx in ONNX Runtime on the GPU (TensorRT, else CUDA) and on the CPU, compare the answers, time both.

Not run where this folder was made: there was no GPU. Needs: pip install onnxruntime-gpu numpy; TensorRT's libraries.
Usage: python run.py [HxW]
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

MODEL = str(Path(__file__).resolve().parent / "model.onnx")
NAME = "{name}"
LEAST, USUAL, LARGEST = "{least}", "{usual}", "{largest}"
RUNS = 50

shape = [int(size) for size in USUAL.split("x")]
if len(sys.argv) > 1:
    shape[2:] = [int(size) for size in sys.argv[1].lower().split("x")]
batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

tensorrt = {{
    "trt_int8_enable": True,  # the Q/DQ nodes say where
    "trt_fp16_enable": True,  # of what has none
    "trt_engine_cache_enable": True,
    "trt_engine_cache_path": str(Path(MODEL).parent / "cache"),
    "trt_profile_min_shapes": f"{{NAME}}:{{LEAST}}",
    "trt_profile_opt_shapes": f"{{NAME}}:{{USUAL}}",
    "trt_profile_max_shapes": f"{{NAME}}:{{LARGEST}}",
}}
available = onnxruntime.get_available_providers()
wanted = [("TensorrtExecutionProvider", tensorrt), "CUDAExecutionProvider", "CPUExecutionProvider"]
gpu = [item for item in wanted if (item if isinstance(item, str) else item[0]) in available]
if len(gpu) == 1:
    print("There is no GPU provider in this onnxruntime; both columns are the CPU's. Install onnxruntime-gpu.")


def run(providers):
    """Return the answer and the median time of a run in milliseconds."""
    session = onnxruntime.InferenceSession(MODEL, providers=providers)
    print("providers:", ", ".join(session.get_providers()))
    answer = session.run(None, {{NAME: batch}})[0]  # builds the engine: minutes at the first time
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, {{NAME: batch}})  # returns when the answer is on the host
        times.append(time.perf_counter() - start)
    return answer, 1000 * float(np.median(times))


on_cpu, cpu_ms = run(["CPUExecutionProvider"])
on_gpu, gpu_ms = run(gpu)
if on_cpu.ndim == 3:
    print(f"frames with the same class: {{(on_cpu.argmax(-1) == on_gpu.argmax(-1)).mean():.4f}}")
else:
    both, either = ((on_cpu > 0.3) & (on_gpu > 0.3)).sum(), ((on_cpu > 0.3) | (on_gpu > 0.3)).sum()
    print(f"masks of text, intersection over union: {{both / max(either, 1):.4f}}")
print(f"input {{'x'.join(map(str, shape))}}: CPU {{cpu_ms:.2f}} ms, GPU {{gpu_ms:.2f}} ms")
'''


def build_script(name: str, shapes: tuple[str, str, str]) -> str:
    """Return a shell script that has ``trtexec`` build and time an engine.

    Args:
        name: of the model's input.
        shapes: the least, the usual and the largest one, as ``1x3x48x320``.
    """
    least, usual, largest = shapes
    return _BUILD.format(name=name, least=least, usual=usual, largest=largest)


def run_script(name: str, shapes: tuple[str, str, str]) -> str:
    """Return a Python program that compares ONNX Runtime's TensorRT provider with the CPU; arguments as above."""
    least, usual, largest = shapes
    return _RUN.format(name=name, least=least, usual=usual, largest=largest)
