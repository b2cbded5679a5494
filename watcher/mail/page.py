"""What a letter says, laid out as text and as HTML. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

from watcher import render
from watcher.envelope import excerpt
from watcher.model import Attachment, Content, Event, Kind, Language, Note, Read
from watcher.render import Voice

#: Which file is meant: the event's id, and the position among the attachments of its note.
FileKey = tuple[str, int]

_LONGEST_LINE = 200
_TEXT_RULE = "-" * 64
_HTML_LANGUAGES = {Language.ENGLISH: "en", Language.CHINESE: "zh-CN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a file that was to be enclosed."""

    #: Its name in the mail; "" if it stays a link.
    enclosed_as: str = ""
    #: Why it stays a link.
    reason: str = ""
    #: An address that works longer than the one in the note.
    url: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """An attachment as the letter names it."""

    name: str
    #: Its name, and why it is not enclosed.
    said: str
    url: str = ""
    is_enclosed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One reply."""

    said: tuple[str, ...]
    quote: str = ""
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One ticket."""

    #: "" if it is not known.
    title: str
    entries: tuple[Entry, ...]
    #: Names and values; the first one is the ticket's number.
    facts: tuple[tuple[str, str], ...] = ()
    url: str = ""

    @property
    def heading(self) -> str:
        """What stands above the section."""
        return self.title or " ".join(self.facts[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that a letter says."""

    event: Event
    voice: Voice
    #: Above the sections, where there may be several.
    headline: str
    sections: tuple[Section, ...]
    footer: tuple[str, ...]


def lay_out(event: Event, voice: Voice, fates: Mapping[FileKey, Fate]) -> Page:
    """Return what a letter about ``event`` says; ``fates`` tells of files that were to be enclosed."""
    tickets: dict[tuple[str, str, str], list[Event]] = {}
    for each in event.events or (event,):
        tickets.setdefault((each.account.name, each.account.uid, each.ticket.id), []).append(each)
    return Page(
        event=event,
        voice=voice,
        headline=render.headline(event, voice) if event.kind is Kind.DIGEST else "",
        sections=tuple(_section(events, voice, fates) for events in tickets.values()),
        footer=_footer(event, voice),
    )


def _section(events: list[Event], voice: Voice, fates: Mapping[FileKey, Fate]) -> Section:
    # What is known of the ticket as of the latest reply.
    latest = events[-1]
    if latest.kind is Kind.TEST:
        when = render.local_in_words(latest.occurred_at, voice)
        return Section(voice.words.test_title, (Entry((voice.words.test_text, when)),))
    title = short(render.one_line(latest.ticket.title))
    entries = tuple(_entry(each, voice, fates) for each in events)
    return Section(title, entries, _facts(latest, voice), link(latest.url))


def _facts(event: Event, voice: Voice) -> tuple[tuple[str, str], ...]:
    words = voice.words
    account, uid = short(render.one_line(event.account.name)), short(render.one_line(event.account.uid))
    return (
        (words.label_ticket, short(render.one_line(event.ticket.id))),
        (words.label_status, _capital(render.status(event, voice))),
        (words.label_severity, _capital(render.severity(event, voice))),
        (words.label_account, f"{account} ({uid})" if uid else account),
    )


def _entry(event: Event, voice: Voice, fates: Mapping[FileKey, Fate]) -> Entry:
    if event.note is None:
        return Entry((render.headline(event, voice),))
    files = (
        _file(attachment, voice, fates.get((event.id, position), Fate()))
        for position, attachment in enumerate(event.note.attachments)
    )
    return Entry(_said(event, event.note, voice), render.body(event.note, voice), tuple(files))


def _said(event: Event, note: Note, voice: Voice) -> tuple[str, ...]:
    words = voice.words
    author = short(render.author(note, voice))
    if note.created_at:
        said = [words.replied_on.format(author=author, when=render.local_in_words(note.created_at, voice))]
    else:
        said = [words.wrote.format(author=author)]
    if note.read is Read.UNREAD:
        said.append(words.still_unread)
    if event.unread.in_ticket > 1:
        said.append(words.unread_in_ticket.format(count=event.unread.in_ticket))
    return tuple(said)


def _file(attachment: Attachment, voice: Voice, fate: Fate) -> File:
    if fate.enclosed_as:
        return File(fate.enclosed_as, fate.enclosed_as, is_enclosed=True)
    name = short(render.one_line(attachment.name))
    said = voice.words.not_fetched.format(name=name, reason=fate.reason) if fate.reason else name
    # The address is a key to the file: it stays here when the content does.
    url = "" if voice.content is Content.NONE else link(fate.url or attachment.url)
    return File(name, said, url)


def _footer(event: Event, voice: Voice) -> tuple[str, ...]:
    words = voice.words
    watches = {each.watch for each in event.events or (event,)}
    watch = short(render.one_line(watches.pop())) if len(watches) == 1 else ""
    return (words.sent_by_watch.format(watch=watch) if watch else words.sent_by, words.do_not_answer)


def bracket(event: Event, voice: Voice) -> str:
    """Return what stands for the ticket in a subject: ``[Ticket 0005PYGCW]``."""
    return f"[{voice.words.label_ticket} {short(render.one_line(event.ticket.id))}]"


def short(text: str) -> str:
    """Return one line, cut to a length that people read."""
    return excerpt(text, _LONGEST_LINE)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def link(url: str) -> str:
    """Return an address that may be shown as one to click on, else ""."""
    try:
        parts = urlsplit(url)
        is_link = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return ""
    return url if is_link and url.isprintable() and not any(char.isspace() for char in url) else ""


# --- as text ----------------------------------------------------------------------------------------------


def as_text(page: Page) -> str:
    """Return the page as plain text (RFC 3676, 4.3 and 4.5: what marks a signature and a quotation)."""
    blocks = [page.headline]
    for section in page.sections:
        if page.headline:
            blocks.append(f"{_TEXT_RULE}\n{section.heading}")
        for entry in section.entries:
            blocks += _text_of_entry(entry, page.voice)
        blocks.append(_table(section, page.voice))
    default = "\n\n".join(filter(None, blocks)) + "\n\n-- \n" + "\n".join(page.footer) + "\n"
    said = render.printable(page.voice.say("text", page.event, default))
    return said if said.endswith("\n") else f"{said}\n"


def _text_of_entry(entry: Entry, voice: Voice) -> list[str]:
    blocks = ["\n".join(entry.said)]
    if entry.quote:
        blocks.append("\n".join(f"> {line}".rstrip() for line in entry.quote.split("\n")))
    for heading, files in _headed(entry, voice):
        blocks.append("\n".join([heading, *(f"  {file.said}  {file.url}".rstrip() for file in files)]))
    return blocks


def _headed(entry: Entry, voice: Voice) -> Iterable[tuple[str, list[File]]]:
    """Yield the lists of files, each with what stands above it."""
    words = voice.words
    enclosed = [file for file in entry.files if file.is_enclosed]
    others = [file for file in entry.files if not file.is_enclosed]
    if enclosed:
        yield words.attachments_enclosed, enclosed
    if others:
        yield words.attachments_expire if any(file.url for file in others) else words.attachments, others


def _table(section: Section, voice: Voice) -> str:
    if not section.facts:
        return ""
    (name, number), *others = section.facts
    rows = [(name, f"{number}  {section.title}".rstrip()), *others]
    if section.url:
        rows.append((voice.words.label_open, section.url))
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)


# --- as HTML ----------------------------------------------------------------------------------------------

# Colours stay those of the mail program, light or dark; what is ours is grey or half transparent.
_BODY = (
    "margin:0;padding:20px 16px;color-scheme:light dark;font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,"
    "'Helvetica Neue',Arial,'PingFang SC','Microsoft YaHei','Noto Sans CJK SC','Noto Sans SC',sans-serif;"
    "font-size:15px;line-height:1.6"
)
_COLUMN = "max-width:640px;margin:0 auto;overflow-wrap:anywhere;word-break:break-word"
_HEADING = "margin:0 0 4px;font-size:19px;line-height:1.35;font-weight:600"
_SAID = "margin:0 0 12px"
_MUTED = "opacity:.7"
_QUOTE = "margin:0 0 16px;padding:2px 0 2px 14px;border-left:3px solid #ff6a00;white-space:pre-wrap"
_FILES = "margin:0 0 16px;padding:0 0 0 20px"
_FACT_NAME = "padding:1px 16px 1px 0;text-align:left;vertical-align:top;font-weight:normal;white-space:nowrap"
_BUTTON = (
    "display:inline-block;padding:7px 16px;border:1px solid #808080;border-radius:6px;text-decoration:none;"
    "font-weight:600"
)
_RULE = "margin:24px 0;border:0;border-top:1px solid #80808066"
_FOOTER = "margin:24px 0 0;padding:12px 0 0;border-top:1px solid #80808066;font-size:13px"


def as_html(page: Page, subject: str) -> str:
    """Return the page as HTML of its own: no style sheet, no script, nothing to load."""
    own_text = "text" in page.voice.own and "html" not in page.voice.own
    body = f'<div style="white-space:pre-wrap">{_lines(as_text(page))}</div>' if own_text else _html_body(page)
    default = (
        f'<!DOCTYPE html>\n<html lang="{_HTML_LANGUAGES[page.voice.language]}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="supported-color-schemes" content="light dark">\n'
        f"<title>{escape(subject)}</title>\n</head>\n"
        f'<body style="{_BODY}">\n<div style="{_COLUMN}">\n{body}\n</div>\n</body>\n</html>\n'
    )
    return render.printable(page.voice.say("html", page.event, default))


def _html_body(page: Page) -> str:
    parts = []
    if page.headline:
        parts.append(f'<h1 style="{_HEADING}">{escape(page.headline)}</h1>\n<hr style="{_RULE}">')
    parts.append(f'\n<hr style="{_RULE}">\n'.join(_html_of_section(each, page) for each in page.sections))
    parts.append(f'<p style="{_FOOTER};{_MUTED}">{"<br>".join(map(escape, page.footer))}</p>')
    return "\n".join(parts)


def _html_of_section(section: Section, page: Page) -> str:
    level = "h2" if page.headline else "h1"
    parts = [f'<{level} dir="auto" style="{_HEADING}">{escape(section.heading)}</{level}>']
    for entry in section.entries:
        parts += _html_of_entry(entry, page.voice)
    rows = (
        f'<tr><th scope="row" style="{_FACT_NAME};{_MUTED}">{escape(name)}</th><td dir="auto">{escape(value)}</td></tr>'
        for name, value in section.facts
    )
    if section.facts:
        parts.append(f'<table style="border-collapse:collapse;margin:0 0 16px;font-size:14px">{"".join(rows)}</table>')
    if section.url:
        opens = escape(page.voice.words.open_ticket)
        parts.append(f'<p style="margin:0"><a href="{escape(section.url)}" style="{_BUTTON}">{opens}</a></p>')
    return "\n".join(parts)


def _html_of_entry(entry: Entry, voice: Voice) -> list[str]:
    parts = [f'<p style="{_SAID};{_MUTED}">{"<br>".join(map(escape, entry.said))}</p>']
    if entry.quote:
        parts.append(f'<blockquote dir="auto" style="{_QUOTE}">{_lines(entry.quote)}</blockquote>')
    for heading, files in _headed(entry, voice):
        items = "".join(f"<li>{_html_of_file(file)}</li>" for file in files)
        parts.append(f'<p style="margin:0;{_MUTED}">{escape(heading)}</p>\n<ul style="{_FILES}">{items}</ul>')
    return parts


def _html_of_file(file: File) -> str:
    said = escape(file.said)
    return f'<a href="{escape(file.url)}">{said}</a>' if file.url else said


def _lines(text: str) -> str:
    """Return text as HTML in which each line is one, whatever a mail program makes of white space."""
    return "<br>".join(escape(line) for line in text.rstrip("\n").split("\n"))
