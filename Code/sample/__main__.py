"""`python -m Code.sample` draws the generated sample."""

import sys

from .draw import main

if __name__ == "__main__":
    sys.exit(main())
