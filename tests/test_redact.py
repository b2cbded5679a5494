"""What others say of a failure holds no secret of ours."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.redact import HIDDEN, MAX_REASON_CHARS, Redactor

SECRETS = st.text(st.characters(codec="utf-8", exclude_characters=HIDDEN), min_size=4).filter(str.strip)


@given(secret=SECRETS, before=st.text(), after=st.text())
def test_a_secret_is_in_no_reason_in_whatever_form(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    for form in (secret, quote(secret, safe=""), quote(secret), unquote(secret)):
        if form.strip():
            assert form not in redactor.redact(f"{before} {form} {after}")


@pytest.mark.parametrize(
    ("secrets", "said", "reason"),
    [
        (["pass  word"], "535 wrong: pass  word", "535 wrong: …"),
        (["pass  word"], "535 wrong: pass word", "535 wrong: …"),
        (["key", "keyring"], "keyring and key", "… and …"),
        (["a/b c"], "at a%2Fb%20c, a/b%20c and a%2Fb+c", "at …, … and …"),
        (["", " "], "nothing to hide", "nothing to hide"),
        ([], "two\r\nlines\x1b[0m", "two lines\ufffd[0m"),
    ],
)
def test_a_reason_is_one_line_without_secrets(secrets: list[str], said: str, reason: str) -> None:
    assert Redactor(secrets).reason(said) == reason


def test_a_reason_is_cut_after_the_secrets_are_gone() -> None:
    secret = "s" * 40
    said = "x" * (MAX_REASON_CHARS - 10) + secret
    assert Redactor([secret]).reason(said) == "x" * (MAX_REASON_CHARS - 10) + HIDDEN
    assert len(Redactor([]).reason("y" * 10_000)) == MAX_REASON_CHARS
