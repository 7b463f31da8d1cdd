"""The exceptions that bad input raises, each saying what was expected and what came.

All derive from the built-in exception that a caller would already catch: a wrong shape, a
wrong option or a wrong value is a ``ValueError``, a wrong dtype is a ``TypeError``, a missing
package an ``ImportError``, and too large a size a ``MemoryError``.
"""


def printable(text: str) -> str:
    r"""Return a text in which what is no printable character is written as Python does.

    Names in the files of others cannot then move the cursor of a terminal, or worse.

    Examples
    --------
    >>> print(printable("a\x1b[2J\u202eb"))
    a\x1b[2J\u202eb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Return the same of a text of several lines, which stay apart, as do the columns of tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


class ShapeError(ValueError):
    """An array has the wrong number of dimensions or the wrong size along one of them."""


class DTypeError(TypeError):
    """An array has a dtype that is not supported, or not the one of its companions."""


class NonFiniteError(ValueError):
    """An array holds NaN or infinity where finite numbers are needed."""


class DivergenceError(NonFiniteError):
    """The loss, the gradient or the update of a training step is not finite: it was not made."""


class SizeError(MemoryError):
    """Sizes ask for more memory than the machine, or the container, has: nothing has been built."""


class StateError(ValueError):
    """A state holds numbers that no state of its kind can hold, such as an sLSTM's n below 0."""


class OptionError(ValueError):
    """An option has a value outside its set, such as an unknown gate name."""


class CacheError(TypeError):
    """A backward was given a cache of another kind or size than its forward returns."""


class TextError(ValueError):
    """A text cannot be learned from: empty, binary, not UTF-8, or shorter than one window."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, of another format, or does not fit what it is loaded into."""

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


class MissingExtraError(ImportError):
    """A package is not installed that an optional part of the library needs: names the extra."""
