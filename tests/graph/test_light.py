from __future__ import annotations

import subprocess
import sys


def test_reading_and_rewriting_models_needs_no_torch() -> None:
    """The base install has no torch; ``eval``, ``bench``, ``models`` and ``inspect`` go through these modules."""
    code = (
        "import sys; import ocrslim.graph.importers.source, ocrslim.graph.passes.canonical, ocrslim.graph.inspect,"
        " ocrslim.graph.points; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
