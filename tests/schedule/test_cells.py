"""CSV cells: what a spreadsheet would run goes out as text and comes back as it was."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule.cells import cell_in, cell_out, decode, read, write
from schedule.errors import Invalid


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+86 10",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =cmd|'/c calc'!A0",
        "'=1",
        "＝1",
        "\n+1",
    ],
)
def test_a_formula_goes_out_as_text(text: str) -> None:
    assert cell_out(text) == f"'{text}"
    assert cell_in(cell_out(text)) == text


@pytest.mark.parametrize("value", ["北京", "O'Brien", "'t Hooft", "a=b", 5, -5, 1.5, ""])
def test_what_is_no_formula_goes_out_as_it_is(value: object) -> None:
    assert cell_out(value) == str(value)
    assert cell_in(str(value)) == str(value)


@given(st.text())
def test_every_text_comes_back_and_none_is_run(text: str) -> None:
    out = cell_out(text)
    assert cell_in(out) == text
    assert not out.lstrip().startswith(("=", "+", "-", "@"))


@given(st.lists(st.tuples(st.text(), st.text()).filter(lambda row: bool(row[0].strip()))))
def test_a_file_comes_back_as_it_was_written(rows: list[tuple[str, str]]) -> None:
    text = "".join(write(("A", "b"), rows)).removeprefix("\ufeff")
    assert [(row["a"], row["b"]) for _line, row in read(text, ("a", "b"))] == rows


def test_lines_are_numbered_as_an_editor_shows_them() -> None:
    text = 'code,name\r\n1,"two\nlines"\r\n\r\n2,x\r\n'
    assert [line for line, _row in read(text, ("code",))] == [2, 5]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_unknown_columns(separator: str) -> None:
    text = separator.join(["Code", "other", " NAME "]) + "\n" + separator.join(["1", "x", "n"])
    assert list(read(text, ("code",), ("name", "email"))) == [(2, {"code": "1", "name": "n"})]


@pytest.mark.parametrize(
    "text", ["", "name\nx", "code,code\n1,2", 'code\n"a"b', "code," + "x," * 90 + "\n"]
)
def test_what_is_no_file_of_ours_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        list(read(text, ("code",)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_files_as_spreadsheets_save_them(encoding: str) -> None:
    assert decode("编号,名称".encode(encoding)) == "编号,名称"


def test_a_file_of_bytes_is_refused() -> None:
    with pytest.raises(Invalid, match="CSV UTF-8"):
        decode(b"\xff\x80\x81\xff")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        for line, row in read(decode(data), ("a",), ("b",)):
            assert line > 1
            assert "a" in row
    except Invalid:
        pass


def test_python_s_reader_agrees() -> None:
    text = "".join(write(("a",), [['x"y'], ["a,b"]])).removeprefix("\ufeff")
    assert list(csv.reader(io.StringIO(text))) == [["a"], ['x"y'], ["a,b"]]
