"""``python -m ocrslim`` is the console script."""

import sys

from ocrslim.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
