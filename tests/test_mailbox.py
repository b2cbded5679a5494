"""Which texts are mail addresses."""

import pytest

from watcher.mail.mailbox import parse_mailbox


@pytest.mark.parametrize(
    ("text", "address", "name", "envelope"),
    [
        ("ops@corp.example", "ops@corp.example", "", "ops@corp.example"),
        ("  Ops Team <Ops@CORP.example> ", "Ops@corp.example", "Ops Team", "Ops@corp.example"),
        ('"Ops, \\"Team\\"" <ops@corp.example>', "ops@corp.example", 'Ops, "Team"', "ops@corp.example"),
        ("运维 <ops@例子.中国>", "ops@例子.中国", "运维", "ops@xn--fsqu00a.xn--fiqs8s"),
        ("x@straße.example", "x@straße.example", "", "x@xn--strae-oqa.example"),
        ("用户@corp.example", "用户@corp.example", "", "用户@corp.example"),
        ("root@localhost", "root@localhost", "", "root@localhost"),
    ],
)
def test_an_address_is_read(text: str, address: str, name: str, envelope: str) -> None:
    mailbox = parse_mailbox(text)
    assert (mailbox.address, mailbox.name, mailbox.envelope) == (address, name, envelope)


@pytest.mark.parametrize(
    "text",
    [
        *("", "ops", "@corp.example", "ops@", "ops@@corp.example", "a b@corp.example", "a@b, c@d", "a@b;c@d"),
        *("Ops <ops@corp.example", "Ops <ops@corp.example> x", "a@b\r\nBcc: c@d", "ops@-corp.example"),
        *(
            "ops@corp..example",
            ".ops@corp.example",
            "o..ps@corp.example",
            "ops@[127.0.0.1]",
            "ops@127.0.0.1",
            "ops@a b",
        ),
        *("ops@" + "a." * 200 + "example", "ops@" + "ü" * 80 + ".example", "x" * 65 + "@corp.example", "a@b\u202ec"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|domain"):
        parse_mailbox(text)
