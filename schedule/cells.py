"""Cells of CSV files, in and out (pure).

A spreadsheet runs a cell that begins with "=", "+", "-" or "@" as a formula, and whoever opens an
exported list is not whoever wrote the name in it. So such a cell goes out with an apostrophe before
it, which spreadsheets show as text; it comes off again on the way in, so that a file that was
exported and imported changes nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from schedule.errors import Invalid

# Full-width signs too: some spreadsheets take them for the plain ones. Blanks before are ignored.
_FORMULA = re.compile(r"'*[\s\x00-\x20]*[=+\-@＝＋－＠\t\r\n]")
_ESCAPED = re.compile(r"''*[\s\x00-\x20]*[=+\-@＝＋－＠\t\r\n]")
MOST_BYTES = 64 << 20
MOST_COLUMNS = 64


def cell_out(value: object) -> str:
    """A value as the text of a cell that no spreadsheet runs. Numbers stay numbers."""
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, (int, float)):
        return text
    return f"'{text}" if _FORMULA.match(text) else text


def cell_in(text: str) -> str:
    """The value of a cell, without the apostrophe that `cell_out` put before it."""
    return text[1:] if _ESCAPED.match(text) else text


def write(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A CSV file piece by piece: a byte order mark, by which Excel knows UTF-8, header, rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    buffer.write("\ufeff")
    writer.writerow(header)
    for number, row in enumerate(rows, 1):
        writer.writerow([cell_out(value) for value in row])
        if number % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def decode(data: bytes) -> str:
    """The text of a file: UTF-8 or UTF-16 with a mark, UTF-8, or GB 18030 as Excel writes it."""
    if len(data) > MOST_BYTES:
        raise Invalid(f"the file is larger than {MOST_BYTES >> 20} MiB; import it in parts")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Invalid("the file is neither UTF-8 nor GB 18030 text; save it as CSV UTF-8")


def read(
    text: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with the numbers of their lines, the header's being 1.

    Column names are compared without regard to case; columns that nobody asks for are ignored. A
    column that the file does not have is missing in the row, which differs from an empty cell.
    Comma, semicolon and tab are understood as separators. Invalid without the needed columns, and
    for what is no CSV.
    """
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            raise Invalid(f"the first line must name the columns {', '.join(needed)}", missing[0])
        named = [name for name in header if name]
        if len(header) > MOST_COLUMNS or len(set(named)) != len(named):
            raise Invalid("the first line names a column twice, or too many columns")
        wanted = {name: header.index(name) for name in (*needed, *optional) if name in header}
        line = reader.line_num + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                row += [""] * (len(header) - len(row))
                yield line, {name: cell_in(row[at]) for name, at in wanted.items()}
            line = reader.line_num + 1
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num} is no CSV: {error}") from error
