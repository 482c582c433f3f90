"""The one exception that is the user's to fix."""


class WavdiffError(ValueError):
    """A mistake of the user's: a wrong option, file or value.

    The message names the option or the file, the rule and the value received, in one line; the command line prints
    it without a traceback. Everything else that goes wrong is a bug and keeps its traceback.
    """
