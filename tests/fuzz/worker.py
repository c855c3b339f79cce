"""One process that tries a range of mutated inputs: ``python -m tests.fuzz.worker SURFACE SEED START END FOLDER``.

It prints a line of JSON now and then. The input at hand is named in ``FOLDER/current``, for when the process dies of
it: by the limit of 5 seconds of its own time (SIGPROF), for want of memory, or by a crash.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutate import mutate
from tests.fuzz.seeds import SEEDS, Seed

from ocrslim.config.paddleslim import load_config
from ocrslim.config.profile import load_profile
from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.inspect import describe
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.det_targets import border_maps, shrink_maps
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, read_samples
from ocrslim.ocr.metrics.detection import DetectionMetric
from ocrslim.ocr.pipeline import Pipeline

SECONDS = 5.0  # of the processor, so that a busy machine makes no failures
MEMORY = 2 << 30  # bytes of address space: nothing can take more
LONGEST_MESSAGE = 2000
REPORT_EVERY = 200
WRITES = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
)
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Insufficient memory", "Cannot allocate memory", "Failed to allocate")
FORBIDDEN = ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.fork", "pickle.find_class", "exec.code")


def is_one_line(said: str) -> bool:
    """Return whether a message is what a user should see."""
    return bool(said.strip()) and len(said.splitlines()) == 1 and len(said) <= LONGEST_MESSAGE


def wants_memory(error: BaseException | None) -> bool:
    """Return whether an error comes of memory that was not to be had; an input is to be refused before it asks."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


