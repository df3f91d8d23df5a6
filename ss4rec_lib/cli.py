"""The command `ss4rec`: every verb calls one function of the package.

Imports happen inside the verbs, so that `ss4rec --help` answers at once. Errors that a user can do
something about become one message and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ss4rec_lib


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the words of the process.

    Return the exit code: 0 done, 1 a lesson failed, 2 wrong usage or an error with a message, 130
    interrupted, 141 the reader of the output has gone (`ss4rec evaluate RUN | head -1`).
    """
    try:
        try:
            code = _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that the signal SIGPIPE has ended
    if training := sys.modules.get("ss4rec_lib.training"):  # most verbs do not load PyTorch
        training.leave(code)
    return code


def _run(words: Sequence[str]) -> int:
    # argparse takes -1e3 and -inf for options, unless a space is in front.
    numbers = re.compile(r"-[.\d]+\w*([eE][-+]?\d+)?|-\.?(inf|nan)", re.IGNORECASE)
    words = [f" {word}" if numbers.fullmatch(word) else word for word in words]
    options = _parser().parse_args(words)
    try:
        return options.verb(options) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # The errors of this package say what to do; training that diverged is a FloatingPointError.
        ours = type(error).__module__.startswith(("ss4rec_lib.", "workflow."))
        if not ours and not isinstance(error, FloatingPointError):
            raise  # a bug
        if _is_main_process():
            print(f"error: {error}", file=sys.stderr)
        return 2


