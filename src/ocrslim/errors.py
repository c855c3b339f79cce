"""The errors that OCRSlim raises; a user's mistake is an :class:`InputError` and ends with exit code 2."""

__all__ = ["DataError", "EngineError", "InputError", "ModelError", "OcrslimError", "VerifyError"]


class OcrslimError(Exception):
    """Base of every error raised on purpose; its text is one line, fit to be shown to a user."""


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
