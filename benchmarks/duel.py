"""One model, compressed by both programs on the same stored batches, timed by their own marks, scored alike.

Every piece is stored in the work folder and used again only where all that it depends on is the same, so that a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cells import Score, plain_record, remembered
from paddleslim_env import DRIVER, REQUIREMENTS, PaddleServer, thread_variables
from stopwatch import Timing, read_timing
from versus import OURS, THEIRS, Row

import ocrslim
from ocrslim.config.profile import Profile, load_profile
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.errors import DataError, EngineError, InputError
from ocrslim.evaluate import evaluate
from ocrslim.graph.importers.paddle.zoo import pull_paddle
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.ocr.labels import read_samples
from ocrslim.ocr.metrics.detection import DetRecord
from ocrslim.ocr.metrics.recognition import RecRecord
from ocrslim.report.result import sha256_of
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.training.data import VALIDATION_IMAGES, open_training_data
from ocrslim.slimming.training.loader import DetBatches, RecBatches

__all__ = ["Duel", "Terms", "example_config"]

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parent / "configs"
OUR_DRIVER = HERE / "ocrslim_driver.py"
PACKAGE = Path(ocrslim.__file__).parent
FILES = ("inference.pdmodel", "inference.pdiparams", "inference.yml", "dictionary.txt")
SAID = 200  # characters of a failed program's last words
LOOKS = 0.5  # seconds between two looks at a running program


@dataclass(frozen=True)
class Terms:
    """What both sides of all models share; every field is the command line's option of that name."""

    train: Mapping[str, Path]
    eval: Mapping[str, Path]
    work: Path
    steps: int = 20
    batch: int = 8
    threads: int = 2
    det_size: int = 320
    limit: int | None = None
    seed: int = 0
    minutes: float = 60.0
    pact: bool = True

    def check(self) -> None:
        """Look whether the label files are there.

        Raises:
            InputError: one is not.
        """
        for file in (*self.train.values(), *self.eval.values()):
            if not file.exists():
                raise InputError(f"{file}: no such file; --data, --train and --eval name the label files")


def example_config(task: str, steps: int, pact: bool = True) -> dict[str, Any]:
    """Return what PaddleSlim is told: the example's file for PP-OCRv4, its schedule fitted to the steps.

    Args:
        task: det or rec.
        steps: of training; the cosine comes to its end with them, as the example has it for its own number.
        pact: as the file has it; it clips every activation at 20 first, which a few steps may not undo.
    """
    said = yaml.safe_load((CONFIGS / f"ppocrv4_{task}_qat_dist.yaml").read_text(encoding="utf-8"))
    config = {key: said[key] for key in ("Distillation", "QuantAware", "TrainConfig")}
    config["QuantAware"]["use_pact"] = pact
    train = config["TrainConfig"]
    train["learning_rate"]["T_max"] = steps
    return config | {"TrainConfig": train | {"epochs": 1, "train_iter": steps, "eval_iter": steps + 1}}