class Watch:
    """Notes what an input made the process do: writing elsewhere than allowed, running programs, calling out."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if writes and not isinstance(path, int):
                self._check(event, path)
        elif event in WRITES:
            handle = arguments[1] if event in ("os.remove", "os.rmdir") else -1  # of the folder that it is relative to
            self._check(event, arguments[0], handle)
            if event in ("os.rename", "os.link", "os.symlink"):
                self._check(event, arguments[1])
        elif event in FORBIDDEN:
            self.seen.append(f"{event} {arguments}"[:200])

    def _check(self, event: str, path: Any, handle: int = -1) -> None:
        base = os.readlink(f"/proc/self/fd/{handle}") if handle >= 0 else os.getcwd()
        place = os.path.realpath(os.path.join(base, os.fsdecode(path))) if not isinstance(path, int) else ""
        if place and not place.startswith(self.allowed):
            self.seen.append(f"{event} {place}")


def run_importers(folder: Path, name: str, rng: Random) -> None:
    source = open_model(folder / name)
    load_profile(None, source.inference_yml)
    describe(load_onnx(source.path))  # as `ocrslim inspect`, through the passes behind the importers


def run_labels(folder: Path, name: str, rng: Random) -> None:
    refused: list[OcrslimError] = []
    for task in ("det", "rec"):
        try:
            samples, skipped = read_samples(task, folder / name)
        except OcrslimError as error:
            refused.append(error)
            continue
        assert all(item.where and item.reason for item in skipped)
        for sample in samples[:4]:
            if isinstance(sample, DetSample):
                _use_boxes(sample)
            else:
                read_image(sample.image)
    assert all(is_one_line(str(error)) for error in refused)
    if len(refused) == 2:  # one of them always is
        raise refused[0]


def _use_boxes(sample: DetSample) -> None:
    boxes = sample.boxes[:20]
    polygons = [box.points for box in boxes]
    DetectionMetric().update(polygons, boxes)
    shrink_maps((32, 48), polygons, [box.ignore for box in boxes])
    border_maps((32, 48), polygons, [box.ignore for box in boxes])


def run_yaml(folder: Path, name: str, rng: Random) -> None:
    config = load_config(folder / name)
    for data in (config.train, config.eval):
        if data is not None:
            Pipeline(data.transforms, Charset(["a", "b"]), config.model.max_text_length, data.partner_transforms)


def run_images(folder: Path, name: str, rng: Random) -> None:
    image = read_image(folder / name)
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size


RUN: dict[str, Callable[[Path, str, Random], None]] = {
    "importers": run_importers,
    "labels": run_labels,
    "yaml": run_yaml,
    "images": run_images,
}


def mutated(seeds: list[Seed], rng: Random) -> tuple[Seed, dict[str, bytes]]:
    """Return a seed and its files, one or two of them mutated."""
    seed = rng.choice(seeds)
    files = dict(seed.files)
    for name in rng.sample(sorted(seed.kinds), min(len(seed.kinds), rng.choice((1, 1, 1, 2)))):
        kind = seed.kinds[name]
        if kind == "cut":  # a library in C maps the file: only what can be checked without it is changed
            files[name] = files[name][: rng.randrange(len(files[name]) + 1)]
        else:
            other = rng.choice(seeds)
            files[name] = mutate(files[name], kind, rng.choice(list(other.files.values())), rng)
    return seed, files


def problem_of(run: Callable[[], None], watch: Watch) -> tuple[bool, str]:
    """Run one input; return whether it was accepted, and what was wrong about how it went."""
    accepted, problem = True, ""
    watch.seen.clear()
    watch.armed = True
    try:
        run()
    except OcrslimError as error:
        said = str(error)
        accepted = False
        if not is_one_line(said):
            problem = f"not one line: {said[:300]!r}"
        elif wants_memory(error):
            problem = f"refused for want of memory alone: {said[:300]!r}"
    except Exception:  # noqa: BLE001 - that there is none is what is tested
        problem = traceback.format_exc()
    finally:
        watch.armed = False
    return accepted, problem or "; ".join(watch.seen[:5])


def main(surface: str, seed: int, start: int, end: int, folder: Path) -> None:
    """Try the inputs ``start`` to ``end``, and print what came of them."""
    inputs, out, temporary, place = (folder / name for name in ("in", "out", "tmp", "cwd"))
    for path in (inputs, out, temporary, place):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    (temporary / "seeds").mkdir()
    seeds = SEEDS[surface](temporary / "seeds")  # from the real cache, which the inputs never see
    os.environ["OCRSLIM_CACHE"], tempfile.tempdir = str(out), str(temporary)
    os.chdir(place)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch((str(out.resolve()), str(temporary.resolve()), "/dev/null"))
    current = os.open(folder / "current", os.O_WRONLY | os.O_CREAT, 0o644)
    around = [sorted(os.listdir(path)) for path in (folder, place)]
    report: dict[str, Any] = {"accepted": 0, "refused": 0, "failures": []}
    for index in range(start, end):
        os.pwrite(current, b"%012d" % index, 0)
        rng = Random(f"{seed}/{surface}/{index}")
        chosen, files = mutated(seeds, rng)
        for name, content in files.items():
            (inputs / name).parent.mkdir(exist_ok=True)
            (inputs / name).write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        accepted, problem = problem_of(lambda: RUN[surface](inputs, chosen.open, rng), watch)  # noqa: B023 - at once
        signal.setitimer(signal.ITIMER_PROF, 0)
        report["accepted" if accepted else "refused"] += 1
        if problem:
            report["failures"].append({"index": index, "problem": problem})
        for name in files:
            (inputs / name).unlink(missing_ok=True)
        if (index + 1 - start) % REPORT_EVERY == 0 or index + 1 == end:
            left = [str(path) for path in inputs.rglob("*") if path.is_file()]
            now = [sorted(os.listdir(path)) for path in (folder, place)]
            if left or now != around:
                report["failures"].append({"index": index, "problem": f"files appeared: {left[:5]} {now} {around}"})
            for path in (out, temporary):
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            sys.stdout.write(json.dumps(report | {"done": index + 1, "peak": peak}) + "\n")
            sys.stdout.flush()
            report = {"accepted": 0, "refused": 0, "failures": []}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
