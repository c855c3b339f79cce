"""The options that models are run and timed with, so that whoever deploys one can set the same."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Options", "session_options"]

Options = Mapping[str, str | int]

# Kernels that OpenVINO compiled for a shape are kept for when it comes again. By default 5000 are: after 200 text lines
# of different widths PP-OCRv4 rec then held 980 MB, against 340 MB with this many, and ran no faster for it.
KERNELS_KEPT = 200


def session_options(engine: str, threads: int) -> Options:
    """Return option -> value, by the names of the engine's own interface; nothing for engines that have none here.

    ``benchmarks/session_options.py`` times others beside them.

    Args:
        engine: ``onnxruntime``: attributes of ``SessionOptions``, enumerators by their name, and with a dot in the name
            entries of its configuration. Worker threads stop spinning when a run ends: otherwise they take the cores
            from whatever runs next, and sessions that are timed in turns slow each other down. ``openvino``: properties
            of ``compile_model``: one stream that uses all threads (the latency hint), and float parts in float32 also
            where the CPU would rather use bfloat16 or float16, which changes answers.
        threads: that a run may use.

    >>> session_options("onnxruntime", 4)["intra_op_num_threads"]
    4
    """
    if engine == "onnxruntime":
        return {
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "execution_mode": "ORT_SEQUENTIAL",
            "intra_op_num_threads": threads,
            "inter_op_num_threads": 1,
            "session.force_spinning_stop": 1,
        }
    if engine == "openvino":
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
    return {}
