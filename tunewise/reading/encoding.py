r"""Bytes of a data file → text, or a refusal that says where the file stops being UTF-8 and what it seems to be.

A file in another encoding is refused, not guessed at: a wrong guess gives wrong letters, silently.

>>> decode(b"\xef\xbb\xbftext,label\n", "a.csv")
'text,label\n'
"""

from __future__ import annotations

import re

from tunewise.errors import DataError

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_BEYOND_ASCII = re.compile(b"[\x80-\xff]+")
_WINDOW = 4096
"""Bytes looked at on each side of the first bad one to name the encoding."""


def decode(content: bytes, name: str) -> str:
    """`content` as text, without a byte order mark.

    Args:
        content: everything in the file.
        name: how messages call the file.

    Raises:
        DataError: the file is empty, holds NUL bytes, or is not UTF-8.
    """
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(
            f"{name}: the file is empty ({len(content)} bytes); expected column names and rows. "
            "Was it written to the end?"
        )
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise _other_encoding(name, f"{encoding} (it starts with its byte order mark)")
    if b"\0" in content:
        raise _nul(content, name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With "utf-8-sig" the position counts from behind a byte order mark.
        mark_length = 3 if content.startswith(b"\xef\xbb\xbf") else 0
        raise _not_utf8(content, error.start + mark_length, name) from None


def _not_utf8(content: bytes, position: int, name: str) -> DataError:
    line = _line(content, position)
    window = content[max(0, position - _WINDOW) : position + _WINDOW].removeprefix(b"\xef\xbb\xbf")
    guess = _seems(window)
    return DataError(
        f"{name}, line {line}: not UTF-8: found the byte 0x{content[position]:02x} at byte offset {position}"
        f"{f'; the file seems to be {guess}' if guess else ''}. Save it as UTF-8"
        f"{f', for example with: iconv -f {guess} -t UTF-8' if guess else ''}."
    )


def _seems(window: bytes) -> str | None:
    """The encoding that `window` seems to be in; None where nothing speaks for one."""
    runs = _BEYOND_ASCII.findall(window)
    # Single bytes between ASCII letters: a Western code page. Little text of that kind is taken for Chinese else.
    western = "cp1252" if 2 * sum(len(run) == 1 for run in runs) > len(runs) else None
    try:
        import charset_normalizer
    except ImportError:
        return western
    best = charset_normalizer.from_bytes(window).best()
    if best is None or best.encoding in ("utf_8", "ascii") or (western and best.coherence == 0):
        return western
    # Many code pages agree on the letters at hand; then the most common of them is meant.
    alike = window.decode("cp1252", "replace") == window.decode(best.encoding, "replace")
    return "cp1252" if alike else str(best.encoding)


def _nul(content: bytes, name: str) -> DataError:
    start = content[:1000]
    if start.count(0) > len(start) // 4:  # Latin text in UTF-16 has a NUL in every second byte
        return _other_encoding(name, "UTF-16 without a byte order mark")
    position = content.index(0)
    return DataError(
        f"{name}, line {_line(content, position)}: found a NUL byte at byte offset {position}; expected text. "
        "The file is damaged, or is no text file. Write it again, or remove the byte."
    )


def _other_encoding(name: str, found: str) -> DataError:
    encoding = found.split()[0]
    return DataError(
        f"{name}, line 1, byte offset 0: not UTF-8: found {found}. "
        f"Save it as UTF-8, for example with: iconv -f {encoding} -t UTF-8."
    )


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
