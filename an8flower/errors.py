"""The errors that users meet: one sentence that says what came, what was expected and the remedy."""


class Refusal(Exception):
    """Something that was given cannot be used: its text is one sentence; the command line exits with `exit_code`."""

    exit_code = 1


class WrongUsage(Refusal):
    """The words of the call are wrong: an unknown name, an option out of range."""

    exit_code = 2


class DoubtfulModel(UserWarning):
    """A model is at chance on the data, or far below the accuracy that its file states: its scores mean little."""


class NotApplicable(Refusal):
    """A method cannot run on this kind of model: a cell is skipped for it, not failed."""
