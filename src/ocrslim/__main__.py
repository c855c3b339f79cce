"""``python -m ocrslim`` is the console script."""

import sys

from ocrslim.cli import main

if __name__ == "__main__":
    sys.exit(main())