class Duel:
    """One model.

    Args:
        name: official.
        terms: see there.
        python: of PaddleSlim's environment; ``None`` leaves that side out.
        log: of the run.
    """

    def __init__(self, name: str, terms: Terms, python: Path | None, log: RunLog) -> None:
        self.loads: dict[str, float] = {}
        self._name = name
        self._terms = terms
        self._python = python
        self._log = log
        self._folder = terms.work / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._model = pull_paddle(name)
        self._source: ModelSource = open_model(self._model)
        self._profile: Profile = load_profile(None, self._source.inference_yml)

    def rows(self) -> Iterator[Row]:
        """Compress with both programs, one right after the other, then score what they made; yield a row for each."""
        self._store_batches()
        timings: dict[str, Timing] = {}
        failed: dict[str, str] = {}
        sides = (OURS, THEIRS) if self._python is not None else (OURS,)
        for by in sides:
            try:
                timings[by] = self._compress(by)
            except EngineError as error:  # that a program fails is a result
                failed[by] = " ".join(str(error).split())
                self._log.say(f"{self._name}, {by}: {failed[by]}")
        for by in sides:
            row = Row(
                self._name, by, self._terms.batch, timings.get(by), note=failed.get(by, ""), others=self.loads.get(by)
            )
            yield self._scored(row) if by in timings else row

    def _scored(self, row: Row) -> Row:
        baseline, score = self._score("float"), self._score(row.by)
        drop, low, high = score.drop_from(baseline)
        return replace(
            row,
            metric=score.metric,
            n=len(score.records),
            float_score=baseline.value,
            int8_score=score.value,
            drop=drop,
            low=low,
            high=high,
        )

    @cached_property
    def _key(self) -> dict[str, Any]:
        """All that the batches depend on."""
        terms, task = self._terms, self._source.task
        size = terms.det_size if task == "det" else 320
        labels = sha256_of(terms.train[task])
        return {"model": self._source.sha256, "labels": labels, "seed": terms.seed, "batch": terms.batch, "size": size}

    def _store_batches(self) -> None:
        """Make the batches of all steps, and those held back for our choice of the best weights."""
        terms, task = self._terms, self._source.task
        held = -(-VALIDATION_IMAGES[task] // terms.batch)

        def measure() -> dict[str, Any]:
            with self._log.stage(f"{self._name}: batches"):
                data = open_training_data(task, terms.train[task], None, self._source.characters or (), terms.seed)
                _store(self._batches(data.train, augment=True), terms.steps, self._folder / "batches")
                _store(self._batches(data.held, augment=False), held, self._folder / "held")
            return {"steps": terms.steps, "held": held}

        def whole(value: Mapping[str, Any]) -> bool:
            found = {part: len(list((self._folder / part).glob("*.npy"))) for part in ("batches", "held")}
            return found == {"batches": value["steps"], "held": value["held"]}

        remembered(self._folder / "batches.json", self._key | {"steps": terms.steps}, measure, whole)

    def _batches(self, images: Any, augment: bool) -> DetBatches | RecBatches:
        terms, profile = self._terms, self._profile
        if self._source.task == "det":
            return DetBatches(images, terms.batch, profile.det, terms.seed, crop=terms.det_size, augment=augment)
        return RecBatches(images, terms.batch, profile.rec, terms.seed, max_width=profile.rec.width, augment=augment)

    def _compress(self, by: str) -> Timing:
        """Return what a compression cost."""
        terms, folder = self._terms, self._folder / by
        program = sorted(PACKAGE.rglob("*.py")) if by == OURS else [REQUIREMENTS]
        code = "".join(sha256_of(file) for file in (OUR_DRIVER if by == OURS else DRIVER, *program))
        key = self._key | {
            **{"steps": terms.steps, "threads": terms.threads, "flags": cpu_info().flags},
            "program": hashlib.sha256(code.encode()).hexdigest(),
        }

        if by == THEIRS:
            key["pact"] = terms.pact

        def measure() -> dict[str, Any]:
            shutil.rmtree(folder, ignore_errors=True)
            with self._log.stage(f"{self._name}: {by}"), _whole_folder(folder) as partial:
                return self._run(by, partial)

        def whole(value: Mapping[str, Any]) -> bool:
            return (folder / FILES[0]).is_file()

        value = remembered(self._folder / f"{by}.json", key, measure, whole)
        if (others := value["others"]) is not None:
            self.loads[by] = others
        return Timing.from_json(value["timing"])

    def _run(self, by: str, folder: Path) -> dict[str, Any]:
        """Let a program compress in a process of its own."""
        terms, marks = self._terms, folder / "marks.jsonl"
        model = folder / "float"  # PaddleSlim writes into the model's folder
        model.mkdir()
        for name in FILES:
            if (self._model / name).is_file():
                shutil.copyfile(self._model / name, model / name)
        settings = {
            **{"marks": marks, "model": model, "out": folder, "steps": terms.steps, "threads": terms.threads},
            **{"batches": self._folder / "batches", "held": self._folder / "held"},
            "config": example_config(self._source.task, terms.steps, terms.pact),
        }
        said = folder / "settings.json"
        said.write_text(json.dumps({name: _plain(value) for name, value in settings.items()}), encoding="utf-8")
        python, driver = (sys.executable, OUR_DRIVER) if by == OURS else (str(self._python), DRIVER)
        command = [python, str(driver), *(["compress"] if by == THEIRS else []), str(said)]
        load = OtherLoad()
        with tempfile.TemporaryDirectory(prefix="ocrslim-") as cache:  # the model's conversion counts too
            variables = {"OCRSLIM_CACHE": cache} | thread_variables(terms.threads)
            with self._log.bar(f"{self._name}: {by}") as update:
                started, ended = _watch(
                    command, variables, folder / "log.txt", marks, terms.minutes, lambda done: update(done, terms.steps)
                )
        others = load.cores()
        try:
            timing = read_timing(marks, started, ended)
        except ValueError as error:
            raise EngineError(f"{by}: {error}") from error
        if others is not None:  # the program was a child, which the clock of others counts as one of them
            others = max(0.0, others - timing.total.cpu / timing.total.wall)
        return {"timing": asdict(timing), "others": others}

    def _score(self, piece: str) -> Score:
        """Score the float model or what a program made, all in Paddle Inference where it is there."""
        terms, task = self._terms, self._source.task
        labels = terms.eval[task]
        folder = self._model if piece == "float" else self._folder / piece
        engine = "onnxruntime" if self._python is None else "paddle"

        def measure() -> dict[str, Any]:
            samples, skipped = read_samples(task, labels, None)
            if terms.limit is not None:
                samples = samples[:: max(1, len(samples) // terms.limit)][: terms.limit]
            what = f"{self._name}: score {piece}"
            with self._log.stage(what), self._session(folder, piece) as session, self._log.bar(what) as update:
                result = evaluate(
                    self._source,
                    samples,
                    profile=self._profile,
                    session=session,
                    skipped=skipped,
                    progress=update,
                )
            return {"metrics": result.metrics, "records": [plain_record(record) for record in result.records]}

        key = {
            **{"files": [sha256_of(folder / name) for name in FILES[:2]], "labels": sha256_of(labels)},
            **{"limit": terms.limit, "engine": engine, "flags": cpu_info().flags, "ocrslim": ocrslim.__version__},
        }
        value = remembered(self._folder / f"score-{piece}.json", key, measure)
        record = DetRecord if task == "det" else RecRecord
        return Score(value["metrics"], [record(**fields) for fields in value["records"]])

    @contextlib.contextmanager
    def _session(self, folder: Path, piece: str) -> Iterator[InferenceSession]:
        if self._python is None:
            path = self._source.path if piece == "float" else folder / "model.onnx"
            yield open_session(path, "onnxruntime", self._terms.threads)
            return
        with PaddleServer(self._python, folder, self._terms.threads, self._folder / "serve.log") as session:
            yield session


def _store(batches: DetBatches | RecBatches, count: int, folder: Path) -> None:
    """Write the first batches as ``.npy`` files, one a step."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for step in range(count):
        np.save(folder / f"{step:05d}.npy", batches.batch(step))
    if batches.damaged:
        path, reason = next(iter(batches.damaged.items()))
        raise DataError(f"{path}: {reason}; take it out of the labels, so that both sides learn from all")


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that gets its name when the body succeeds; one that fails stays beside it to look at."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    os.replace(partial, folder)


def _watch(
    command: list[str],
    variables: Mapping[str, str],
    log: Path,
    marks: Path,
    minutes: float,
    progress: Callable[[int], object],
) -> tuple[float, float]:
    """Run a command to its end and return when it was given and when it ended, by the system clock.

    Args:
        command: to run.
        variables: of its environment, beside this process's own.
        log: all that it says.
        marks: that it writes, see :mod:`stopwatch`.
        minutes: after which it is ended.
        progress: told the steps that are done.

    Raises:
        EngineError: it failed, or took too long.
    """
    with log.open("wb") as said:
        started = time.time()
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **variables})
        try:
            seen = 0
            while process.poll() is None:
                if time.time() - started > 60 * minutes:
                    raise EngineError(f"{Path(command[1]).name}: took longer than {minutes:g} minutes; {log} says more")
                if (done := _steps_done(marks)) > seen:
                    progress(done)
                    seen = done
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOKS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    ended = time.time()
    if process.returncode:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
        told = lines[-1][:SAID] if lines else "it said nothing"
        raise EngineError(f"{Path(command[1]).name} failed ({process.returncode}): {told}; {log} says more")
    return started, ended


def _steps_done(marks: Path) -> int:
    """Count the steps of the last pass so far."""
    try:
        told = marks.read_text(encoding="utf-8")
    except OSError:
        return 0
    return max(0, told[told.rfind('"pass"') :].count('"begin"') - 1) if '"pass"' in told else 0


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
