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
        Exit code: 0 done, 1 a lesson failed, 2 wrong usage or an error with a message, 130
        interrupted.
    """
    options = _parser().parse_args(arguments)
    from ss4rec_lib.lessons import LessonError

    try:
        return options.verb(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except LessonError as error:
        return _refuse(error)
    except (ValueError, OSError, ArithmeticError) as error:
        if not _is_for_the_user(error):
            raise
        return _refuse(error)


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message says all there is to say; anything else is a bug, with its traceback."""
    # Imported only now: these errors come from packages that are heavy, and loaded by then.
    from ss4rec_lib.data import DataError
    from ss4rec_lib.experiments.errors import ExperimentError
    from ss4rec_lib.files import FileError
    from ss4rec_lib.training import CheckpointError, TrainingDiverged

    ours = (DataError, ExperimentError, FileError, CheckpointError, TrainingDiverged)
    return isinstance(error, ours)


def _refuse(error: Exception) -> int:
    if _speaks():
        print(f"error: {error}", file=sys.stderr)
    return 2


def _speaks() -> bool:
    """Whether this is the only process, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


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

    _train_parser(verbs.add_parser("train", help="train and evaluate a model, into a folder"))

    _rate_parser(verbs.add_parser("rate", help="fit and judge a model of ratings, into a folder"))

    evaluate = verbs.add_parser("evaluate", help="evaluate a finished run, perhaps in another arm")
    evaluate.add_argument("run", metavar="FOLDER")
    evaluate.add_argument("--part", choices=("test", "valid"), default="test")
    evaluate.add_argument("--mask-seen", action="store_true", help="take seen items out")
    evaluate.add_argument(
        "--target-time", metavar="ARM", help="known, hidden, previous or none; as in training"
    )
    evaluate.add_argument("--max-len", metavar="N", help="or none: whole histories; as in training")
    evaluate.set_defaults(verb=_evaluate)

    recommend = verbs.add_parser("recommend", help="what a user may want next, at a moment")
    recommend.add_argument("run", metavar="FOLDER")
    recommend.add_argument("--user", type=int, required=True, metavar="ID")
    recommend.add_argument(
        "--at", required=True, metavar="TIME", help="2001-05-01T20:00 (UTC), or seconds since 1970"
    )
    recommend.add_argument("-k", type=int, default=10, metavar="K", help="how many items")
    recommend.add_argument("--include-seen", action="store_true", help="seen items too")
    recommend.set_defaults(verb=_recommend)

    record = verbs.add_parser("record", help="keep a finished run in results/, renew the table")
    record.add_argument("run", metavar="FOLDER")
    record.add_argument("--as", dest="name", metavar="NAME", help="of the file in results/")
    record.add_argument(
        "--ablation", action="store_true",
        help="keep it among the runs that settings are chosen by; the table shows their validation",
    )  # fmt: skip
    record.set_defaults(verb=_record)
    return parser


def _train_parser(train: argparse.ArgumentParser) -> None:
    # No defaults here: --resume must know what was given.
    train.add_argument("--dataset", metavar="NAME", help="for example ml-1m, planted")
    train.add_argument("--path", metavar="P", help="a folder, file or archive of your own to read")
    train.add_argument(
        "--preset", metavar="NAME",
        help="model and configuration: official (default), bpr, gru4rec, sasrec, sasrec_time; "
        "fitted in one go: popularity, recent_popularity, recent_popularity_user, item_knn, als, "
        "bpr_mf, neural_cf",
    )  # fmt: skip
    train.add_argument(
        "--protocol",
        dest="ordering",
        metavar="NAME",
        help="exact-time (default) or recbole-float32",
    )
    train.add_argument(
        "--split", metavar="NAME",
        help="leave-one-out (default) or global-time: all users cut at the same two moments",
    )  # fmt: skip
    train.add_argument(
        "--min-interactions", type=int, metavar="K", help="of the k-core filter, 5; 0 for none"
    )
    train.add_argument("--seed", type=int, metavar="N", help="0")
    train.add_argument("--out", required=True, metavar="FOLDER", help="where the run goes")
    train.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the model's configuration or of TrainingConfig; may be repeated",
    )
    train.add_argument(
        "--resume", action="store_true", help="go on with the run in FOLDER, under its settings"
    )
    train.set_defaults(verb=_train)


def _rate_parser(rate: argparse.ArgumentParser) -> None:
    rate.add_argument("--dataset", metavar="NAME", help="for example ml-100k")
    rate.add_argument("--path", metavar="P", help="a folder, file or archive of your own to read")
    rate.add_argument(
        "--model", metavar="NAME",
        help="mean, bias, svd, svdpp, fm, fm-implicit, neural_cf, ss4rec-rating, ss4rec-ranking, "
        "ss4rec-both or ss4rec-user",
    )  # fmt: skip
    rate.add_argument(
        "--split", metavar="NAME", help="random, leave-last-out, global-time or 5-fold",
    )  # fmt: skip
    rate.add_argument(
        "--protocol", dest="ordering", metavar="NAME",
        help="exact-time (default) or recbole-float32",
    )  # fmt: skip
    rate.add_argument(
        "--min-interactions", type=int, metavar="K",
        help="of the k-core filter: 5, with random and 5-fold 0 (none)",
    )  # fmt: skip
    rate.add_argument("--folds", type=int, metavar="N", help="run the first N of 5 folds only")
    rate.add_argument("--seed", type=int, metavar="N", help="0")
    rate.add_argument("--out", required=True, metavar="FOLDER", help="where the run goes")
    rate.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the model; may be repeated",
    )  # fmt: skip
    rate.add_argument(
        "--resume", action="store_true", help="go on with the run in FOLDER, under its settings"
    )
    rate.set_defaults(verb=_rate)


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
    from ss4rec_lib.lessons import LessonError, run_lessons

    given = list(options.parameters)
    if options.dataset is not None:
        given.append(["dataset", options.dataset])
    parameters = dict(given)
    if len(parameters) < len(given):
        raise LessonError("a parameter was given more than once; give each name one value")
    if "dataset" in parameters:
        from ss4rec_lib.data import DATASETS, lookup

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


def _train(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments.folder import RunFolder
    from ss4rec_lib.experiments.record import summary
    from ss4rec_lib.experiments.run import run_experiment
    from ss4rec_lib.experiments.settings import settings_from_options

    names = ("dataset", "path", "ordering", "split", "min_interactions", "preset", "seed")
    saved = RunFolder(options.out).settings
    settings = settings_from_options(
        {name: getattr(options, name) for name in names},
        options.changes,
        saved if options.resume and (saved.exists() or options.dataset is None) else None,
    )
    try:
        record = run_experiment(settings, options.out, options.resume, progress=_speaks())
    except KeyboardInterrupt:
        if _speaks() and saved.exists():
            print(f"to go on: ss4rec train --resume --out {options.out}", file=sys.stderr)
        raise
    if _speaks():
        print(f"{summary(record)}\nrun: {options.out}")
    return 0


def _rate(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments.rate import rating_summary, run_rating_experiment
    from ss4rec_lib.experiments.rate_folder import RateFolder
    from ss4rec_lib.experiments.rate_settings import rate_settings_from_options

    names = ("dataset", "path", "model", "split", "ordering", "min_interactions", "folds", "seed")
    saved = RateFolder(options.out).settings
    settings = rate_settings_from_options(
        {name: getattr(options, name) for name in names},
        options.changes,
        saved if options.resume and (saved.exists() or options.dataset is None) else None,
    )
    record = run_rating_experiment(settings, options.out, options.resume)
    print(f"{rating_summary(record)}\nrun: {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments.finished import evaluate_run

    print(
        evaluate_run(
            options.run, options.part, options.mask_seen, options.target_time, options.max_len
        )
    )
    return 0


def _recommend(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments.finished import recommend_from_run

    found = recommend_from_run(
        options.run, options.user, options.at, options.k, options.include_seen
    )
    print(found.to_string(index=False))
    return 0


def _record(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments.keep import keep
    from ss4rec_lib.experiments.rate_folder import holds_ratings
    from ss4rec_lib.experiments.rating_keep import keep_ratings

    keep_it = keep_ratings if holds_ratings(options.run) else keep
    path = keep_it(options.run, options.name, ablation=options.ablation)
    print(f"{path.parent.name}/{path.name}: recorded, and the table in results/ renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
