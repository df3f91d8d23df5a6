"""Errors of experiments. The command line turns each of them into one message."""

from __future__ import annotations


class ExperimentError(ValueError):
    """A run that cannot be made, continued, used or recorded; the message says why."""


class SettingsError(ExperimentError):
    """Settings that nothing can be run with; raised before any work is done."""
