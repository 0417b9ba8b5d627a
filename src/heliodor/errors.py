"""Exceptions. Every error a user can cause derives from HeliodorError and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeliodorError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(HeliodorError):
    """The structure, file or option handed in cannot be used as it is."""

    exit_code = 2


class ModelError(HeliodorError):
    """The model cannot describe what it was asked about (element, charge, cutoff)."""

    exit_code = 2


class CheckpointError(HeliodorError):
    """A model file is missing, damaged, untrusted or of an unknown kind."""

    exit_code = 2


class DownloadError(HeliodorError):
    """A model could not be fetched."""

    exit_code = 2


class SimulationError(HeliodorError):
    """The dynamics left the range where the model, or physics, means anything."""

    exit_code = 1


class MissingExtraError(HeliodorError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'heliodor[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        # so that it passes from one process to another
        return type(self), (self.package, self.extra)


def suggestion(word: object, known: Iterable[str]) -> str:
    """For the end of a message about an unknown word: ``"; did you mean 'x'?"``, or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
