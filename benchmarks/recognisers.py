"""What benchmarks of recognisers share: a Markdown table that grows row by row, model after model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from ocrslim.errors import InputError, OcrslimError
from ocrslim.graph.importers.source import ModelSource, open_model

__all__ = ["print_rows"]


def print_rows(
    script: str,
    models: Sequence[str],
    headings: Sequence[str],
    rows: Callable[[ModelSource], Iterable[Sequence[str]]],
) -> bool:
    """Print a table with the rows of every model, each row when it is there; return whether it came to its end.

    Args:
        script: whose name goes before what was wrong, which goes to stderr.
        models: names, files or folders of recognisers.
        headings: of the columns.
        rows: of one model.
    """
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
    try:
        for model in models:
            source = open_model(model)
            if source.task != "rec":
                raise InputError(f"{model}: is a detector; give recognisers")
            for row in rows(source):
                print(f"| {' | '.join(row)} |", flush=True)
    except OcrslimError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return False
    return True
