from __future__ import annotations

import pytest

from ocrslim import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_can_be_caught_as_one(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.OcrslimError)


def test_a_users_mistake_is_told_from_a_failure() -> None:
    assert issubclass(errors.ModelError, errors.InputError)
    assert issubclass(errors.DataError, errors.InputError)
    assert not issubclass(errors.EngineError, errors.InputError)
    assert not issubclass(errors.VerifyError, errors.InputError)
