"""Exceptions for invalid input, whose messages state what was expected and what was given.

Each derives from the corresponding built-in exception: ``ValueError`` for a wrong shape, option or
value, ``TypeError`` for a wrong dtype or cache, ``ImportError`` for a missing package, and
``MemoryError`` for too large a size.
"""


def printable(text: str) -> str:
    r"""Return a text with non-printable characters escaped as in Python.

    This prevents names in untrusted files from controlling a terminal.

    Examples
    --------
    >>> print(printable("a\x1b[2J\u202eb"))
    a\x1b[2J\u202eb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Apply :func:`printable` to a text, but keep its line breaks and tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


class ShapeError(ValueError):
    """An array has the wrong number of dimensions or the wrong size along one of them."""


class DTypeError(TypeError):
    """An array has a dtype that is not supported, or differs from that of other arrays."""


class NonFiniteError(ValueError):
    """An array contains NaN or infinity where finite numbers are required."""


class DivergenceError(NonFiniteError):
    """The loss, the gradient or the update of a training step is not finite; no update was made."""


class SizeError(MemoryError):
    """Sizes require more memory than the machine or the container has; nothing was built."""


class StateError(ValueError):
    """A state is unreachable, such as an sLSTM state with n below 0."""


class OptionError(ValueError):
    """An option has an invalid value, such as an unknown gate name."""


class CacheError(TypeError):
    """A backward was given a cache that its forward did not return."""


class TextError(ValueError):
    """A text cannot be used for training: empty, binary, not UTF-8, or shorter than one window."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, has another format, or does not fit the model it is loaded into."""

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


class MissingExtraError(ImportError):
    """A package for an optional part is not installed; the message contains the extra."""
