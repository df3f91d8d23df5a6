"""Tools for the lessons: checked parameters, recorded results, plot style, and the runner.

The plotting helpers are loaded on first use (PEP 562), because matplotlib takes a second to import
and the command line does not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ss4rec_lib.lessons.parameters import (
    LessonError,
    Parameter,
    ParameterError,
    check_parameters,
    read_parameters,
    validate,
)
from ss4rec_lib.lessons.records import (
    RECORD_TYPE,
    RecordError,
    flatten,
    read_record,
    record,
)
from ss4rec_lib.lessons.runner import (
    LESSON_NAME,
    LessonRun,
    find_lessons,
    lesson_title,
    notebooks_folder,
    run_lessons,
)

if TYPE_CHECKING:
    from ss4rec_lib.lessons.plots import (
        DAY,
        HOUR,
        MINUTE,
        MONTH,
        YEAR,
        format_seconds,
        seconds_axis,
        use_style,
    )

__all__ = [
    "DAY",
    "HOUR",
    "LESSON_NAME",
    "MINUTE",
    "MONTH",
    "RECORD_TYPE",
    "YEAR",
    "LessonError",
    "LessonRun",
    "Parameter",
    "ParameterError",
    "RecordError",
    "check_parameters",
    "find_lessons",
    "flatten",
    "format_seconds",
    "lesson_title",
    "notebooks_folder",
    "read_parameters",
    "read_record",
    "record",
    "run_lessons",
    "seconds_axis",
    "use_style",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Load a plotting helper on first use."""
    if name in __all__:
        return getattr(importlib.import_module("ss4rec_lib.lessons.plots"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
