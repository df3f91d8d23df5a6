"""Every way the data can be unusable, by name.

All errors derive from `DataError`, itself a `ValueError`, so that a caller can catch the family
(the command line prints the message without a traceback) or one member of it. A message names the
value, what was expected and what to do; it is raised before any work is lost.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Base of everything that can be wrong with data, its files or its sources."""


class UnknownDatasetError(DataError):
    """A dataset name that is not in the catalogue."""

    @classmethod
    def for_name(cls, name: object, known: Iterable[str]) -> UnknownDatasetError:
        """Build the error for `name`, suggesting the nearest of the `known` names.

        Args:
            name: what was asked for.
            known: every valid name, in the order to list them.

        Returns:
            The error, ready to be raised.
        """
        known = list(known)
        near = difflib.get_close_matches(str(name).strip().lower(), known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"unknown dataset {name!r}.{hint} Known datasets: {', '.join(known)}.")


class UnusablePathError(DataError):
    """A path named by the user (argument or environment variable) that holds no usable data."""


class HashMismatchError(DataError):
    """A downloaded or cached file whose content is not the published one."""


class CorruptFileError(DataError):
    """A truncated or damaged archive, or a line that cannot be read (named by its number)."""


class UnsafeArchiveError(DataError):
    """An archive with a member that would land outside the folder it belongs to."""


class MissingColumnError(DataError):
    """A ratings table without one of the columns it needs."""


class InvalidRatingsError(DataError):
    """A value no ratings table may hold: NaN, a fractional id, a time in milliseconds, ..."""


class DuplicateRatingsError(InvalidRatingsError):
    """The same user, item and timestamp on more than one row."""


class EmptyFilterError(DataError):
    """A filter that leaves nothing."""


class DownloadError(DataError):
    """One source that could not be fetched; the next one is tried."""


class SourcesExhaustedError(DataError):
    """No source gave the dataset: lists what was tried, why each failed and what to do by hand."""


class UnverifiedSourcesError(SourcesExhaustedError, HashMismatchError):
    """No source gave the dataset, and one delivered a file that is not the published one."""


class DataWarning(UserWarning):
    """Data that is usable but not what one would assume, such as an unofficial file."""


class NotEnoughInteractionsWarning(DataWarning):
    """Users with too few interactions for a split, counted and kept in training only."""
