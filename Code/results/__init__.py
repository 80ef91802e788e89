"""The results of runs: reading them, figures, and pages (report, comparison, folds and seeds)."""
