"""What a user without torch has: its size, and that ``bench``, ``eval`` and ``predict`` do their work there.

    python benchmarks/without_torch.py --det-data LABELS --rec-data LABELS --out DIR [--det MODEL] [--rec MODEL]

A virtual environment is made under ``DIR/env`` and gets this project with its extra for PDF files, nothing else. There,
models are timed, scored and read with: a PDF of 20 of the images, of which the seventh page is missing, and a folder of
100, of which one is cut short. What is to be refused is refused by name, everything else is read, and the JSON holds to
its published schema, or the exit code is 1. It is 2 where the environment can't be made or an argument can't be used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np

from ocrslim.errors import OcrslimError
from ocrslim.ocr.labels import read_samples

PROJECT = Path(__file__).resolve().parents[1]
PDF_PAGES, IMAGES = 20, 100
MISSING, CUT = 7, 50  # page of the PDF, image of the folder
NO_TORCH = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in ('torch', 'paddle')))"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environment, use it, print what came of it; return the exit code."""
    options = _options(arguments)
    try:
        pages = [sample.image for sample in read_samples("det", options.det_data)[0]]
    except OcrslimError as error:
        sys.stderr.write(f"without_torch.py: {error}\n")
        return 2
    if len(pages) < max(PDF_PAGES, IMAGES):
        sys.stderr.write(f"without_torch.py: {options.det_data}: has {len(pages)} images; {IMAGES} are needed\n")
        return 2
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        ocrslim = make_environment(options.out / "env")
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"without_torch.py: {error}\n")
        return 2
    print(f"environment without torch: {megabytes(options.out / 'env'):.0f} MB", flush=True)
    told = [_told(ocrslim, *command) for command in commands(options)]
    book, folder = options.out / "book.pdf", options.out / "folder"
    write_book(book, pages[:PDF_PAGES])
    write_folder(folder, pages[:IMAGES])
    began = time.monotonic()
    models = ["--det", options.det, "--rec", options.rec]
    read = subprocess.run(
        [ocrslim, "predict", book, folder, *models, "--json"], capture_output=True, text=True, check=False
    )
    print(read.stderr.strip()[-2000:])
    wrong = [name for name, right in zip(("bench", "eval", "eval"), told, strict=True) if not right]
    wrong += problems(read)
    print(f"predict: {time.monotonic() - began:.0f} s with start-up; {'; '.join(wrong) or 'all as it should be'}")
    return int(bool(wrong))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--det-data", type=Path, required=True, help="label file of pages")
    parser.add_argument("--rec-data", type=Path, required=True, help="label file of lines")
    parser.add_argument("--out", type=Path, required=True, help="folder for the environment and what is read")
    parser.add_argument("--det", default="PP-OCRv4_mobile_det", help="detector; default: %(default)s")
    parser.add_argument("--rec", default="PP-OCRv4_mobile_rec", help="recogniser; default: %(default)s")
    parser.add_argument("--limit", default="100", help="images that are scored; default: %(default)s")
    return parser.parse_args(arguments)


def make_environment(folder: Path) -> str:
    """Install the project in an environment of its own and return the program there.

    Raises:
        RuntimeError: the environment can't be made, pip failed (it has said why), or torch or Paddle came along.
    """
    python = folder / "bin" / "python"
    try:
        if not python.is_file():
            venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError as error:  # of ensurepip
        raise RuntimeError(
            f"{folder}: no environment can be made; python needs its modules venv and ensurepip"
        ) from error
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(PROJECT / "constraints.txt"), f"{PROJECT}[pdf]"]
    done = subprocess.run(pip, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)  # warnings of an index that did its work are nobody's business
        raise RuntimeError(f"{folder}: pip can't install {PROJECT}; it says why above")
    if subprocess.run([python, "-c", NO_TORCH], check=False).returncode:
        raise RuntimeError(f"{folder}: torch or Paddle was installed; the plain package must not ask for them")
    return str(folder / "bin" / "ocrslim")


