"""Errors of the lesson machinery.

All derive from `LessonError`, so that the command line can turn each of them into one message.
"""

from __future__ import annotations


class LessonError(ValueError):
    """A lesson, its parameters, its record or its exercises are not as they must be."""


class UnknownLessonError(LessonError):
    """No notebook has the name that was asked for."""


class UnknownParameterError(LessonError):
    """A parameter was given that the lesson does not declare."""


class ParameterTypeError(LessonError):
    """A parameter was given a value of another type than its default."""


class ParametersCellError(LessonError):
    """The cell tagged `parameters` is missing, repeated, or holds more than plain literals."""


class RecordError(LessonError):
    """A record holds what JSON cannot hold, or a notebook has no record, or several."""


class ExerciseError(LessonError):
    """A lesson's solution or check cells cannot be turned into an exercise."""