def _is_main_process() -> bool:
    """Return whether this is the only process, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _parser() -> argparse.ArgumentParser:
    about = "Continuous-time sequential recommendation with state space models."
    parser = argparse.ArgumentParser(prog="ss4rec", description=about)
    parser.add_argument("--version", action="version", version=f"ss4rec {ss4rec_lib.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Callable[[argparse.Namespace], int | None], text: str) -> Any:
        made = verbs.add_parser(name, help=text)
        made.set_defaults(verb=verb)
        return made.add_argument

    data = add("data", _data, "fetch and verify a data set, print what it holds")
    data("name", metavar="NAME", help="ml-100k, ml-1m, planted, ..., or a file of your own")

    lessons = add("lessons", _lessons, "run lessons through papermill, print a summary")
    lessons("names", nargs="*", metavar="NAME", help="04, 02a, deeper, ...; none: the core")
    lessons("--dataset", metavar="NAME", help="short for -p dataset NAME; a name, or a file")
    text = "a value for a lesson's parameters cell; may be repeated"
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE"), "dest": "parameters", "help": text}
    lessons("-p", "--parameter", action="append", default=[], **pair)
    lessons("--out", default=os.path.join("runs", "lessons"), metavar="FOLDER")
    lessons("--timeout", type=float, metavar="SECONDS", help="longest time of one cell")

    exercises = add("exercises", _exercises, "copy the exercises; answers are never overwritten")
    exercises("names", nargs="*", metavar="NAME", help="as for lessons; none: all")
    exercises("--to", default="work", metavar="FOLDER", help="work, which git ignores")

    train = add("train", _train, "train and evaluate a model, into a folder")
    for name, (flags, metavar, text) in _RUN_OPTIONS.items():  # no defaults, for --resume
        kind = int if metavar in "KN" else str
        train(*flags.split(), dest=name, metavar=metavar, help=text, type=kind)
    train("--config", metavar="FILE", help="a YAML file; other options overrule it")
    text = "an option of the model or of training; may be repeated"
    pair = {"metavar": "KEY=VALUE", "dest": "assignments", "help": text}
    train("--set", action="append", default=[], **pair)
    train("--out", required=True, metavar="FOLDER", help="where the run goes")
    train("--resume", action="store_true", help="continue the run in FOLDER, with its options")

    evaluate = add("evaluate", _evaluate, "evaluate a finished run, on other conditions too")
    evaluate("run", nargs="+", metavar="FOLDER", help="of a run; several are ranked together")
    evaluate("--part", choices=("test", "valid"), default="test")
    evaluate("--target-time", metavar="T", help="known, hidden, previous or none; as trained")
    evaluate("--max-len", metavar="N", help="or none: whole histories; as in training")

    recommend = add("recommend", _recommend, "what to recommend to a user at a moment")
    recommend("run", metavar="FOLDER")
    recommend("--user", required=True, metavar="ID", help="as in the data")
    recommend("--at", required=True, metavar="TIME", help="2001-05-01T20:00 (UTC), Unix seconds")
    recommend("-k", type=int, default=10, metavar="K", help="how many items")
    recommend("--include-seen", action="store_true", help="seen items too")

    compare = add("compare", _compare, "difference of finished runs, with interval")
    compare("a", nargs="+", metavar="FOLDER", help="runs of one model, one per seed")
    compare("--minus", nargs="+", required=True, metavar="FOLDER", help="runs of the other")
    compare("--metric", default="ndcg@10", metavar="M", help="ndcg@10, hr@5, rmse, ...")

    record = add("record", _record, "keep a finished run in results/, renew the page")
    record("run", metavar="FOLDER")
    record("--as", dest="name", metavar="NAME", help="of the file in results/")
    record("--ablation", action="store_true", help="for the runs that options are chosen by")

    batch = add("batch", _batch, "run an experiment file: many runs, and their leaderboard")
    batch("file", metavar="EXPERIMENT.yaml", help="see workflow/README.md")
    batch("--out", default=os.path.join("runs", "batch"), metavar="FOLDER", help="the store")
    batch("--jobs", type=int, default=1, metavar="N", help="how many at once; 1")
    batch("--cores", type=int, metavar="N", help="that they share; all of this machine")
    batch("--profile", metavar="NAME", help="of a cluster: slurm, kubernetes, or a folder")
    batch("--dry-run", action="store_true", help="show what would be run")

    for verb in (data, evaluate, recommend):
        verb("--path", metavar="P", help=_RUN_OPTIONS["path"][-1])
    for verb in (evaluate, compare):
        verb("--mask-seen", action="store_true", help="leave seen items out")
    add("doctor", _doctor, "check whether this machine is ready for the lessons")
    return parser


_MODELS = (
    "ranking: official (default), plus, bpr, gru4rec, sasrec, sasrec_time, popularity, "
    "recent_popularity, recent_popularity_user, item_knn, als, bpr_mf, neural_cf; rating: mean, "
    "bias, svd, svdpp, fm, fm-implicit, neural_cf, ss4rec-rating, ss4rec-ranking, ss4rec-both, "
    "ss4rec-user"
)
_SPLITS = "leave-one-out (default), global-time; for ratings also random, 5-fold"
_RUN_OPTIONS = {  # flags, metavar (K and N are whole numbers) and help
    "task": ("--task", "T", "ranking (default) or rating"),
    "dataset": ("--dataset", "NAME", "for example ml-1m, planted, or a file of your own"),
    "path": ("--path", "P", "another place of the data: a folder, file or archive"),
    "model": ("--model --preset", "NAME", _MODELS),
    "ordering": ("--protocol", "NAME", "exact-time (default) or recbole-float32"),
    "split": ("--split", "NAME", _SPLITS),
    "min_interactions": ("--min-interactions", "K", "of the k-core: 5, or 0 with random, 5-fold"),
    "folds": ("--folds", "N", "run only the first N of 5 folds"),
    "seed": ("--seed", "N", "0"),
}


def _data(options: argparse.Namespace) -> None:
    import numpy as np
    import pandas as pd

    from ss4rec_lib.data import DataError, load_dataset, load_items

    table = load_dataset(options.name, path=options.path)
    kind = "ratings" if "rating" in table else "interactions without ratings"
    counts = [f"{table[name].nunique():,} {name[:4]}s" for name in ("user_id", "item_id")]
    print(f"{table.attrs['dataset']}: {len(table):,} {kind}, {counts[0]}, {counts[1]}")
    times = pd.to_datetime(table["timestamp"], unit="s")
    # One sorted number per row: `duplicated` would take a minute for 32 million.
    keys = np.sort(pd.factorize(table["user_id"])[0] * 2**37 + table["timestamp"].to_numpy())
    same = keys[1:] == keys[:-1]
    tied = (np.append(same, False) | np.insert(same, 0, False)).mean()
    print(f"time: {times.min()} to {times.max()} UTC; {tied:.1%} share their second with another")
    try:
        titles = load_items(options.name, path=options.path, ratings=table)
        n = len(titles.index.intersection(pd.Index(table["item_id"].unique())))
        print("titles: none" if titles.empty else f"titles: of {n:,} of these items")
    except DataError as error:  # a file of ratings alone
        print(f"titles: none ({error})")
    print(f"source: {table.attrs['source']}")


def _lessons(options: argparse.Namespace) -> int:
    from ss4rec_lib.lessons import LessonError, run_lessons

    given = [(name, value.strip()) for name, value in options.parameters]
    if options.dataset is not None:
        given.append(("dataset", options.dataset))
    parameters = dict(given)
    if len(parameters) < len(given):
        raise LessonError("a parameter was given more than once; give each name one value")
    how = {"out": options.out, "timeout": options.timeout, "from_text": True}
    runs = run_lessons(options.names, parameters=parameters, **how)
    return 1 if any(run.error is not None for run in runs) else 0


def _exercises(options: argparse.Namespace) -> None:
    from ss4rec_lib.lessons import copy_exercises, unused_folder

    made, kept = copy_exercises(options.names, options.to)
    for path in made:
        print(f"{path}: copied")
    for path in kept:
        print(f"{path}: is there and stays as it is")
    if kept:
        words = " ".join([*options.names, f"--to {unused_folder(options.to)}"])
        print(f"for fresh copies beside them: ss4rec exercises {words}")


def _train(options: argparse.Namespace) -> None:
    from ss4rec_lib.experiments import RunFolder, run_config, run_experiment, summary

    given = {name: getattr(options, name) for name in _RUN_OPTIONS}
    folder = RunFolder(options.out)
    folder.refuse_old_format()
    named = options.dataset is not None or options.config is not None
    saved = folder.config if options.resume and (folder.config.exists() or not named) else None
    config = run_config(given, options.assignments, options.config, saved)
    try:
        record = run_experiment(config, options.out, options.resume, progress=_is_main_process())
    except KeyboardInterrupt:
        if _is_main_process() and folder.config.exists():
            print(f"to continue: ss4rec train --resume --out {options.out}", file=sys.stderr)
        raise
    if _is_main_process():
        print(f"{summary(record)}\nrun: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from ss4rec_lib.experiments import evaluate_run

    how = {name: getattr(options, name) for name in ("part", "mask_seen", "target_time", "max_len")}
    print(evaluate_run(*options.run, data=options.path, **how))


def _recommend(options: argparse.Namespace) -> None:
    from ss4rec_lib.experiments import recommend_from_run

    how = (options.user.strip(), options.at, options.k, options.include_seen, options.path)
    found = recommend_from_run(options.run, *how).dropna(axis="columns", how="all")
    print(found.to_string(index=False, na_rep=""))


def _compare(options: argparse.Namespace) -> None:
    from ss4rec_lib.experiments import compare

    found = compare(options.a, options.minus, options.metric, masked=options.mask_seen)
    print(
        f"{found.a} minus {found.b}, {found.metric.upper()}: {found.difference:+.4f} "
        f"({found.low:+.4f} to {found.high:+.4f}), 95 % interval over {found.interval_over}"
    )


def _record(options: argparse.Namespace) -> None:
    from ss4rec_lib.experiments import record_run

    path = record_run(options.run, options.name, ablation=options.ablation)
    print(f"{path.parent.name}/{path.name}: recorded, and the page in results/ renewed")


def _batch(options: argparse.Namespace) -> int:
    run_batch = _beside("workflow.batch").run_batch
    how = {name: getattr(options, name) for name in ("jobs", "cores", "profile", "dry_run")}
    return run_batch(options.file, options.out, **how)


def _doctor(_: argparse.Namespace) -> int:
    return _beside("workshop.doctor").doctor()


def _beside(module: str) -> Any:
    """Import a module of the checkout that is beside this package, not in it."""
    from ss4rec_lib.data import checkout

    root = checkout()
    if root is None:
        from ss4rec_lib.lessons import notebooks_folder

        root = notebooks_folder().parent  # an error that says how to get a checkout
    sys.path.insert(0, str(root))
    return importlib.import_module(module)


if __name__ == "__main__":
    sys.exit(main())
