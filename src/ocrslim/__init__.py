"""OCRSlim makes PP-OCR models small and fast, and measures what that cost on the engine that runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from ocrslim.reader import Detector, Reader, Recognizer

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


@overload
def load(
    model: str | Path,
    rec: None = None,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: str | Path | None = None,
    threads: int = 2,
) -> Detector | Recognizer: ...


@overload
def load(
    model: str | Path,
    rec: str | Path,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: str | Path | None = None,
    threads: int = 2,
    drop_score: float = 0.5,
) -> Reader: ...


def load(
    model: str | Path,
    rec: str | Path | None = None,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: str | Path | None = None,
    threads: int = 2,
    drop_score: float = 0.5,
) -> Detector | Recognizer | Reader:
    """Load a model, or a det and a rec model as a pair; what is returned is called with an image.

    Args:
        model: an official name, a model file or a folder; see :func:`ocrslim.graph.importers.source.open_model`.
        rec: the recogniser that goes with a detector.
        engine: one of :data:`ocrslim.engines.session.ENGINES` or :data:`ocrslim.engines.session.PADDLE_ENGINES`;
            ``None`` takes the one that an int8 model was made for, else ``openvino``.
        profile: see :func:`ocrslim.config.profile.load_profile`; each model's own where ``None``.
        dictionary: of a recogniser that comes without one, a file.
        threads: of the engine.
        drop_score: a pair leaves out lines that were read with less confidence, 0 to 1.

    Returns:
        Detector | Recognizer | Reader: a detector finds boxes, a recogniser reads the picture of one line, a pair
        reads a page.

    Raises:
        InputError: a model, the engine or a setting cannot be used.
        EngineError: the engine cannot run the model.
    """
    # An engine is a second of imports, which the command line pays for only where it runs one.
    from ocrslim.reader import load_model, load_pair

    if rec is None:
        return load_model(model, engine=engine, profile=profile, dictionary=dictionary, threads=threads)
    return load_pair(
        model, rec, engine=engine, profile=profile, dictionary=dictionary, threads=threads, drop_score=drop_score
    )
