"""The errors that OCRSlim raises; a user's mistake is an :class:`InputError` and ends with exit code 2."""

import re

__all__ = ["DataError", "EngineError", "InputError", "ModelError", "OcrslimError", "VerifyError"]


LONGEST = 2000  # characters of a message; a hostile file may have names of a million
# What would break the line, steer a terminal, or could not be written to one: C0 and C1 controls, the two Unicode line
# ends, and halves of surrogate pairs, which stand for bytes of a path that are no UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class OcrslimError(Exception):
    r"""Base of every error raised on purpose; its text is one line, fit to be shown to a user.

    Names out of files end up in messages, so what can't be shown is shown as a space, and a long one is cut.

    >>> str(OcrslimError("node 'a\x1b[31m\nb': unknown"))
    "node 'a [31m b': unknown"
    """

    def __str__(self) -> str:
        text = _UNPRINTABLE.sub(" ", super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


class InputError(OcrslimError):
    """Something that the user gave cannot be used; the text names it and says how to mend it."""


class ModelError(InputError):
    """A model file or folder cannot be used."""


class DataError(InputError):
    """A label file, an image or a folder of images cannot be used."""


class EngineError(OcrslimError):
    """An inference engine failed on a model that it was expected to run."""


class VerifyError(OcrslimError):
    """The exported model does not compute what the trained one computed."""
