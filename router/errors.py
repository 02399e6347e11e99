"""The one exception of the room that reaches its callers."""


class DelegatorError(Exception):
    """The encoder's or the trained part's folder cannot be used.

    The message names the file and what is wrong.
    """
