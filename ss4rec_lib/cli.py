"""The command `ss4rec`: every verb calls one function of the package.

Imports happen inside the verbs, so that `ss4rec --help` answers at once. Errors that a user can do
something about become one message and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import ss4rec_lib


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Words after the program's name; by default those of the process.

    Returns:
        Exit code: 0 done, 1 a lesson failed, 2 wrong usage or a data error, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    from ss4rec_lib.lessons.errors import LessonError

    try:
        return options.verb(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except LessonError as error:
        return _refuse(error)
    except ValueError as error:
        # Imported only now: a data error can only come from the data package, which is heavy.
        from ss4rec_lib.data.errors import DataError

        if not isinstance(error, DataError):
            raise
        return _refuse(error)


def _refuse(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ss4rec",
        description="Continuous-time sequential recommendation with state space models.",
    )
    parser.add_argument("--version", action="version", version=f"ss4rec {ss4rec_lib.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    data = verbs.add_parser("data", help="fetch and verify a data set, print what it holds")
    data.add_argument("name", metavar="NAME", help="for example ml-100k, ml-1m, planted")
    data.add_argument("--path", metavar="P", help="a folder, file or archive of your own to read")
    data.set_defaults(verb=_data)

    lessons = verbs.add_parser("lessons", help="run lessons through papermill, print a table")
    lessons.add_argument(
        "names", nargs="*", metavar="NAME", help="04, train_ss4rec, ...; none: all"
    )
    lessons.add_argument("--dataset", metavar="NAME", help="short for -p dataset NAME")
    lessons.add_argument(
        "-p",
        "--parameter",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a value for a lesson's parameters cell; may be repeated",
    )
    lessons.add_argument("--out", default=os.path.join("runs", "lessons"), metavar="FOLDER")
    lessons.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="longest time of one cell"
    )
    lessons.set_defaults(verb=_lessons)
    return parser


def _data(options: argparse.Namespace) -> int:
    from ss4rec_lib.data import fetch, load_movielens

    if options.path is None and options.name != "planted":
        fetch(options.name)
    ratings = load_movielens(options.name, path=options.path)
    print(
        f"{options.name}: {len(ratings):,} ratings, {ratings['user_id'].nunique():,} users, "
        f"{ratings['item_id'].nunique():,} items"
    )
    print(f"source: {ratings.attrs.get('source', 'generated')}")
    return 0


def _lessons(options: argparse.Namespace) -> int:
    from ss4rec_lib.lessons.errors import LessonError
    from ss4rec_lib.lessons.run import run_lessons

    given = list(options.parameters)
    if options.dataset is not None:
        given.append(["dataset", options.dataset])
    parameters = dict(given)
    if len(parameters) < len(given):
        raise LessonError("a parameter was given more than once; give each name one value")
    if "dataset" in parameters:
        from ss4rec_lib.data.catalogue import DATASETS, lookup

        if parameters["dataset"] not in DATASETS:
            lookup(parameters["dataset"])  # its error, here and not once in every lesson
    runs = run_lessons(
        options.names,
        out=options.out,
        parameters=parameters,
        timeout=options.timeout,
        from_text=True,
    )
    return 1 if any(run.error is not None for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
