"""Tools for the lessons: checked parameters, recorded results, figures, and the runner.

The plotting helpers are loaded on first use (PEP 562), because matplotlib takes a second to import
and the command line does not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ss4rec_lib.lessons.exercises import copy_exercises as copy_exercises
from ss4rec_lib.lessons.exercises import stop_in_view as stop_in_view
from ss4rec_lib.lessons.exercises import unused_folder as unused_folder
from ss4rec_lib.lessons.parameters import LessonError as LessonError
from ss4rec_lib.lessons.parameters import Parameter as Parameter
from ss4rec_lib.lessons.parameters import ParameterError as ParameterError
from ss4rec_lib.lessons.parameters import check_choice as check_choice
from ss4rec_lib.lessons.parameters import check_parameters as check_parameters
from ss4rec_lib.lessons.parameters import read_parameters as read_parameters
from ss4rec_lib.lessons.records import RECORD_TYPE as RECORD_TYPE
from ss4rec_lib.lessons.records import RecordError as RecordError
from ss4rec_lib.lessons.records import compare_records as compare_records
from ss4rec_lib.lessons.records import flatten as flatten
from ss4rec_lib.lessons.records import read_record as read_record
from ss4rec_lib.lessons.records import record as record
from ss4rec_lib.lessons.runner import DEEPER as DEEPER
from ss4rec_lib.lessons.runner import LESSON_NAME as LESSON_NAME
from ss4rec_lib.lessons.runner import LessonRun as LessonRun
from ss4rec_lib.lessons.runner import find_lessons as find_lessons
from ss4rec_lib.lessons.runner import lesson_number as lesson_number
from ss4rec_lib.lessons.runner import notebooks_folder as notebooks_folder
from ss4rec_lib.lessons.runner import run_lessons as run_lessons

if TYPE_CHECKING:
    from ss4rec_lib.lessons.plots import DAY as DAY
    from ss4rec_lib.lessons.plots import HOUR as HOUR
    from ss4rec_lib.lessons.plots import MINUTE as MINUTE
    from ss4rec_lib.lessons.plots import MONTH as MONTH
    from ss4rec_lib.lessons.plots import YEAR as YEAR
    from ss4rec_lib.lessons.plots import format_seconds as format_seconds
    from ss4rec_lib.lessons.plots import seconds_axis as seconds_axis
    from ss4rec_lib.lessons.plots import use_style as use_style
    from ss4rec_lib.lessons.widgets import Choice as Choice
    from ss4rec_lib.lessons.widgets import FigureError as FigureError
    from ss4rec_lib.lessons.widgets import LiveCurve as LiveCurve
    from ss4rec_lib.lessons.widgets import Slider as Slider
    from ss4rec_lib.lessons.widgets import Toggle as Toggle
    from ss4rec_lib.lessons.widgets import explore as explore
    from ss4rec_lib.lessons.widgets import show as show
    from ss4rec_lib.lessons.widgets import track as track

_WIDGETS = ("Choice", "FigureError", "LiveCurve", "Slider", "Toggle", "explore", "show", "track")


def __getattr__(name: str) -> Any:
    """Load a plotting helper on first use."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "widgets" if name in _WIDGETS else "plots"
    return getattr(importlib.import_module(f"ss4rec_lib.lessons.{module}"), name)
