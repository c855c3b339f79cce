"""How many texts a recogniser reads otherwise after each way of calibration, in the engine that it is made for.

Held-back lines tell what a loss in points cannot: on 1,600 lines that is known to half a point, while the number of
texts that changed is known to a tenth. Nothing is trained here, no operator is made float, and the ranges of values
that no int8 operator reads stay percentiles, which ``ocrslim compress`` may better.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from recognisers import print_rows
from torch import Tensor

from ocrslim.config.profile import load_profile
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.engines.targets import get_target
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ocr.ctc import Charset
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import prepare
from ocrslim.slimming.training.data import calibration_batches, compared_batches, open_training_data

OBSERVERS = ("minmax", "percentile", "output")
HEADINGS = ("model", "observer", "scales", "texts changed", "lines")


def rows(source: ModelSource, target_name: str, data: Path, lines: int) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each way.

    Args:
        source: a recogniser.
        target_name: what for.
        data: label file, folder or LMDB; its held-back part is read.
        lines: of that, at most.
    """
    target, profile = get_target(target_name), load_profile(None, source.inference_yml)
    charset = Charset.from_source(source)
    opened = open_training_data("rec", data, None, source.characters or (), 0)
    calibration = calibration_batches(opened, profile, 0)
    held = compared_batches(opened, profile, 0, lines)
    graph = canonicalize(load_onnx(source.path))
    placement = place(graph, target)
    truth = texts(charset, open_session(source.path, target.engine), held)
    ways: list[Mapping[str, Tensor]] = [{}]
    if target.channel_scales:
        ways.append(find_factors(GraphModule(graph), placement, target.activation, calibration))
    samples: Mapping[str, Tensor] | None = None
    for factors in ways:
        for observer in OBSERVERS:
            quantization = prepare(GraphModule(graph).eval(), placement, target, factors=factors)
            samples = calibrate_fully(quantization, calibration, observer, 0, samples)
            quantization.freeze()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export_qdq(quantization, path)
                answers = texts(charset, open_session(path, target.engine), held)
            changed = sum(mine != its for mine, its in zip(answers, truth, strict=True))
            scales = "of each channel" if factors else "one"
            yield source.name, observer, scales, str(changed), str(len(truth))


def texts(charset: Charset, session: InferenceSession, batches: Sequence[Tensor]) -> list[str]:
    """Return the text that each line is read as."""
    return [charset.decode(line)[0] for batch in batches for line in session.run(batch.numpy())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="recognisers")
    parser.add_argument("--target", default="openvino", metavar="T", help="default: %(default)s")
    parser.add_argument("--data", type=Path, required=True, metavar="LABELS", help="lines; labels are not looked at")
    parser.add_argument("--lines", type=int, default=1600, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)

    def of(source: ModelSource) -> Iterator[tuple[str, ...]]:
        return rows(source, options.target, options.data, options.lines)

    with torch.no_grad():
        if not print_rows("calibration.py", options.models, HEADINGS, of):
            return 2
    engine = get_target(options.target).engine
    print(f"\n{cpu_info().model}, {engine} {versions().get(engine)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
