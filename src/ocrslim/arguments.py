"""What the command line takes: the parser of all subcommands and their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from ocrslim import __version__
from ocrslim.engines.session import ENGINES, PADDLE_ENGINES
from ocrslim.engines.targets import TARGETS

__all__ = ["build_parser"]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="ocrslim", description="Small, fast PP-OCR models, measured on your engine.")
    parser.add_argument("--version", action="version", version=f"ocrslim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_eval(commands)
    _add_bench(commands)
    _add_export(commands)
    _add_models(commands)
    inspect = commands.add_parser("inspect", help="what a model consists of")
    inspect.add_argument("model", metavar="MODEL", help="official name, ONNX file or folder")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    demo = commands.add_parser("demo", help="compress a real model on rendered text, from nothing, in minutes")
    demo.add_argument("--out", type=Path, default=Path("ocrslim-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    return parser


def _add_compress(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("compress", help="make an int8 model for one engine and measure it there")
    parser.add_argument("model", metavar="MODEL", help="official name, ONNX file or folder")
    parser.add_argument(
        "--data", type=Path, metavar="LABELS|FOLDER", help="images to learn from; without it, rendered text"
    )
    parser.add_argument(
        "--eval", type=Path, metavar="LABELS", help="images to judge by; without it, a held-back part of --data"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="what image paths in label files are relative to")
    parser.add_argument("--target", required=True, choices=TARGETS, help="the engine that will run the model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=_natural, metavar="N", help="training steps; default: 100 for rec, 60 for det")
    parser.add_argument("--ptq-only", action="store_true", help="calibrate only, no training")
    parser.add_argument(
        "--max-drop",
        type=_share,
        default=0.3,
        metavar="POINTS",
        help="accuracy or hmean that may be lost, in points; the climb ends where it holds; default: %(default)s",
    )
    parser.add_argument(
        "--effort", choices=("quick", "normal", "max"), default="normal", help="how far to climb; default: %(default)s"
    )
    parser.add_argument("--max-minutes", type=float, metavar="N", help="start no further rung after N minutes")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--profile", metavar="NAME", help="pre- and post-processing; see eval")
    parser.add_argument(
        "--observer",
        default="output",
        choices=("output", "minmax", "moving_average", "percentile", "mse"),
        help="of activation ranges; default: %(default)s",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=5e-5,
        metavar="X",
        help="change of a weight in a step, as a share of its tensor's size; default: %(default)s",
    )


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("eval", help="score a model on labelled images")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="official name, ONNX file or folder")
    parser.add_argument("--data", type=Path, metavar="LABELS", help="PaddleOCR label file or LMDB")
    _add_config_path(parser, "model, data, profile and metric")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="what image paths in the label file are relative to"
    )
    parser.add_argument("--task", choices=("det", "rec"), help="default: the model's")
    parser.add_argument(
        "--engine", default="openvino", choices=(*ENGINES, *PADDLE_ENGINES), help="default: %(default)s"
    )
    parser.add_argument(
        "--profile",
        choices=("example", "model", "paddleocr", "rapidocr"),
        help="default: the model's inference.yml, else example",
    )
    parser.add_argument("--loose", action="store_true", help="also score with NFKC, case and spaces folded")
    parser.add_argument(
        "--rec-width",
        default="dynamic",
        choices=("dynamic", "fixed"),
        help="line width as deployed, or PaddleOCR's fixed evaluation width; default: %(default)s",
    )
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_config_path(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        *("--config_path", "--config-path"),
        type=Path,
        metavar="YAML",
        help=f"a file of the PaddleSlim OCR example, in place of {what}",
    )


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="time models against each other, interleaved")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="official name, ONNX file or folder")
    engines = (*ENGINES, *PADDLE_ENGINES)
    parser.add_argument("--engine", nargs="+", default=["openvino"], choices=engines, help="default: openvino")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=_positive, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--shape", type=_shape, metavar="HxW", help="default: 48x320 for rec, 640x640 for det")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="write a compressed model in another engine's format")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what compress wrote")
    parser.add_argument("--to", required=True, choices=("paddle", "paddle-lite"), help="the format")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="MODEL",
        help="the Paddle model that was compressed; default: as result.json says",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder itself")
    parser.add_argument("--float", action="store_true", help="the float model with the trained weights")
    parser.add_argument(
        "--valid-targets", default="arm", choices=("arm", "x86"), help="processor for paddle-lite; default: %(default)s"
    )


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list or fetch the official models")
    parser.add_argument(
        "action", nargs="?", default="list", choices=("list", "pull", "path"), help="default: %(default)s"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="official name, for pull and path")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _shape(text: str) -> tuple[int, int]:
    height, cross, width = text.lower().partition("x")
    if not cross or not height.isdigit() or not width.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not HxW, for instance 48x320")
    return int(height), int(width)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a number of points between 0 and 100")
    return value
