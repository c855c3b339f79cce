"""What labels teach a recogniser's last layer, set by set: taught by all sets, and by all others but that one.

The first says what a user gains on lines like those that were labelled, the second what it costs on lines of a kind
that was not among them. Float models; held-back lines of ``--data``, and the lines of ``--eval`` where it is given.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

from recognisers import print_rows
from torch import Tensor

from ocrslim.config.profile import RecProfile, load_profile
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.session import InferenceSession
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import RecSample, read_samples
from ocrslim.slimming.training.data import open_training_data
from ocrslim.slimming.training.last_layer import LastLayer, fit_last_layer
from ocrslim.teaching import as_lines, gains, last_layer, open_features, other_text, read_features

HEADINGS = ("model", "set", "lines", "all sets teach", "folded", "all others teach", "folded")
ALL = "all"

Read = list[tuple[RecSample, Tensor]]


def rows(source: ModelSource, data: Path, evaluate: Path | None, threads: int) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for all sets together and for each.

    Args:
        source: a recogniser.
        data: label file; a part of it teaches, the rest is read.
        evaluate: another label file, whose lines are read too.
        threads: of the engine.
    """
    profile, charset = load_profile(None, source.inference_yml).rec, Charset.from_source(source)
    opened = open_training_data("rec", data, None, source.characters or (), 0)
    graph = canonicalize(load_onnx(source.path))
    before = last_layer(graph)
    held = cast("Sequence[RecSample]", opened.held_samples)
    if evaluate is not None:
        held = [*held, *cast("Sequence[RecSample]", read_samples("rec", evaluate, None)[0])]
    with tempfile.TemporaryDirectory() as folder:
        session = open_features(graph, Path(folder) / "features.onnx", threads)
        taught = _read(session, cast("Sequence[RecSample]", opened.train_samples), profile)
        others = other_text(session, source.characters or (), profile, 0)
        read = _read(session, held, profile)

    def fit(chosen: Callable[[str], bool]) -> LastLayer:
        lines = as_lines((item for item in taught if chosen(item[0].set_name)), charset)
        return fit_last_layer(before, lines, others, 0)

    together = fit(lambda name: True)
    yield source.name, ALL, str(len(read)), *_words(gains(before, together, read, charset)), "", ""
    for name in sorted({sample.set_name for sample, _ in read}):
        part = [item for item in read if item[0].set_name == name]
        without = fit(lambda other, left=name: other != left)  # type: ignore[misc]
        yield (
            *(source.name, name, str(len(part))),
            *_words(gains(before, together, part, charset)),
            *_words(gains(before, without, part, charset)),
        )


def _read(session: InferenceSession, samples: Sequence[RecSample], profile: RecProfile) -> Read:
    return list(read_features(session, samples, profile, {}, lambda *_: None))


def _words(points: tuple[float, float, float]) -> tuple[str, str]:
    return f"{points[0]:+.2f}", f"{points[1]:+.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="recognisers")
    parser.add_argument("--data", type=Path, required=True, metavar="LABELS", help="labelled lines")
    parser.add_argument("--eval", type=Path, metavar="LABELS", help="more lines to read")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)

    def of(source: ModelSource) -> Iterator[tuple[str, ...]]:
        return rows(source, options.data, options.eval, options.threads)

    if not print_rows("last_layer.py", options.models, HEADINGS, of):
        return 2
    print(f"\n{cpu_info().model}, onnxruntime {versions().get('onnxruntime')}; points of accuracy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
