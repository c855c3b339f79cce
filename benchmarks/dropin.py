"""Do PaddleOCR and RapidOCR, as they come from PyPI, read the same with our int8 folders as with their float models?

    python benchmarks/dropin.py --pair DET REC [--pair DET REC ...] --data LABELS --out DIR

``DET`` and ``REC`` are folders that ``ocrslim compress`` wrote. Each tool gets a virtual environment under
``--envs``, made at the first run (some 2 GB with paddlepaddle). See README.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.machine import OtherLoad
from ocrslim.errors import EngineError, InputError, OcrslimError
from ocrslim.export.deploy import export_bundle
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.metrics.recognition import edit_distance
from ocrslim.report.result import write_json, write_text

__all__ = ["TOOLS", "Row", "alike", "main", "markdown"]

READER = Path(__file__).resolve().with_name("dropin_reader.py")
# What a user would install; onnxruntime and paddlepaddle are what PaddleOCR leaves to them.
TOOLS = {
    "paddleocr": ("paddleocr==3.7.0", "paddlepaddle==3.2.2", "onnxruntime==1.32.0"),
    "rapidocr": ("rapidocr==3.10.0", "onnxruntime==1.32.0", "openvino==2026.4.1"),
}
ASKED = 0.98  # of the characters
WAIT = 3600  # seconds of one reader
SAID = 300  # characters of a tool's last words


@dataclass(frozen=True)
class Row:
    """One tool with one pair of models.

    Args:
        tool: and its version.
        pair: names of the models.
        target: that the int8 models were made for.
        images: that were read.
        characters: that the float pair read.
        alike: 1 - edits / characters of the longer text, pooled over the pages.
        float_seconds: wall time of all images with the float pair, models loaded.
        int8_seconds: the same with ours.
        other_load: cores that other programs kept busy meanwhile; ``None`` where that is not known.
    """

    tool: str
    pair: str
    target: str
    images: int
    characters: int
    alike: float
    float_seconds: float
    int8_seconds: float
    other_load: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 0 all alike, 1 not, 2 a mistake in the input."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=options.json)
    try:
        paths = images(options.data, options.images)
        rows = _rows(options, paths, console)
    except OcrslimError as error:
        sys.stderr.write(f"dropin.py: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, InputError) else 1
    data = {"rows": [asdict(row) for row in rows], "asked": ASKED, "cpu": asdict(cpu_info())}
    write_json(options.out / "dropin.json", data)
    write_text(options.out / "dropin.md", markdown(rows))
    if options.json:
        print(json.dumps(data, ensure_ascii=False))
    else:
        print(markdown(rows), end="")
    return 0 if all(row.alike >= ASKED for row in rows) else 1


def alike(ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]) -> tuple[float, int]:
    """Return the share of characters that two readings have in common, and how many characters the second has.

    Args:
        ours: lines of each page, in the order that the tool gives.
        theirs: the same of the same pages.

    >>> alike([["abc", "d"]], [["abd", "d"]])
    (0.75, 4)
    """
    edits = longest = 0
    for mine, other in zip(ours, theirs, strict=True):
        mine_text, other_text = "".join(mine), "".join(other)
        edits += edit_distance(mine_text, other_text)
        longest += max(len(mine_text), len(other_text))
    return (1 - edits / longest if longest else 1.0), sum(len("".join(page)) for page in theirs)


def images(labels: Path, count: int) -> list[Path]:
    """Return image paths of a label file, spread evenly over it."""
    if not labels.is_file():
        raise InputError(f"--data {labels}: there is no such label file")
    names = [line.split("\t")[0] for line in labels.read_text(encoding="utf-8").splitlines() if "\t" in line]
    root = next((place for place in labels.parents if names and (place / names[0]).is_file()), None)
    if root is None:
        raise InputError(f"--data {labels}: its images are not found from its folder or one above")
    step = max(1, len(names) // count)
    return [root / name for name in names[::step][:count]]


def markdown(rows: Sequence[Row]) -> str:
    """Return the table for a document."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


HEADER = ("tool", "models", "int8 for", "images", "characters", "alike", "float, s", "int8, s", "int8 / float")


def _cells(row: Row) -> tuple[str, ...]:
    busy = row.other_load is not None and row.other_load > 0.1
    mark = f" (others kept {row.other_load:.1f} cores busy)" if busy else ""
    return (
        *(row.tool, row.pair, row.target, str(row.images), str(row.characters), f"{row.alike:.4f}"),
        *(f"{row.float_seconds:.1f}", f"{row.int8_seconds:.1f}"),
        f"{row.int8_seconds / row.float_seconds:.2f}{mark}",
    )


def _rows(options: argparse.Namespace, paths: Sequence[Path], console: Console) -> list[Row]:
    options.out.mkdir(parents=True, exist_ok=True)
    listed = options.out / "images.txt"
    write_text(listed, "".join(f"{path.resolve()}\n" for path in paths))
    rows = []
    for det, rec in options.pair:  # a mistake is told before 2 GB are installed
        targets = [_facts(Path(folder)).target for folder in (det, rec)]
        if len(set(targets)) > 1:
            raise InputError(f"--pair {det} {rec}: made for {' and '.join(targets)}; take one engine")
    for tool in options.tools:
        python = environment(options.envs, tool, console)
        for det, rec in options.pair:
            rows.append(_row(tool, python, (Path(det), Path(rec)), listed, options, console))
            said = ", ".join(map(" ".join, zip(HEADER, _cells(rows[-1]), strict=True)))
            console.print(said, highlight=False, soft_wrap=True)
    return rows


