"""Damages what the program reads, its own files included, and looks for anything but a result or a clear refusal."""
