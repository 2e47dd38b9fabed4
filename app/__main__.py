"""`python -m app`: the same as the console script htp-fluid."""

import sys

from app.cli import main

if __name__ == "__main__":
    sys.exit(main())
