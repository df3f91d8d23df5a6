"""The text of a file, whatever its encoding and its line ends.

UTF-8 is expected; UTF-16 and UTF-32 are recognised by their byte-order mark. What is not UTF-8 is
read as Windows-1252, as MovieLens' older files are. Lines may end in LF, CR LF or CR.
"""

from __future__ import annotations

import codecs
import io
import itertools
import warnings
from collections.abc import Iterator

from ss4rec_lib.data.validation import DataWarning

_FALLBACK = "ss4rec-windows-1252"
_CHUNK = 1 << 18  # bytes read at once
# UTF-32's mark begins with UTF-16's.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes that are not UTF-8; Windows-1252 leaves five of them undefined."""
    assert isinstance(error, UnicodeDecodeError)
    how = ("latin-1",) if error.encoding == "charmap" else ("cp1252", _FALLBACK)
    return error.object[error.start : error.end].decode(*how), error.end


codecs.register_error(_FALLBACK, _windows_1252)


class Text:
    """Decoded text, to be read once, in blocks or by lines that end in a line feed."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._blocks = map(io.IncrementalNewlineDecoder(None, True).decode, self._decoded(stream))
        self._utf8 = False  # whether some line was UTF-8 and not ASCII
        self._lines = 0  # decoded so far
        self._others, self._first = 0, (0, "")  # lines read as Windows-1252

    def read(self, size: int = -1) -> str:
        """Return the next block, of any size; an empty one at the end (what pandas calls)."""
        block = next(filter(None, self._blocks), "")
        if "\0" in block:
            raise ValueError("NUL character")
        return block

    def __iter__(self) -> Iterator[str]:
        """Yield lines; the last one may lack its line feed."""
        rest = ""
        for block in self._blocks:
            *lines, rest = (rest + block).split("\n")
            yield from (line + "\n" for line in lines)
        if rest:
            yield rest

    def warn(self, label: str) -> None:
        """Warn once when the lines read so far do not have the same encoding."""
        if self._utf8 and self._others:
            number, first = self._first
            text = f"{label}: {self._others} line(s) are not UTF-8 as others are, and were read "
            text += f"as Windows-1252; the first is line {number}, {first.strip()[:80]!r}."
            warnings.warn(text, DataWarning, stacklevel=2)

    def _decoded(self, stream: io.BufferedIOBase) -> Iterator[str]:
        rest = stream.read(4)
        blocks = iter(lambda: stream.read(_CHUNK), b"")
        for mark, encoding in _MARKS.items():
            if rest.startswith(mark):
                yield from codecs.iterdecode(itertools.chain([rest], blocks), encoding)
                return
        rest = rest.removeprefix(codecs.BOM_UTF8)
        for block in blocks:
            block = rest + block
            end = 1 + max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1))  # CR LF is one line end
            rest = block[end:]
            yield self._whole_lines(block[:end])
        yield self._whole_lines(rest)

    def _whole_lines(self, block: bytes) -> str:
        """Decode at once if all of it is UTF-8, else line by line."""
        try:
            text = block.decode()
            self._utf8 = self._utf8 or not text.isascii()
        except UnicodeDecodeError:
            lines = block.splitlines(keepends=True)
            if len(lines) > 1:
                return "".join(map(self._whole_lines, lines))
            text = block.decode("utf-8", _FALLBACK)
            self._first = self._first if self._others else (self._lines + 1, text)
            self._others += 1
            self._utf8 = self._utf8 or not block.decode("utf-8", "ignore").isascii()
        self._lines += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
        return text
