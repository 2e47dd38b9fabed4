"""The one error that means wrong use; every other of the program's own is a kind of it."""

from __future__ import annotations


class UsageError(ValueError):
    """Something that a person gave cannot be used; the message says what, where, and what to do.

    The command line prints the message as one line and ends with exit code 2.
    """


def in_one_line(error: BaseException) -> str:
    """What ``error`` says, or its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
