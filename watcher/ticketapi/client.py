"""The Ticket System API over HTTP: sign, send, read, and mend what one more attempt can mend."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import structlog
from yarl import URL

from watcher import http
from watcher.duration import milliseconds
from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.model import Ticket, TicketPage
from watcher.ports import Clock
from watcher.ticketapi import failures, signing, wire
from watcher.ticketapi.credentials import CachedCredentials, Credentials
from watcher.ticketapi.failures import Failure

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

VERSION = "2021-06-10"
#: A ticket of some thousand notes is under 2 MiB; more than this is not an answer but an accident.
LIMIT_BYTES = 16 * 1024 * 1024
#: The largest page that ListTickets serves.
PAGE_SIZE = 100
# A smaller difference than this is not what the gateway complains of.
_LEAST_OFFSET = timedelta(seconds=30)

_HOSTS = {
    "ap-southeast-1": "workorder.ap-southeast-1.aliyuncs.com",
    "ap-northeast-1": "workorder.ap-northeast-1.aliyuncs.com",
}
_CENTRAL_HOST = "workorder.aliyuncs.com"
_REGION_OF_SITE = {"intl": "ap-southeast-1"}


def endpoint_for(*, site: str = "cn", region: str = "") -> str:
    """Return the service address; every region but two is served by the central host.

    Source: the endpoint list of the product. The international site's pages name the Singapore host.
    """
    return f"https://{_HOSTS.get(region or _REGION_OF_SITE.get(site, ''), _CENTRAL_HOST)}"


class TicketApiClient:
    """One account's Ticket API, on the shared session.

    Implements ``watcher.ports.TicketApi``. ``timeout`` bounds one call with all its attempts, but not the fetching of
    credentials, whose sources have time limits of their own.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        account: str,
        endpoint: str,
        credentials: CachedCredentials,
        clock: Clock,
        timeout: timedelta,
        proxy: str | None = None,
    ) -> None:
        self._session = session
        self._account = account
        self._endpoint = URL(endpoint)
        self._credentials = credentials
        self._clock = clock
        self._timeout_s = timeout.total_seconds()
        self._proxy = http.proxy_for(endpoint, proxy)
        self._offset = timedelta()

    async def list_ticket_notes(self, ticket: str, *, uid: str = "") -> wire.NotesAnswer:
        """Call ListTicketNotes; see ``watcher.ports.TicketApi``."""
        body = await self._call("ListTicketNotes", query=_present(TicketId=ticket, Uid=uid))
        return wire.NotesAnswer(body)

    async def list_tickets(self, page: int, *, uid: str = "", created_after: datetime | None = None) -> TicketPage:
        """Call ListTickets; see ``watcher.ports.TicketApi``.

        The status is not asked for: whether the API wants its filter as names or numbers is not documented.
        """
        form = _present(Uid=uid)
        if created_after:
            form["StartDate"] = str(milliseconds(created_after + self._offset))
            form["EndDate"] = str(milliseconds(self._clock.now() + self._offset + timedelta(days=1)))
        query = {"PageNumber": str(page), "PageSize": str(PAGE_SIZE)}
        value = wire.decode(await self._call("ListTickets", query=query, form=form))
        return TicketPage(tuple(wire.read_tickets(value)), wire.total_count(value))

    async def get_ticket(self, ticket: str, *, uid: str = "") -> Ticket:
        """Call GetTicket; see ``watcher.ports.TicketApi``."""
        body = await self._call("GetTicket", form=_present(TicketId=ticket, Uid=uid))
        return wire.read_ticket(wire.decode(body))

    async def _call(
        self, action: str, *, query: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the body of a successful answer.

        A used nonce, a clock that is off and refused credentials are each mended once, with a fresh attempt.
        """
        deadline = self._clock.elapsed() + self._timeout_s
        mended: set[str] = set()
        while True:
            credentials = await self._credentials.get()
            offset = self._offset
            reply = await self._send(action, query or {}, form or {}, credentials, deadline)
            failure = failures.failure_of(reply.status, reply.headers, reply.body)
            if failure is None:
                return reply.body
            remedy = self._remedy_for(failure, reply, credentials, offset)
            if not remedy or remedy in mended:
                raise failure.error
            mended.add(remedy)

    def _remedy_for(self, failure: Failure, reply: http.Reply, used: Credentials, offset: timedelta) -> str:
        """Mend what made the call fail, and return what was mended, or "" if nothing can be."""
        if failure.code == failures.NONCE_USED:
            return "nonce"
        if failure.code == failures.CLOCK_OFF:
            # Another call may have learnt it while this one was under way.
            is_learnt = self._offset != offset or self._learn_offset(reply.headers.get("Date", ""))
            return "clock" if is_learnt else ""
        if isinstance(failure.error, CredentialsRejected):
            self._credentials.invalidate(used)
            return "credentials"
        return ""

    def _learn_offset(self, date: str) -> bool:
        try:
            offset = parsedate_to_datetime(date) - self._clock.now()
        except (ValueError, TypeError):
            return False
        if abs(offset - self._offset) < _LEAST_OFFSET:
            return False
        self._offset = offset
        log.warning(
            "clock is off",
            account=self._account,
            seconds=round(-offset.total_seconds()),
            next="requests are signed with the gateway's time; set this machine's clock",
        )
        return True

    async def _send(
        self,
        action: str,
        query: Mapping[str, str],
        form: Mapping[str, str],
        credentials: Credentials,
        deadline: float,
    ) -> http.Reply:
        canonical = signing.canonical_query(query)
        body = signing.canonical_query(form).encode() if form else b""
        headers = self._headers(action, body, credentials)
        headers["authorization"] = signing.authorization(
            "POST",
            self._endpoint.raw_path,
            canonical,
            headers,
            access_key_id=credentials.access_key_id,
            access_key_secret=credentials.access_key_secret,
            body_hash=headers["x-acs-content-sha256"],
        )
        headers["accept"] = "application/json"
        # What was signed is what is sent, to the letter.
        address = f"{str(self._endpoint).rstrip('?')}?{canonical}" if canonical else str(self._endpoint)
        try:
            return await http.fetch(
                self._session,
                "POST",
                URL(address, encoded=True),
                headers=headers,
                body=body or None,
                timeout_s=max(round(deadline - self._clock.elapsed(), 1), 0.1),
                limit_bytes=LIMIT_BYTES,
                proxy=self._proxy,
            )
        except http.HttpFailure as error:
            raise ApiUnavailable(str(error)) from error

    def _headers(self, action: str, body: bytes, credentials: Credentials) -> dict[str, str]:
        """Return the headers that are signed; date and nonce are new at every attempt.

        ``accept`` and ``user-agent`` are left unsigned, because a proxy may rewrite them.
        """
        host, port = self._endpoint.host or "", self._endpoint.port
        bracketed = f"[{host}]" if ":" in host else host
        headers = {
            "host": bracketed if self._endpoint.is_default_port() else f"{bracketed}:{port}",
            "x-acs-action": action,
            "x-acs-version": VERSION,
            "x-acs-date": (self._clock.now() + self._offset).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-content-sha256": signing.content_sha256(body),
        }
        if credentials.security_token:
            headers["x-acs-security-token"] = credentials.security_token
        if body:
            headers["content-type"] = "application/x-www-form-urlencoded"
        return headers


def _present(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}
