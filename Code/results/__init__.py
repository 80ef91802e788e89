"""The results of runs: figures, pages (report, comparison, overview), intervals, and the export to ONNX."""
