"""What the benchmark measured, one small file a piece, so that a run that was stopped goes on where it was.

A stored piece is used again only where everything that it depends on is the same: the SHA-256 of the model file and of
the labels, the engine's version, the CPU's instruction sets. Anything else is measured anew.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rivals import Images, Rival, Variant, calibration_images, file_of, quantize

from ocrslim.config.profile import Profile, load_profile
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.session import open_session
from ocrslim.engines.timing import bench, timed_shape
from ocrslim.errors import EngineError, InputError
from ocrslim.evaluate import evaluate
from ocrslim.graph.importers.source import ModelSource
from ocrslim.ocr.labels import read_samples
from ocrslim.ocr.metrics.bootstrap import paired_bootstrap
from ocrslim.ocr.metrics.detection import DetRecord, hmean
from ocrslim.ocr.metrics.recognition import RecRecord, accuracy
from ocrslim.report.result import sha256_of, write_json
from ocrslim.slimming.training.data import CALIBRATION_IMAGES, open_training_data

__all__ = ["Bench", "Plan", "Score", "is_quiet", "plain_record", "remembered"]

NOISY = 0.1  # cores that others may use while a time is taken; above, it is void
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Plan:
    """What all measurements of one run share.

    Args:
        train: label file by task; its first training images calibrate.
        eval: label file by task.
        out: folder of all pieces.
        profile: see :func:`ocrslim.config.profile.load_profile`.
        limit: only the first images of ``eval``; all when ``None``.
        calibration: images; as many as ``ocrslim compress`` takes when ``None``.
        seed: of the split, as in ``ocrslim compress --seed``.
        threads: of scoring and timing.
    """

    train: Mapping[str, Path]
    eval: Mapping[str, Path]
    out: Path
    profile: str | None = None
    limit: int | None = None
    calibration: int | None = None
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Score:
    """How one file did on one engine.

    Args:
        metrics: by name, as ``ocrslim eval`` names them.
        records: one for each image.
    """

    metrics: Mapping[str, Any]
    records: Sequence[Any]

    @property
    def metric(self) -> str:
        """The one that judges."""
        return "hmean" if "hmean" in self.metrics else "accuracy"

    @property
    def value(self) -> float:
        """Of that metric, 0 to 1."""
        return float(self.metrics[self.metric])

    def drop_from(self, other: Score) -> tuple[float, float, float]:
        """Return what this loses against ``other`` in points: as observed, and the paired 95 % interval's bounds."""
        compute: Callable[[Any], float] = hmean if self.metric == "hmean" else accuracy
        interval = paired_bootstrap(other.records, self.records, compute)
        return 100 * (other.value - self.value), 100 * interval.low, 100 * interval.high


def remembered(
    path: Path, key: Mapping[str, Any], measure: Callable[[], dict[str, Any]], keep: Callable[[Any], bool] | None = None
) -> dict[str, Any]:
    """Return what ``path`` holds if it was measured under the same ``key``, else measure and store it.

    Args:
        path: of a JSON file.
        key: everything that the result depends on.
        measure: is called where nothing fits.
        keep: a result that it refuses is returned, but not stored, and not taken from the file either.
    """
    plain = json.loads(json.dumps(key))
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}
    if isinstance(stored, dict) and stored.get("key") == plain and (keep is None or keep(stored["value"])):
        found: dict[str, Any] = stored["value"]
        return found
    value = measure()
    if keep is None or keep(value):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": plain, "value": value})
    return value


def plain_record(record: DetRecord | RecRecord) -> dict[str, Any]:
    """Return what an image adds to the score as JSON's types; not the boxes of a page, which are no part of it."""
    return {key: value for key, value in vars(record).items() if key != "boxes"}


def is_quiet(other_load: float | None) -> bool:
    """Return whether a time that was taken beside ``other_load`` busy cores is worth keeping."""
    return other_load is None or other_load <= NOISY


