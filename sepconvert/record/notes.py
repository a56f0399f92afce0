"""Sentences about a run: notes say what was done, warnings what may be wrong."""


class Note(str):
    """A sentence to know of, where a plain one is a warning."""

    __slots__ = ()
