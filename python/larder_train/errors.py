"""The one exception that the command line turns into a sentence and exit code 2."""


class InputError(Exception):
    """A file, an option or an environment that cannot be used; the message names it."""
