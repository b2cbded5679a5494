"""The texts that we write, in each language. Pure. Replies are never translated."""

from collections.abc import Mapping
from dataclasses import dataclass

from watcher.model import Language, Role, Severity, TicketStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Everything that a sink may have to say; names in braces are filled in."""

    roles: Mapping[Role, str]
    statuses: Mapping[TicketStatus, str]
    severities: Mapping[Severity, str]
    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    #: An instant in full, from {weekday} {day} {month} {year} {time} {zone}, and what stands behind it.
    date: str
    in_utc: str

    somebody: str
    ticket: str
    card: str
    replied: str
    unread: str
    #: A digest over {count} tickets, over one, and of {count} replies in one ticket ({title}).
    tickets_unread: str
    ticket_unread: str
    replies_in: str

    replied_on: str
    wrote: str
    still_unread: str
    unread_in_ticket: str
    attached: str
    attachments: str
    attachments_expire: str
    attachments_enclosed: str
    not_fetched: str
    label_ticket: str
    label_status: str
    label_severity: str
    label_account: str
    label_open: str
    open: str
    open_ticket: str
    remind_later: str
    sent_by: str
    sent_by_watch: str
    do_not_answer: str
    test_text: str
    test_title: str
    #: The name of a message's sender, from {author} and our own {name}.
    via: str
    own_name: str
    #: Why a file is not enclosed.
    too_large: str
    too_large_for_server: str
    refused_by_server: str
    too_many: str
    too_slow: str
    too_slow_to_send: str
    link_expired: str
    unreachable: str
    also_html: str
    #: Which {ticket} of which {account}, before a text.
    place: str
    list_description: str
    more: str


ENGLISH = Words(
    roles={Role.AGENT: "Agent", Role.CUSTOMER: "Customer", Role.UNKNOWN: "Unknown sender"},
    statuses={
        TicketStatus.ASSIGNED: "pending response",
        TicketStatus.DEALING: "processing",
        TicketStatus.WAIT_FEEDBACK: "waiting for your feedback",
        TicketStatus.FEEDBACK: "feedback given",
        TicketStatus.WAIT_CONFIRM: "waiting for your confirmation",
        TicketStatus.CONFIRMED: "completed",
        TicketStatus.UNKNOWN: "unknown",
    },
    severities={Severity.NORMAL: "normal", Severity.URGENT: "urgent", Severity.UNKNOWN: "unknown"},
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    months=("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    date="{weekday} {day} {month} {year} at {time} {zone}",
    in_utc=" ({utc} UTC)",
    somebody="Somebody",
    ticket="ticket {ticket}",
    card="[card]",
    replied="{author} replied: {title}",
    unread="Unread reply of {author}: {title}",
    tickets_unread="{count} tickets have unread replies",
    ticket_unread="1 ticket has unread replies",
    replies_in="{count} new replies: {title}",
    replied_on="{author} replied on {when}.",
    wrote="{author} replied.",
    still_unread="Still unread in the console.",
    unread_in_ticket="{count} replies of this ticket are unread.",
    attached="attached: {name}",
    attachments="Attachments",
    attachments_expire="Attachments (links expire; open them soon)",
    attachments_enclosed="Attachments (enclosed)",
    not_fetched="{name}: not enclosed, {reason}",
    label_ticket="Ticket",
    label_status="Status",
    label_severity="Severity",
    label_account="Account",
    label_open="Open",
    open="Open",
    open_ticket="Open ticket",
    remind_later="Remind me in 1 hour",
    sent_by="Sent by watcher.",
    sent_by_watch="Sent by watcher: watch {watch}.",
    do_not_answer="Do not answer here: answers do not reach the support agent.",
    test_text="If you can read this, messages of watcher reach you here. Nobody replied to anything.",
    test_title="Test message of watcher",
    via="{author} via {name}",
    own_name="Ticket Watcher",
    too_large="too large",
    too_large_for_server="too large for the mail server",
    refused_by_server="the mail server refused it",
    too_many="too many files",
    too_slow="the download took too long",
    too_slow_to_send="with it the mail took too long",
    link_expired="the link has expired",
    unreachable="it could not be downloaded",
    also_html="(The same follows as HTML, {chars} characters.)",
    place="{ticket}, {account}. ",
    list_description="Support tickets of {account}",
    more="{count} more",
)

CHINESE = Words(
    roles={Role.AGENT: "工程师", Role.CUSTOMER: "客户", Role.UNKNOWN: "未知发送者"},
    statuses={
        TicketStatus.ASSIGNED: "待响应",
        TicketStatus.DEALING: "处理中",
        TicketStatus.WAIT_FEEDBACK: "待您反馈",
        TicketStatus.FEEDBACK: "已反馈",
        TicketStatus.WAIT_CONFIRM: "待您确认",
        TicketStatus.CONFIRMED: "已完成",
        TicketStatus.UNKNOWN: "未知",
    },
    severities={Severity.NORMAL: "普通", Severity.URGENT: "紧急", Severity.UNKNOWN: "未知"},
    weekdays=("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
    months=tuple(f"{number}月" for number in range(1, 13)),
    date="{year}年{month}{day}日 {weekday} {time} {zone}",
    in_utc="（{utc} UTC）",
    somebody="有人",
    ticket="工单 {ticket}",
    card="[卡片]",
    replied="{author} 回复了：{title}",
    unread="{author} 的未读回复：{title}",
    tickets_unread="{count} 个工单有未读回复",
    ticket_unread="1 个工单有未读回复",
    replies_in="{count} 条新回复：{title}",
    replied_on="{author} 于 {when} 回复。",
    wrote="{author} 已回复。",
    still_unread="控制台中仍显示未读。",
    unread_in_ticket="本工单有 {count} 条未读回复。",
    attached="附件：{name}",
    attachments="附件",
    attachments_expire="附件（链接会过期，请尽快打开）",
    attachments_enclosed="附件（已随信附上）",
    not_fetched="{name}：未能附上，{reason}",
    label_ticket="工单",
    label_status="状态",
    label_severity="级别",
    label_account="账号",
    label_open="打开",
    open="打开",
    open_ticket="打开工单",
    remind_later="1 小时后提醒我",
    sent_by="由 watcher 发送。",
    sent_by_watch="由 watcher 发送：监视项 {watch}。",
    do_not_answer="请勿直接回复此消息：回复不会送达支持工程师。",
    test_text="如果您能看到这条消息，说明 watcher 的消息可以送达这里。并没有人回复任何工单。",
    test_title="watcher 的测试消息",
    via="{author}（{name}）",
    own_name="工单监视",
    too_large="文件过大",
    too_large_for_server="超出邮件服务器的大小限制",
    refused_by_server="邮件服务器拒收",
    too_many="文件过多",
    too_slow="下载超时",
    too_slow_to_send="附上后发送超时",
    link_expired="链接已过期",
    unreachable="无法下载",
    also_html="（另附内容相同的 HTML 部分，共 {chars} 个字符。）",
    place="{ticket}，{account}。",
    list_description="{account} 的支持工单",
    more="另有 {count} 条",
)

_OF_LANGUAGE = {Language.ENGLISH: ENGLISH, Language.CHINESE: CHINESE}


def words_in(language: Language) -> Words:
    """Return the texts of a language."""
    return _OF_LANGUAGE[language]
