"""Subtitles of every sort become WebVTT that a browser takes, or a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.subtitles import BadSubtitles, webvtt_of

SRT = (
    "1\r\n00:00:01,000 --> 00:00:02,500\r\n水稻育秧\r\n第二行\r\n\r\n"
    "2\r\n00:01:00,5 --> 00:01:01,0\r\nend\r\n"
)
AS_VTT = """WEBVTT

00:00:01.000 --> 00:00:02.500
水稻育秧
第二行

00:01:00.500 --> 00:01:01.000
end
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_subrip_in_every_encoding_becomes_webvtt(encoding: str) -> None:
    assert webvtt_of(SRT.encode(encoding)).decode() == AS_VTT


def test_webvtt_keeps_its_cues_and_loses_the_rest() -> None:
    text = """WEBVTT - title
STYLE
::cue { background: url(https://example.org/x) }

NOTE a remark

intro
01:05.000 --> 01:06.000 align:start position:10% evil:<x> line:90%
<v 李老师>早上好 <b>all</b> <script>x</script> 1 < 2 & 3

00:01.000 --> 00:02.000
first
"""
    assert (
        webvtt_of(text.encode()).decode()
        == """WEBVTT

00:00:01.000 --> 00:00:02.000
first

00:01:05.000 --> 00:01:06.000 align:start position:10% line:90%
<v 李老师>早上好 <b>all</b> &lt;script&gt;x&lt;/script&gt; 1 &lt; 2 &amp; 3
"""
    )


def test_what_is_converted_once_stays_as_it_is() -> None:
    once = webvtt_of(SRT.encode())
    assert webvtt_of(once) == once


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "these are no subtitles"),
        (b"\x00\x01\x02\xff" * 50, "these are no subtitles|no encoding"),
        (b"00:00:05.000 --> 00:00:01.000\nx", "line 1 ends before it begins"),
        (b"a" * (4 * 1024 * 1024 + 1), "larger than 4 MB"),
        (b"00:00:01.000 --> 00:00:02.000\nx\n\n" * 50_001, "more than 50000"),
    ],
)
def test_what_holds_no_subtitles_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(BadSubtitles, match=said):
        webvtt_of(data)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_subtitles_or_refused(data: bytes) -> None:
    try:
        assert webvtt_of(data).startswith(b"WEBVTT\n")
    except BadSubtitles:
        pass


@given(st.text())
def test_no_text_of_a_cue_makes_another_cue_or_tag(text: str) -> None:
    shown = webvtt_of(f"00:00:01.000 --> 00:00:02.000\nx {text}".encode("utf-8", "replace"))
    body = shown.decode().split("\n", 3)[3]
    assert "<script" not in body
    assert "-->" not in body
