"""How many numbers learn in each of the official models, and so what an all-reduce sends.

python benchmarks/learnt_sizes.py
"""

from __future__ import annotations

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.zoo import MODELS, pull
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import scales_and_biases
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import prepare


def main() -> None:
    """Print a table in Markdown."""
    target = get_target("openvino")
    print("| model | numbers | kB in f32 |\n|---|---:|---:|")
    for name in MODELS:
        graph = canonicalize(load_onnx(pull(name) / "inference.onnx"))
        groups = scales_and_biases(prepare(GraphModule(graph).eval(), place(graph, target), target))
        count = sum(parameter.numel() for group in groups for parameter in group.parameters)
        print(f"| {name} | {count} | {4 * count / 1000:.0f} |")


if __name__ == "__main__":
    main()
