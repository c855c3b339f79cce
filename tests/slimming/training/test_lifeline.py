"""Beats and what their absence leads to, with a store in this process; real processes are in test_distributed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from ocrslim.slimming.training import lifeline as module
from ocrslim.slimming.training.lifeline import LOST, Lifeline, LostRankError, Place, report_lost


class Store:
    """Texts by name, as the processes' common store holds them; it may stop answering, or refuse."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.gone = False

    def _wait(self) -> None:
        if self.gone:
            raise RuntimeError("connection reset")
        self.answers.wait(30)

    def set(self, key: str, value: str) -> None:
        self._wait()
        self.values[key] = value

    def get(self, key: str) -> bytes:
        self._wait()
        return self.values[key].encode()

    def check(self, keys: list[str]) -> bool:
        self._wait()
        return all(key in self.values for key in keys)

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        self._wait()
        return self.values.setdefault(key, value).encode()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(module, "BEAT", 0.02)
    monkeypatch.setattr(module, "SILENT", 0.4)
    monkeypatch.setattr(module, "GRACE", 5.0)
    store = Store()
    yield store
    store.answers.set()


@pytest.fixture
def line(store: Store) -> Iterator[Lifeline]:
    """Return that of rank 0 of two; rank 1, this process as well, beats as long as the store answers."""
    line, done = Lifeline(lambda: store, 0, 2), threading.Event()
    store.values |= {"place/1": json.dumps(asdict(Place.here(1))), "beat/1": "0"}

    def beat() -> None:
        while not done.wait(0.02):
            store.values["beat/1"] = str(time.monotonic())

    other = threading.Thread(target=beat)
    other.start()
    line.start(10.0)
    yield line
    done.set()
    store.answers.set()
    line.stop()
    other.join()


def ended_by(seconds: float) -> LostRankError:
    """Return the loss that ends the main thread's waiting."""
    try:
        for _ in range(int(seconds / 0.01)):  # a long wait would be ended with the process
            time.sleep(0.01)
    except LostRankError as error:
        return error
    pytest.fail("nobody ended it")


def test_who_beats_is_not_lost(line: Lifeline, store: Store) -> None:
    time.sleep(1.0)
    assert LOST not in store.values
    assert int(store.values["beat/0"]) > 5


def test_who_does_not_beat_is_named(line: Lifeline, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dict(store.values)

    class Frozen(dict[str, str]):
        def __setitem__(self, key: str, value: str) -> None:
            if key != "beat/1":
                super().__setitem__(key, value)

    store.values = Frozen(kept)
    assert "has not answered for 0 seconds" in str(ended_by(5.0))


def test_what_another_wrote_down_ends_the_work(line: Lifeline, store: Store) -> None:
    report_lost(store, "rank 7 (process 1 on far) was lost")
    report_lost(store, "later ones are what came of it")
    assert "rank 7 (process 1 on far) was lost; the same command goes on" in str(ended_by(5.0))


def test_a_store_that_does_not_answer_is_a_machine_that_is_gone(line: Lifeline, store: Store) -> None:
    """Its connection is open and silent, as where a machine has lost its power; an operation would wait for minutes."""
    began = time.monotonic()
    store.answers.clear()
    assert "the machine of rank 0, where all meet, was lost" in str(ended_by(10.0))
    assert 0.3 < time.monotonic() - began < 5.0


def test_a_store_that_is_gone_is_said_at_once(line: Lifeline, store: Store) -> None:
    store.gone = True
    assert "the machine of rank 0, where all meet, was lost" in str(ended_by(10.0))


def test_who_does_not_come_is_named(store: Store) -> None:
    with pytest.raises(LostRankError, match="rank 1, 2: not here after 0 seconds; 3 were to come"):
        Lifeline(lambda: store, 0, 3).start(0.2)


def test_who_was_lost_before_the_roll_call_is_not_waited_for(store: Store) -> None:
    assert report_lost(store, "rank 1 (process 4) ended with code 1", "far")
    assert not report_lost(store, "rank 0 (process 3) ended with code 1")
    began = time.monotonic()
    with pytest.raises(LostRankError, match=r"rank 1 \(process 4\) ended with code 1; the same command goes on"):
        Lifeline(lambda: store, 0, 2).start(60.0)
    assert time.monotonic() - began < 5.0


def test_a_store_that_goes_before_the_roll_call_is_no_traceback(store: Store) -> None:
    line = Lifeline(lambda: store, 0, 2)
    store.gone = True
    with pytest.raises(LostRankError, match="the machine of rank 0, where all meet, was lost"):
        line.start(60.0)