def megabytes(folder: Path) -> float:
    """Return the size of the files of a folder, 10^6 bytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def commands(options: argparse.Namespace) -> list[list[str]]:
    """Return what is run beside predict."""
    scored = [(options.det, options.det_data), (options.rec, options.rec_data)]
    return [
        ["bench", options.rec, "--engine", "onnxruntime"],
        *(["eval", model, "--data", str(data), "--limit", options.limit] for model, data in scored),
    ]


def _told(program: str, *command: str) -> bool:
    """Run the program, show the end of what it said, and return whether it ended well."""
    done = subprocess.run([program, *command], capture_output=True, text=True, check=False)
    print(f"$ ocrslim {' '.join(command)}\n{(done.stdout.strip() or done.stderr.strip())[-1500:]}", flush=True)
    return done.returncode == 0


def write_book(path: Path, pages: Sequence[Path]) -> None:
    """Write images as the pages of a PDF, 200 dots an inch; the object of page ``MISSING`` is left out."""
    kids = " ".join(f"{3 + 3 * index} 0 R" for index in range(len(pages)))
    objects: dict[int, bytes] = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
    }
    for index, page in enumerate(pages):
        number = 3 + 3 * index
        if index + 1 == MISSING:
            continue
        image = _image(page)
        height, width = image.shape[:2]
        size = f"{width * 0.36:.2f} {height * 0.36:.2f}"
        drawn = f"q {width * 0.36:.2f} 0 0 {height * 0.36:.2f} 0 0 cm /I Do Q".encode()
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        objects[number] = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size}]/Resources<</XObject<</I {number + 1} 0 R>>>>"
            f"/Contents {number + 2} 0 R>>"
        ).encode()
        about = f"/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
        objects[number + 1] = _stream(f"/Type/XObject/Subtype/Image{about}", jpeg)
        objects[number + 2] = _stream("", drawn)
    content, places = b"%PDF-1.4\n", {}
    for number, body in sorted(objects.items()):
        places[number] = len(content)
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    rows = [f"{places[n]:010} 00000 n \n" if n in places else "0000000000 65535 f \n" for n in range(max(places) + 1)]
    trailer = f"trailer<</Size {len(rows)}/Root 1 0 R>>\nstartxref\n{len(content)}\n%%EOF\n"
    path.write_bytes(content + f"xref\n0 {len(rows)}\n{''.join(rows)}{trailer}".encode())


def _stream(about: str, data: bytes) -> bytes:
    return f"<<{about}/Length {len(data)}>>stream\n".encode() + data + b"\nendstream"


def _image(path: Path) -> Any:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


def write_folder(folder: Path, pages: Sequence[Path]) -> None:
    """Copy images under their numbers; of number ``CUT`` the second half is left out."""
    folder.mkdir(exist_ok=True)
    for number, page in enumerate(pages, start=1):
        data = page.read_bytes()
        (folder / f"{number:03}{page.suffix}").write_bytes(data[: len(data) // 2] if number == CUT else data)


def problems(read: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what is wrong about a reading of the book and the folder."""
    if read.returncode:
        return [f"predict ended with {read.returncode}"]
    result = json.loads(read.stdout)
    schema = (PROJECT / "src" / "ocrslim" / "report" / "predict.schema.json").read_text(encoding="utf-8")
    found = [error.message for error in jsonschema.Draft202012Validator(json.loads(schema)).iter_errors(result)]
    skipped = [(Path(item["file"]).stem, item.get("page")) for item in result["skipped"]]
    if sorted(skipped) != [(f"{CUT:03}", None), ("book", MISSING)]:
        found.append(f"skipped are {skipped}")
    if len(result["pages"]) != PDF_PAGES + IMAGES - 2:
        found.append(f"{len(result['pages'])} pages were read")
    return found


if __name__ == "__main__":
    sys.exit(main())