@dataclass(frozen=True)
class _Facts:
    """What a run's folder says: the model's name, the engine, and the float model that it was made from."""

    name: str
    target: str
    origin: Path


def _facts(folder: Path) -> _Facts:
    path = folder / "result.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        model = told["model"]
        found = _Facts(str(model["name"]), str(told["target"]), Path(model.get("paddle") or model["path"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"--pair {folder}: no folder that `ocrslim compress` wrote ({path}: {error})") from error
    if not found.origin.exists():
        raise InputError(f"--pair {folder}: its float model {found.origin} is not there any more")
    return found


def _row(
    tool: str, python: Path, pair: Sequence[Path], listed: Path, options: argparse.Namespace, console: Console
) -> Row:
    """Export both pairs for a tool, read with each and compare."""
    facts = [_facts(folder) for folder in pair]
    name, target = " + ".join(fact.name for fact in facts), facts[0].target
    readings = {}
    for kind, models in (("float", [fact.origin for fact in facts]), ("int8", list(pair))):
        place = options.out / tool / (kind if kind == "float" else f"{kind}-{target}")
        folders = [place / open_model(model).name for model in models]
        for model, folder in zip(models, folders, strict=True):
            export_bundle(model, tool, folder)
        console.print(f"{tool}: {name}, {kind}")
        kept = place / f"{' '.join(folder.name for folder in folders)}.json"
        readings[kind] = read(python, tool, folders, listed, kept, target, options.threads)
    shared, characters = alike(readings["int8"]["texts"], readings["float"]["texts"])
    return Row(
        f"{tool} {readings['int8']['version']}",
        name,
        target,
        len(readings["int8"]["texts"]),
        characters,
        shared,
        sum(readings["float"]["seconds"]),
        sum(readings["int8"]["seconds"]),
        max((reading["other_load"] or 0.0 for reading in readings.values()), default=None),
    )


def read(
    python: Path, tool: str, folders: Sequence[Path], listed: Path, out: Path, engine: str, threads: int = 0
) -> dict[str, Any]:
    """Run the reader in a tool's environment, unless the same was read before.

    Args:
        python: of the environment.
        tool: one of :data:`TOOLS`.
        folders: of detector and recogniser.
        listed: file with an image's path a line.
        out: file for the reading; one of the same models, images and packages is used again.
        engine: in which the tool runs either pair, the one that the int8 models were made for.
        threads: of an engine; 0 is what the tool takes by itself.

    Raises:
        EngineError: the tool failed; its last words are in the message.
    """
    key = _key(tool, folders, listed, [engine, str(threads)])
    if out.is_file():
        before: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if before.get("key") == key:
            return before
    load, began = OtherLoad(), (time.monotonic(), _readers_seconds())
    command = [str(python), str(READER), tool, *map(str, folders), str(listed), str(out), engine, str(threads)]
    # No network is asked for: PaddleOCR would look which of its model hosters answers.
    surroundings = os.environ | {"PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK": "True"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT, env=surroundings)
    if done.returncode:
        raise EngineError(f"{tool} cannot read with {folders[0]} and {folders[1]}: {done.stderr.strip()[-SAID:]}")
    others = load.cores()
    if others is not None:  # which counts the reader, a process of its own
        others = max(0.0, others - (_readers_seconds() - began[1]) / (time.monotonic() - began[0]))
    reading: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    reading |= {"key": key, "other_load": others}
    write_json(out, reading)
    return reading


def _readers_seconds() -> float:
    """Return the processor seconds of all readers that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _key(tool: str, folders: Sequence[Path], listed: Path, how: Sequence[str]) -> str:
    """Return the hash of all that a reading depends on."""
    digest = hashlib.sha256(json.dumps([TOOLS[tool], how, READER.read_text(encoding="utf-8")]).encode())
    digest.update(listed.read_bytes())
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def environment(folder: Path, tool: str, console: Console) -> Path:
    """Return the Python of a tool's environment, which is made if it is not there.

    Raises:
        EngineError: pip could not install it.
    """
    place = folder / tool
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.is_file():
        console.print(f"making an environment for {tool} in {place}")
        venv.create(place, with_pip=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *TOOLS[tool]], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(f"pip cannot install {' '.join(TOOLS[tool])}: {done.stderr.strip()[-SAID:]}")
    return python


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Read images with PaddleOCR and RapidOCR, float and int8.")
    parser.add_argument("--pair", nargs=2, action="append", required=True, metavar=("DET", "REC"), help="of compress")
    parser.add_argument("--data", type=Path, required=True, metavar="LABELS", help="detection label file")
    parser.add_argument("--images", type=int, default=50, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of an engine; default: the tool's own")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS), help="default: both")
    parser.add_argument("--envs", type=Path, default=Path("envs"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for folders, readings and the table")
    parser.add_argument("--json", action="store_true", help="the table as JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
