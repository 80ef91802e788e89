"""`python -m Code.data.sample` draws the generated sample."""

import sys

from Code.data.sample import main

if __name__ == "__main__":
    sys.exit(main())
