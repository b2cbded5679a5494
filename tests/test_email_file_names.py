"""Files in mails: their names and types, and which fresh one stands for which old one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.maildesk import attached
from watcher.mail.attachments import matching, safe_name, safe_type
from watcher.model import Attachment


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("renew.log", "renew.log"),
        ("续费 日志.log", "续费 日志.log"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\evil.exe", "evil.exe"),
        (".bashrc", "bashrc"),
        ("...", "attachment"),
        ("CON", "_CON"),
        ("nul.tar.log", "_nul.tar.log"),
        ("Com1 .log", "_Com1 .log"),
        ("console.log", "console.log"),
        ("", "attachment"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\r\nContent-Type: text/html.log", "html.log"),
        ("=?utf-8?q?a=0D=0A?=", "__utf-8_q_a_0D_0A__"),
        ('a";x="b.txt', "a__x__b.txt"),
        ("x" * 300 + ".tar", "x" * 113 + "….tar"),
        ("长" * 300 + ".log", "长" * 37 + "….log"),
        ("a\x00b\ud800.log", "a\ufffdb\ufffd.log"),
    ],
)
def test_a_name_is_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text())
def test_every_name_is_one_that_every_system_takes(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe.isprintable() or safe.isspace()
    assert not set(safe) & set('/\\:*?"<>|=;')
    assert not safe.startswith((".", " "))
    assert safe.partition(".")[0].strip().casefold() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert len(safe.encode()) <= 120


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        *(("a.txt", "text/plain"), ("a.PNG", "image/png"), ("a.pdf", "application/pdf"), ("a.csv", "text/csv")),
        *((name, "application/octet-stream") for name in ("a.html", "a.htm", "a.xhtml", "a.svg", "a.eml", "a.mht")),
        *((name, "application/octet-stream") for name in ("a.exe", "a.js", "a.xml", "a.tar.gz", "a", "a.unknown")),
    ],
)
def test_only_what_is_passive_has_a_type_of_its_own(name: str, content_type: str) -> None:
    assert safe_type(name) == content_type


def test_a_fresh_file_is_found_by_name_and_order() -> None:
    told = attached(*(Attachment(name=name, url=f"https://x.example/{n}") for n, name in enumerate("aba")))
    fresh = [Attachment(name=name, url=f"https://y.example/{n}") for n, name in enumerate("baa")]
    assert [matching(position, told, fresh) for position in range(3)] == [fresh[1], fresh[0], fresh[2]]
    assert matching(2, told, fresh[:2]) is None
