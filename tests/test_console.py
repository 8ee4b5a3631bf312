"""Text from outside is shown, never obeyed."""

from __future__ import annotations

import pytest

from parimg.console import print_table, say, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red]name[/red] :cat:", "plain [red]name[/red] :cat:"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x7f\x9b31m", r"a\rb\x7f\x9b31m"),
        ("gpj\u202egnp.", r"gpj\u202egnp."),
        ("caf\udce9", r"caf\udce9"),
        ("café 日本 👩\u200d🚀", "café 日本 👩\u200d🚀"),
        ("two\nlines\t", r"two\nlines\t"),
        (r"C:\temp", r"C:\temp"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_may_stay_lines() -> None:
    assert visible("a\n\tb\r\n", lines=True) == "a\n\tb\\r\n"


def test_a_table_shows_markup_emoji_codes_and_line_feeds_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("[/b]", ":cat:"), ("a\nb", "\x1b[31m")]
    print_table(["[red]name[/red]", "value"], rows, title="[/t] :dog:", caption="[/c]")
    printed = capsys.readouterr().out
    for text in ("[red]name[/red]", "[/b]", ":cat:", r"a\nb", r"\x1b[31m", "[/t] :dog:", "[/c]"):
        assert text in printed
    assert "\x1b" not in printed


def test_a_table_in_a_file_is_as_wide_as_it_needs_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [("x" * 900,)])
    assert "x" * 900 in capsys.readouterr().out


def test_names_stay_in_one_piece_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(["job", "task"], [("20261125-204106-MatchSIFT", "word " * 30)], whole_names=True)
    printed = capsys.readouterr().out
    assert "20261125-204106-MatchSIFT" in printed
    assert max(len(line) for line in printed.splitlines() if "\x1b" not in line) <= 60  # styles take no room


def test_lines_for_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("good\x1b")
    say("bad\x1b", error=True)
    assert tuple(capsys.readouterr()) == ("good\\x1b\n", "bad\\x1b\n")
