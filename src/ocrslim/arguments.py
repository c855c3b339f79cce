"""What the command line takes: the parser of all subcommands and their options."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ocrslim import __version__
from ocrslim.engines.session import ENGINES, PADDLE_ENGINES
from ocrslim.engines.targets import PLACEMENTS, TARGETS

__all__ = ["build_parser"]

EXPORTS = ("paddle", "paddle-lite", "paddleocr", "rapidocr", "openvino", "onnx", "tensorrt")
OBSERVERS = ("output", "minmax", "moving_average", "percentile", "mse")
USUAL_ENGINE = "the one that an int8 model was made for, by its result.json, else openvino"
SHELLS = ("bash", "zsh", "fish")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="ocrslim", description="Small, fast PP-OCR models, measured on your engine.")
    parser.add_argument("--version", action="version", version=f"ocrslim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_prune(commands)
    _add_eval(commands)
    _add_predict(commands)
    _add_bench(commands)
    _add_sensitivity(commands)
    _add_export(commands)
    _add_models(commands)
    _add_report(commands)
    inspect = commands.add_parser("inspect", help="what a model consists of")
    inspect.add_argument("model", metavar="MODEL", help="official name, ONNX file or folder")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    doctor = commands.add_parser("doctor", help="this CPU, the engines, and what to expect from int8 here")
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout")
    completion = commands.add_parser("completion", help="a script that completes commands and options in your shell")
    completion.add_argument("shell", choices=SHELLS, help='bash: eval "$(ocrslim completion bash)"')
    demo = commands.add_parser("demo", help="compress a real model on rendered text, from nothing, in minutes")
    demo.add_argument("--out", type=Path, default=Path("ocrslim-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    return parser


def _add_compress(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("compress", help="make an int8 model for one engine and measure it there")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="official name, ONNX or Paddle file or folder")
    _add_config_path(parser, "model, data, losses and schedule; options go before what it says")
    _add_dict(parser)
    parser.add_argument(
        "--data", type=Path, metavar="LABELS|FOLDER", help="images to learn from; without it, rendered text"
    )
    parser.add_argument(
        "--eval", type=Path, metavar="LABELS", help="images to judge by; without it, a held-back part of --data"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="what image paths in label files are relative to")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        help="the engine that will run the model; with --config_path: paddle for a .pdmodel, else onnxruntime",
    )
    parser.add_argument(
        *("--out", "--save_dir", "--save-dir"), type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    _add_resume(parser)
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=_natural, metavar="N", help="training steps; default: 200 for rec, 100 for det")
    parser.add_argument(
        "--float", action="store_true", help="no int8: only write the float model as its engine runs it fastest"
    )
    _add_timed(
        parser,
        "of the images that models are timed at, as yours mostly are; default: 48x320 for rec, 640x640 for det; with"
        " --float: of every image, one at a time, which the file then takes alone; default: open",
    )
    parser.add_argument("--ptq-only", action="store_true", help="calibrate only, no training")
    parser.add_argument(
        "--max-drop",
        type=_share,
        metavar="POINTS",
        help="accuracy or hmean that may be lost, in points; the climb ends where it holds; default: 0.3",
    )
    parser.add_argument(
        "--speedup",
        type=float,
        metavar="S",
        help="times as fast as the float model: channels are cut and the rest trained where int8 alone is not so fast",
    )
    parser.add_argument("--effort", choices=("quick", "normal", "max"), help="how far to climb; default: normal")
    parser.add_argument(
        "--placement",
        choices=PLACEMENTS,
        help="where int8 goes: measured asks this machine's clock, policy takes what usually pays, largest only the"
        " operators that hold half of the work, which answers most like float; default: measured, but policy with"
        " --effort quick",
    )
    parser.add_argument("--max-minutes", type=float, metavar="N", help="start no further rung after N minutes")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--profile", metavar="NAME", help="pre- and post-processing; see eval")
    parser.add_argument("--observer", choices=OBSERVERS, help="of activation ranges; default: output")
    parser.add_argument(
        "--learning-rate",
        type=_rate,
        metavar="X",
        help="change of a bias or scale in a step, as a share of its size; default: 1e-4, for det with labels 5e-4",
    )
    parser.add_argument(
        "--label-ratio",
        type=_weight,
        metavar="X",
        help="weight of the labels beside the float model; 0 learns from the float model alone; default: 0.5",
    )
    parser.add_argument(
        "--devices",
        type=_positive,
        default=1,
        metavar="N",
        help="processes of this machine that train together, each with its own GPU or --threads; default: %(default)s",
    )
    _add_compute(parser)


def _add_compute(parser: argparse.ArgumentParser) -> None:
    """Add what a training runs on."""
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="auto", help="default: %(default)s")
    parser.add_argument(
        "--amp",
        choices=("auto", "bf16", "fp16", "off"),
        default="auto",
        help="type of products in training; default: auto, a half type on a GPU and none on a CPU",
    )
    parser.add_argument(
        "--accumulate", type=_positive, default=1, metavar="N", help="batches that make a step; default: %(default)s"
    )
    parser.add_argument(
        "--clip-norm", type=_weight, metavar="X", help="bound of the gradient's norm; 0 for none; default: 1"
    )
    parser.add_argument(
        *("--no-scale-lr",),
        dest="scale_lr",
        action="store_false",
        help="leave the learning rate as it is, however many batches make a step",
    )


def _add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", action="store_true", help="go on with the unfinished run in --out, as is done anyway, or not at all"
    )


def _add_prune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("prune", help="cut channels until a float model is as fast as you ask, and train it")
    parser.add_argument("model", metavar="MODEL", help="official name, ONNX or Paddle file or folder")
    parser.add_argument("--data", type=Path, metavar="LABELS|FOLDER", help="see compress")
    parser.add_argument("--eval", type=Path, metavar="LABELS", help="see compress")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="what image paths in label files are relative to")
    parser.add_argument("--target", required=True, choices=ENGINES, help="the engine whose clock decides")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    _add_resume(parser)
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--speedup", type=float, metavar="S", help="times as fast as the float model, such as 1.3")
    goal.add_argument(
        "--ratio", type=float, metavar="R", help="share of the multiplications to remove, whatever the clock says"
    )
    parser.add_argument(
        "--steps", type=_natural, metavar="N", help="training steps; default: 5000 for rec, 800 for det"
    )
    parser.add_argument("--align", type=_positive, default=8, metavar="N", help="of widths; default: %(default)s")
    parser.add_argument(
        "--importance", choices=("taylor", "l1"), default="taylor", help="of channels; default: %(default)s"
    )
    parser.add_argument(
        "--learning-rate", type=_rate, metavar="X", help="see compress; default: 1e-3 for rec, 5e-5 for det"
    )
    parser.add_argument(
        "--label-ratio", type=_weight, metavar="X", help="weight of labels for a recogniser; see compress"
    )
    _add_timed(parser, "of the images that models are timed at; see compress")
    _add_dict(parser)
    parser.add_argument("--profile", metavar="NAME", help="pre- and post-processing; see eval")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    _add_compute(parser)


def _add_timed(parser: argparse.ArgumentParser, shape: str) -> None:
    parser.add_argument("--shape", type=_shape, metavar="HxW", help=shape)
    parser.add_argument("--batch", type=_positive, metavar="N", help="images of a run that is timed; default: 1")


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("eval", help="score a model on labelled images")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="official name, ONNX file or folder")
    parser.add_argument("--data", type=Path, metavar="LABELS", help="PaddleOCR label file or LMDB")
    _add_config_path(parser, "model, data, profile and metric")
    _add_dict(parser)
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="what image paths in the label file are relative to"
    )
    parser.add_argument("--task", choices=("det", "rec"), help="default: the model's")
    parser.add_argument("--end-to-end", action="store_true", help="score boxes and their texts together, by a pair")
    parser.add_argument("--det", metavar="MODEL", help="for --end-to-end: the detector")
    parser.add_argument("--rec", metavar="MODEL", help="for --end-to-end: the recogniser")
    parser.add_argument(
        "--drop-score",
        type=float,
        metavar="P",
        help="for --end-to-end: lines read with less confidence are left out; default: 0.5",
    )
    _add_engine(parser)
    parser.add_argument("--loose", action="store_true", help="also score with NFKC, case and spaces folded")
    parser.add_argument(
        "--rec-width",
        default="dynamic",
        choices=("dynamic", "padded", "fixed"),
        help="each line's own width, that in whole 32 pixels, or PaddleOCR's fixed one; default: %(default)s",
    )
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("predict", help="read images, folders and PDF files with a det and a rec model")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IMAGE|FOLDER|PDF", help="what to read")
    parser.add_argument("--det", required=True, metavar="MODEL", help="detector: official name, file or folder")
    parser.add_argument("--rec", required=True, metavar="MODEL", help="recogniser: the same")
    _add_dict(parser)
    _add_engine(parser)
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="read with another pair too and mark where they differ: `float` for the models that these were"
        " compressed from, or DET REC",
    )
    parser.add_argument("--drop-score", type=float, default=0.5, metavar="P", help="default: %(default)s")
    parser.add_argument("--dpi", type=_positive, default=200, metavar="N", help="of PDF pages; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write predict.json and a picture of each page there")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=(*ENGINES, *PADDLE_ENGINES), help=f"default: {USUAL_ENGINE}")
    parser.add_argument(
        "--profile",
        choices=("example", "model", "paddleocr", "rapidocr"),
        help="default: the model's inference.yml, else example",
    )


def _add_config_path(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        *("--config_path", "--config-path"),
        type=Path,
        metavar="YAML",
        help=f"a file of the PaddleSlim OCR example, in place of {what}",
    )


def _add_dict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dict", type=Path, metavar="FILE", help="characters of a recogniser that comes without, one a line"
    )


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="time models against each other, interleaved")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="official name, ONNX file or folder")
    engines = (*ENGINES, *PADDLE_ENGINES)
    parser.add_argument("--engine", nargs="+", choices=engines, help=f"default: {USUAL_ENGINE}")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=_positive, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--shape", type=_shape, metavar="HxW", help="default: 48x320 for rec, 640x640 for det")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_sensitivity(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("sensitivity", help="which operators cost a model its accuracy in int8")
    parser.add_argument("model", metavar="MODEL", help="official name, ONNX or Paddle file or folder")
    parser.add_argument("--data", type=Path, metavar="LABELS|FOLDER", help="images; without it, rendered text")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="what image paths in label files are relative to")
    _add_dict(parser)
    parser.add_argument("--target", required=True, choices=TARGETS, help="the engine that will run the model")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write sensitivity.json, .csv and .svg there")
    parser.add_argument("--profile", metavar="NAME", help="pre-processing; see eval")
    parser.add_argument("--observer", default="output", choices=OBSERVERS, help="see compress; default: %(default)s")
    parser.add_argument("--images", type=_positive, metavar="N", help="to measure on; default: 48 lines or 2 pages")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="write a model as a folder that other software loads as it is")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what compress wrote; or a float model")
    parser.add_argument("--to", required=True, choices=EXPORTS, help="the format")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="MODEL",
        help="the Paddle model that was compressed; default: as result.json says",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: DIR itself for paddle, else DIR/FORMAT")
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


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("report", help="a page with pictures of what a run measured, or of several")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="what compress or prune wrote")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in DIR; of several, in the current folder"
    )
    parser.add_argument(
        "--lang", default="en", choices=("en", "zh"), help="what it opens in; it is in both; default: %(default)s"
    )


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


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no weight; give a number from 0 on")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no learning rate; give a number above 0, such as 1e-4")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a number of points between 0 and 100")
    return value
