"""What ``ocrslim eval`` scores, by its options: a model, what a file of the example names, or two models on pages."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from ocrslim.config.paddleslim import load_config
from ocrslim.end_to_end import evaluate_pages
from ocrslim.errors import InputError
from ocrslim.evaluate import evaluate_file
from ocrslim.example import evaluate_example, override
from ocrslim.reader import DROP_SCORE, load_pair

__all__ = ["evaluate_options"]


def evaluate_options(options: argparse.Namespace, console: Console) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Score what the options name.

    Args:
        options: of ``ocrslim eval``.
        console: where progress is shown.

    Returns:
        tuple: what ``--json`` prints, and what has to be said about it.

    Raises:
        InputError: the options name too little or too much.
    """
    if options.drop_score is not None and not options.end_to_end:
        raise InputError("eval --drop-score: for --end-to-end, where lines of little confidence are left out")
    if options.end_to_end:
        return _evaluate_end_to_end(options, console), ()
    if options.config_path:
        return _evaluate_config(options, console)
    return _evaluate_model(options, console), ()


def _evaluate_config(options: argparse.Namespace, console: Console) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``ocrslim eval --config_path``."""
    config = override(load_config(options.config_path), evaluate=options.data, data_dir=options.data_dir)
    result, warnings = evaluate_example(
        config,
        model=options.model,
        dictionary=options.dict,
        profile=options.profile,
        engine=options.engine,
        threads=options.threads,
        limit=options.limit,
        loose=options.loose,
        console=console,
    )
    return result.to_json(), (*config.warnings, *warnings)


def _evaluate_model(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """``ocrslim eval MODEL --data LABELS``."""
    if options.model is None or options.data is None:
        raise InputError("eval: name a MODEL and its --data LABELS, or a --config_path YAML that says both")
    return evaluate_file(
        options.model,
        options.data,
        dictionary=options.dict,
        data_dir=options.data_dir,
        task=options.task,
        engine=options.engine,
        profile=options.profile,
        loose=options.loose,
        rec_width=options.rec_width,
        threads=options.threads,
        limit=options.limit,
        console=console,
    ).to_json()


def _evaluate_end_to_end(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """``ocrslim eval --end-to-end --det DET --rec REC --data LABELS``."""
    if options.det is None or options.rec is None or options.data is None or options.model is not None:
        raise InputError("eval --end-to-end: name --det MODEL, --rec MODEL and --data LABELS, and no other MODEL")
    for name, usual in (("config_path", None), ("task", None), ("rec_width", "dynamic")):
        if getattr(options, name) != usual:
            raise InputError(f"eval --end-to-end: leave out --{name.replace('_', '-')}, which is for one model")
    reader = load_pair(
        options.det,
        options.rec,
        engine=options.engine,
        profile=options.profile,
        dictionary=options.dict,
        threads=options.threads,
        drop_score=DROP_SCORE if options.drop_score is None else options.drop_score,
    )
    return evaluate_pages(
        reader, options.data, data_dir=options.data_dir, loose=options.loose, limit=options.limit, console=console
    ).to_json()
