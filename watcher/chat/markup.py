"""How chats write headings, quotes and links, and what keeps a foreign text from being any of them. Pure.

Sources: Slack, "Formatting text for app surfaces" (only ``&``, ``<`` and ``>`` can be escaped); Telegram Bot API,
"HTML style"; DingTalk, "Custom robots" and WeCom, "Group robots" (path 91770), whose Markdown knows no escape. What
has none is written with the full-width form of the character: it reads the same and means nothing.
"""

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from watcher.model import Event, Note
from watcher.render import one_line

_MARK = "…"
_TO_FULL_WIDTH = 0xFEE0
# An address of mail stays one; everything else behind an @ might be somebody, or everybody.
_MENTION = r"(?<![A-Za-z0-9])@"
_UNDERLINE = r"(?<![^\W_])_|_(?![^\W_])"
_MENTIONS = re.compile(_MENTION)
_MARKDOWN = re.compile(rf"[\[\]<>*`\\]|~~+|&(?=#?\w{{1,31}};)|{_UNDERLINE}|{_MENTION}|^#+|^[-+=]+(?=\s|$)")
_MRKDWN = re.compile(rf"[*`]|(?<![\w/])~|~(?!\w)|{_UNDERLINE}|{_MENTION}|^>+")
_LARK_TAG = re.compile(r"<(?=\s*/?\s*at\b)", re.IGNORECASE)
_OPEN_MARKUP = re.compile(r"(?:!?\[[^\[\]\n]*(?:\](?:\([^()\s]*)?)?|<[^<>\n]*|&#?\w{0,6})\Z")
_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
# Nothing that belongs to one letter is longer, unless somebody wants to tease us.
_LONGEST_LETTER = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """One markup language. Everything but ``escape`` takes text that is escaped already."""

    escape: Callable[[str], str]
    heading: Callable[[str], str]
    strong: Callable[[str], str]
    quote: Callable[[str], str]
    #: From a label and an address that ``link_target`` made harmless.
    link: Callable[[str, str], str]
    #: What stands between two paragraphs.
    gap: str = "\n\n"


def _full_width(match: re.Match[str]) -> str:
    return "".join(chr(ord(char) + _TO_FULL_WIDTH) for char in match[0])


def _escape_markdown(text: str) -> str:
    return _MARKDOWN.sub(_full_width, text)


def _escape_mrkdwn(text: str) -> str:
    return html.escape(_MRKDWN.sub(_full_width, text), quote=False)


def _escape_html(text: str) -> str:
    return html.escape(_MENTIONS.sub(_full_width, text), quote=False)


#: DingTalk and WeCom. A paragraph of its own behind the quote, so that it does not continue it.
MARKDOWN = Markup(
    escape=_escape_markdown,
    heading="#### {}".format,
    strong="**{}**".format,
    quote="> {}".format,
    link="[{}]({})".format,
)
MRKDWN = Markup(
    escape=_escape_mrkdwn,
    heading="*{}*".format,
    strong="*{}*".format,
    quote=">{}".format,
    link=lambda label, url: f"<{html.escape(url, quote=False)}|{label}>",
    gap="\n",
)
TELEGRAM_HTML = Markup(
    escape=_escape_html,
    heading="<b>{}</b>".format,
    strong="<b>{}</b>".format,
    quote="<blockquote>{}</blockquote>".format,
    link=lambda label, url: f'<a href="{html.escape(url)}">{label}</a>',
    gap="\n",
)
#: Lines without markup below a title of their own.
PLAIN = Markup(
    escape=str,
    heading=lambda _: "",
    strong=str,
    quote=str,
    link=lambda label, url: f"{label}: {url}",
    gap="\n",
)
#: A Markdown element of Feishu's cards, whose title stands in the card's head.
LARK = Markup(
    escape=_escape_markdown,
    heading=lambda _: "",
    strong="**{}**".format,
    quote=str,
    link="[{}]({})".format,
    gap="\n",
)


def without_lark_tags(text: str) -> str:
    """Return a text for Feishu's rich text, whose markup is structure, without what a text message would mention."""
    return _LARK_TAG.sub(_full_width, text)


def link_target(url: str) -> str:
    """Return an address that can end no link before its time; "" for one that is not of the web."""
    if urlsplit(url).scheme not in {"http", "https"}:
        return ""
    return quote(url, safe="/:?#@!$&*+,;=%~-._")


def escaped(event: Event, markup: Markup) -> Event:
    """Return ``event`` with its foreign texts escaped: what a user's template puts among its own markup."""

    def lines(text: str) -> str:
        return "\n".join(markup.escape(line) for line in text.split("\n"))

    def note(of: Note) -> Note:
        attachments = tuple(
            replace(each, name=lines(each.name), url=link_target(one_line(each.url))) for each in of.attachments
        )
        author = replace(of.author, name=lines(of.author.name))
        return replace(of, author=author, content=lines(of.content), attachments=attachments)

    return replace(
        event,
        ticket=replace(event.ticket, title=lines(event.ticket.title)),
        note=event.note and note(event.note),
        events=tuple(escaped(each, markup) for each in event.events),
    )


# --- cutting ----------------------------------------------------------------------------------------------


def clip(text: str, longest: int) -> str:
    """Return at most ``longest`` characters of a text without markup, with a mark where something is missing."""
    if len(text) <= longest:
        return text
    return text[: _between_letters(text, longest - 1)].rstrip() + _MARK if longest > 0 else ""


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of ``text`` that fits, with a mark where something is missing.

    It ends neither within what people see as one letter, nor within a link or an escape. ``fits`` must hold for
    whatever is shorter than something for which it holds.
    """
    if fits(text):
        return text
    end = bisect_right(range(len(text) + 1), False, key=lambda length: not fits(text[:length] + _MARK)) - 1  # noqa: FBT003
    if end < 0:
        return ""
    end = _between_letters(text, end)
    if left_open := _OPEN_MARKUP.search(text[:end]):
        end = left_open.start() or end
    return text[:end].rstrip() + _MARK


def cut_bytes(text: str, limit: int) -> str:
    """Return the longest beginning of ``text`` that has at most ``limit`` bytes in UTF-8, as ``cut`` does."""
    return cut(text, lambda part: len(part.encode()) <= limit)


def _between_letters(text: str, end: int) -> int:
    """Return the last place up to ``end`` that has no part of a letter behind it."""
    for place in range(end, max(end - _LONGEST_LETTER, -1), -1):
        if place == 0 or not _continues(text, place):
            return place
    return end


def _continues(text: str, place: int) -> bool:
    """Tell whether the character at ``place`` belongs to the one before it."""
    char, before = text[place : place + 1], text[place - 1]
    if not char:
        return False
    if unicodedata.category(char).startswith("M") or _JOINER in {char, before} or ord(char) in _SKIN_TONES:
        return True
    letters = 0
    while letters < place and ord(text[place - 1 - letters]) in _FLAG_LETTERS:
        letters += 1
    return ord(char) in _FLAG_LETTERS and letters % 2 == 1
