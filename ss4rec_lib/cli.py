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
    """Run the command line.

    Args:
        arguments: Words after the program's name; by default those of the process.

    Returns:
        Exit code: 0 done, 1 a lesson failed, 2 wrong usage or an error with a message, 130
        interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.verb(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ArithmeticError) as error:
        if not _is_for_the_user(error):
            raise
        if _is_main_process():
            print(f"error: {error}", file=sys.stderr)
        return 2


def _is_for_the_user(error: Exception) -> bool:
    """Return whether the message says all there is to say; any other error is a bug."""
    # Imported only now: these errors come from packages that are heavy, and loaded by then.
    from ss4rec_lib.configuration import ConfigError
    from ss4rec_lib.data import DataError
    from ss4rec_lib.experiments import ExperimentError
    from ss4rec_lib.files import FileError
    from ss4rec_lib.lessons import LessonError
    from ss4rec_lib.training import CheckpointError, TrainingDiverged

    ours = (
        ConfigError,
        DataError,
        ExperimentError,
        FileError,
        LessonError,
        CheckpointError,
        TrainingDiverged,
    )
    return isinstance(error, ours)


def _is_main_process() -> bool:
    """Return whether this is the only process, or the first of those that a launcher started."""
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

    lessons = verbs.add_parser("lessons", help="run lessons through papermill, print a summary")
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

    evaluate = verbs.add_parser("evaluate", help="evaluate a finished run, on other conditions too")
    evaluate.add_argument("run", metavar="FOLDER")
    evaluate.add_argument("--part", choices=("test", "valid"), default="test")
    evaluate.add_argument("--mask-seen", action="store_true", help="leave seen items out")
    evaluate.add_argument(
        "--target-time", metavar="T", help="known, hidden, previous or none; as in training"
    )
    evaluate.add_argument("--max-len", metavar="N", help="or none: whole histories; as in training")
    evaluate.set_defaults(verb=_evaluate)

    recommend = verbs.add_parser("recommend", help="what to recommend to a user at a moment")
    recommend.add_argument("run", metavar="FOLDER")
    recommend.add_argument("--user", type=int, required=True, metavar="ID")
    recommend.add_argument(
        "--at", required=True, metavar="TIME", help="2001-05-01T20:00 (UTC), or seconds since 1970"
    )
    recommend.add_argument("-k", type=int, default=10, metavar="K", help="how many items")
    recommend.add_argument("--include-seen", action="store_true", help="seen items too")
    recommend.set_defaults(verb=_recommend)

    compare = verbs.add_parser("compare", help="difference of finished runs, with interval")
    compare.add_argument("a", nargs="+", metavar="FOLDER", help="runs of one model, one per seed")
    compare.add_argument(
        "--minus", nargs="+", required=True, metavar="FOLDER", help="runs of the other"
    )
    compare.add_argument(
        "--metric", default="ndcg@10", metavar="M", help="ndcg@10, hr@5, rmse, ..."
    )
    compare.add_argument("--mask-seen", action="store_true", help="leave seen items out")
    compare.set_defaults(verb=_compare)

    record = verbs.add_parser("record", help="keep a finished run in results/, renew the page")
    record.add_argument("run", metavar="FOLDER")
    record.add_argument("--as", dest="name", metavar="NAME", help="of the file in results/")
    record.add_argument(
        "--ablation",
        action="store_true",
        help="keep it among the runs that options are chosen by; the page shows their validation",
    )
    record.set_defaults(verb=_record)
    return parser


_RUN_OPTIONS = {
    "task": ("T", "ranking (default) or rating"),
    "dataset": ("NAME", "for example ml-1m, planted"),
    "path": ("P", "a folder, file or archive of your own to read"),
    "model": (
        "NAME",
        "ranking: official (default), bpr, gru4rec, sasrec, sasrec_time, popularity, "
        "recent_popularity, recent_popularity_user, item_knn, als, bpr_mf, neural_cf; rating: "
        "mean, bias, svd, svdpp, fm, fm-implicit, neural_cf, ss4rec-rating, ss4rec-ranking, "
        "ss4rec-both, ss4rec-user",
    ),
    "ordering": ("NAME", "exact-time (default) or recbole-float32"),
    "split": ("NAME", "leave-one-out (default), global-time; for ratings also random, 5-fold"),
    "min_interactions": ("K", "of the k-core filter: 5, or 0 with random and 5-fold"),
    "folds": ("N", "run only the first N of 5 folds"),
    "seed": ("N", "0"),
}


def _train_parser(train: argparse.ArgumentParser) -> None:
    # No defaults here: --resume must know what was given.
    flags = {"model": ("--model", "--preset"), "ordering": ("--protocol",)}
    for name, (metavar, text) in _RUN_OPTIONS.items():
        train.add_argument(
            *flags.get(name, (f"--{name.replace('_', '-')}",)),
            dest=name,
            metavar=metavar,
            help=text,
            type=int if metavar in "KN" else str,
        )
    train.add_argument("--config", metavar="FILE", help="a YAML file; other options overrule it")
    train.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the model or of training; may be repeated",
    )
    train.add_argument("--out", required=True, metavar="FOLDER", help="where the run goes")
    train.add_argument(
        "--resume", action="store_true", help="continue the run in FOLDER, with its options"
    )
    train.set_defaults(verb=_train)


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
    from ss4rec_lib.experiments import RunFolder, run_config, run_experiment, summary

    given = {name: getattr(options, name) for name in _RUN_OPTIONS}
    folder = RunFolder(options.out)
    folder.refuse_old_format()
    named = options.dataset is not None or options.config is not None
    resumed = options.resume and (folder.config.exists() or not named)
    saved = folder.config if resumed else None
    config = run_config(given, options.assignments, options.config, saved)
    try:
        record = run_experiment(config, options.out, options.resume, progress=_is_main_process())
    except KeyboardInterrupt:
        if _is_main_process() and folder.config.exists():
            print(f"to continue: ss4rec train --resume --out {options.out}", file=sys.stderr)
        raise
    if _is_main_process():
        print(f"{summary(record)}\nrun: {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments import evaluate_run

    print(
        evaluate_run(
            options.run, options.part, options.mask_seen, options.target_time, options.max_len
        )
    )
    return 0


def _recommend(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments import recommend_from_run

    found = recommend_from_run(
        options.run, options.user, options.at, options.k, options.include_seen
    )
    print(found.to_string(index=False))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments import compare

    found = compare(options.a, options.minus, options.metric, masked=options.mask_seen)
    print(
        f"{found.a} minus {found.b}, {found.metric.upper()}: {found.difference:+.4f} "
        f"({found.low:+.4f} to {found.high:+.4f}), 95 % interval over {found.interval_over}"
    )
    return 0


def _record(options: argparse.Namespace) -> int:
    from ss4rec_lib.experiments import record_run

    path = record_run(options.run, options.name, ablation=options.ablation)
    print(f"{path.parent.name}/{path.name}: recorded, and the page in results/ renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
