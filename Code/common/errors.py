"""Errors whose text is meant for the person at the terminal."""


class UsageError(ValueError):
    """A flag asks for what cannot be done here; the text names the flag and the way out."""


class WriteError(UsageError):
    """The disk refuses a file of a run; what was written before is whole."""


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became NaN or infinite; the weights are useless from there on."""
