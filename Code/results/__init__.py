"""The results of runs: reading them, figures, and pages (report, comparison, folds and seeds)."""

import os

# Before matplotlib is imported: figures become files, and a backend that is not installed here would stop the import.
os.environ["MPLBACKEND"] = "agg"