class Bench:
    """One model's measurements: quantized files, scores and times, each taken once.

    Args:
        source: the float model.
        plan: see there.
    """

    def __init__(self, source: ModelSource, plan: Plan) -> None:
        self.source = source
        self.plan = plan
        self.profile: Profile = load_profile(plan.profile, source.inference_yml)
        self._hashes: dict[Path, str] = {}

    @cached_property
    def images(self) -> Images:
        """What the rivals calibrate with: the first training images of ``ocrslim compress`` with the same seed."""
        source = self.source
        data = open_training_data(
            source.task, self.plan.train[source.task], None, source.characters or (), self.plan.seed
        )
        return calibration_images(data, self.profile, self.calibration)

    @property
    def calibration(self) -> int:
        """How many images calibrate."""
        return self.plan.calibration or CALIBRATION_IMAGES[self.source.task]

    def quantized(self, rival: Rival, variant: Variant, engine: str) -> Path:
        """Return a rival's file for an engine, made unless it is there.

        Raises:
            EngineError: the rival failed.
        """
        folder = self._folder(rival, variant, engine)
        file = folder / file_of(rival, engine)

        def whole(value: Mapping[str, Any]) -> bool:
            return file.is_file() and self._identity(file) == value["sha256"]

        remembered(
            folder / "made.json", self._made_key(rival, variant), lambda: self._make(rival, variant, file), whole
        )
        return file

    def minutes(self, rival: Rival, variant: Variant, engine: str) -> float | None:
        """Return the minutes that making the file takes; where other processes disturbed that, it is made once more.

        ``None`` where they disturb it again.
        """
        folder = self._folder(rival, variant, engine)
        made = json.loads((folder / "made.json").read_text(encoding="utf-8"))["value"]
        if not is_quiet(made["other_load"]):

            def again() -> dict[str, Any]:
                with tempfile.TemporaryDirectory(prefix="ocrslim-") as temporary:
                    return self._make(rival, variant, Path(temporary) / file_of(rival, engine))

            key = self._made_key(rival, variant)
            made = remembered(folder / "again.json", key, again, lambda value: is_quiet(value["other_load"]))
        return float(made["seconds"]) / 60 if is_quiet(made["other_load"]) else None

    def score(self, file: Path, engine: str, name: str, progress: Progress | None = None) -> Score:
        """Score a file on the evaluation images.

        Args:
            file: ONNX or OpenVINO IR.
            engine: that runs it.
            name: of the piece, unique for the model and the engine.
            progress: told (done, total).

        Raises:
            EngineError: the engine cannot run the file.
        """
        labels = self.plan.eval[self.source.task]

        def measure() -> dict[str, Any]:
            samples, skipped = read_samples(self.source.task, labels, None)
            session = open_session(file, engine, self.plan.threads)
            result = evaluate(
                self.source,
                samples[: self.plan.limit],
                profile=self.profile,
                session=session,
                loose=True,
                skipped=skipped,
                progress=progress,
            )
            return {"metrics": result.metrics, "records": [plain_record(record) for record in result.records]}

        key = {
            "model": self.source.sha256,
            "file": self._identity(file),
            "labels": self._hash(labels),
            "limit": self.plan.limit,
            "profile": asdict(self.profile),
            "engine": [engine, versions()[engine]],
            "flags": cpu_info().flags,
        }
        value = remembered(self.plan.out / "scores" / self.source.name / engine / f"{name}.json", key, measure)
        record = DetRecord if self.source.task == "det" else RecRecord
        return Score(value["metrics"], [record(**fields) for fields in value["records"]])

    def ratios(self, files: Mapping[str, Path], engine: str) -> dict[str, float] | None:
        """Time files in turns on a quiet machine and return each one's time relative to the first's.

        ``None`` where the machine is not quiet.
        """
        shape = timed_shape(self.source.task)
        key = {
            "files": {name: self._identity(file) for name, file in files.items()},
            "engine": [engine, versions()[engine]],
            "flags": cpu_info().flags,
            "threads": self.plan.threads,
            "shape": shape,
        }

        def measure() -> dict[str, Any]:
            rows = bench(list(files.items()), [engine], threads=self.plan.threads, shape=shape)
            return {"rows": [row.to_json() for row in rows]}

        def quiet(value: Mapping[str, Any]) -> bool:
            return is_quiet(value["rows"][0]["other_load"])

        path = self.plan.out / "times" / self.source.name / f"{engine}.json"
        value = remembered(path, key, measure, quiet)
        return {row["label"]: float(row["ratio_on_engine"]) for row in value["rows"]} if quiet(value) else None

    def _make(self, rival: Rival, variant: Variant, file: Path) -> dict[str, Any]:
        images = self.images  # read before the clock starts
        load, started = OtherLoad(), time.perf_counter()
        used = quantize(rival, variant, self.source.path, images, file)
        seconds = time.perf_counter() - started
        self._hashes.pop(file, None)
        return {
            "sha256": self._identity(file),
            "seconds": seconds,
            "other_load": load.cores(),
            "images": len(images),
            "versions": used,
        }

    def _made_key(self, rival: Rival, variant: Variant) -> dict[str, Any]:
        return {
            "model": self.source.sha256,
            "rival": rival,
            "options": dict(variant.options),
            "labels": self._hash(self.plan.train[self.source.task]),
            "calibration": self.calibration,
            "seed": self.plan.seed,
            "profile": asdict(self.profile),
        }

    def _folder(self, rival: Rival, variant: Variant, engine: str) -> Path:
        """ONNX Runtime's own file is the same for both engines; NNCF makes one for each."""
        where = f"{rival}-{engine}" if rival == "nncf" else rival
        return self.plan.out / "models" / self.source.name / where / variant.slug

    def _identity(self, file: Path) -> str:
        """Return the SHA-256 of a model file; OpenVINO IR's weights count."""
        if file.suffix != ".xml":
            return self._hash(file)
        weights = file.with_suffix(".bin")
        if not weights.is_file():
            raise EngineError(f"{weights}: missing beside {file.name}; remove the folder, the next run makes it again")
        return hashlib.sha256((self._hash(file) + self._hash(weights)).encode()).hexdigest()

    def _hash(self, file: Path) -> str:
        if file not in self._hashes:
            if not file.exists():
                raise InputError(f"{file}: no such file; --data, --train and --eval name the label files")
            self._hashes[file] = sha256_of(file)
        return self._hashes[file]
