"""The gateway: one HTTP address that takes every operation, and the addresses of attachments."""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from aiohttp import web

from watcher.simulator import attachments
from watcher.simulator.limits import Nonces
from watcher.simulator.misbehave import JSON, misbehave
from watcher.simulator.operations import OPERATIONS, Ask
from watcher.simulator.records import Account
from watcher.simulator.refusal import FailedError, RefusedError, error_body, missing, request_id
from watcher.simulator.verify import Incoming, verify
from watcher.simulator.world import World

VERSION = "2021-06-10"
_FORM = "application/x-www-form-urlencoded"


class Gateway:
    """Serves a world as the vendor's gateway serves the Ticket System API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._nonces = Nonces()

    def add_to(self, app: web.Application) -> None:
        """Register what the gateway serves."""
        app.router.add_route("*", "/", self.serve)
        app.router.add_get(attachments.PATH + "/{key:[^/]+/[^/]+}/{name}", self.download)
        app.on_response_prepare.append(self._date)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one call of an operation, unless a fault comes between."""
        incoming = await _read(request)
        base = f"http://{request.host}"
        fault = self._world.strike(incoming.action, incoming.get("TicketId"))
        if fault is None:
            response, code = self._answer(incoming, base)
            self._record(incoming, code)
            return response
        self._record(incoming, f"fault:{fault.kind}")
        return await misbehave(fault, request, lambda: self._answer(incoming, base)[0])

    async def download(self, request: web.Request) -> web.Response:
        """Hand out an attachment to whoever holds a good address of it."""
        key = request.match_info["key"]
        reason = attachments.refusal_of(self._world, key, request.query)
        file = self._world.files.get(key)
        if reason is not None or file is None:
            text = attachments.access_denied(reason or "No such file.", request.host)
            return web.Response(status=403, text=text, content_type="application/xml")
        return web.Response(body=file.content, content_type="application/octet-stream")

    def _answer(self, incoming: Incoming, base: str) -> tuple[web.Response, str]:
        """Return the right answer, and the code by which it is recorded."""
        request = request_id()
        host = incoming.headers.get("host", "")
        try:
            account = self._admit(incoming)
            answer = OPERATIONS[incoming.action](Ask(self._world, account, incoming, base))
        except RefusedError as error:
            body = error_body(error.code, str(error), host, request)
            return _reply(body, request, status=error.status, headers=error.headers), error.code
        except FailedError as error:
            failed = {"Code": error.code, "Message": str(error), "RequestId": request, "Success": False}
            return _reply(failed, request), str(error.code)
        return _reply({"Code": 0, "Message": "success", "RequestId": request, "Success": True, **answer}, request), "OK"

    def _admit(self, incoming: Incoming) -> Account:
        """Return the caller's account, or refuse what the gateway refuses before the operation sees it."""
        if incoming.method not in {"GET", "POST"}:
            raise RefusedError("UnsupportedHTTPMethod")
        for name, value in (("Action", incoming.action), ("Version", incoming.version)):
            if not value:
                raise missing(name)
        if incoming.version != VERSION:
            raise RefusedError("InvalidVersion")
        if incoming.action not in OPERATIONS:
            raise RefusedError("InvalidAction.NotFound")
        account = verify(self._world, self._nonces, incoming)
        wait = account.quota.spend(self._world.now()) if account.quota else 0.0
        if wait:
            # Milliseconds, rounded up: who waits as long as told is let through.
            raise RefusedError("Throttling.User", headers={"x-acs-retry-after": str(int(wait * 1000) + 1)})
        return account

    def _record(self, incoming: Incoming, code: str) -> None:
        self._world.record(incoming.action, incoming.get("TicketId"), incoming.key_id, code)

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        # aiohttp would tell this machine's time; clients correct their clock by this header.
        response.headers["Date"] = formatdate(self._world.now(), usegmt=True)


async def _read(request: web.Request) -> Incoming:
    body = await request.read()
    form = body.decode("utf-8", "replace") if request.content_type == _FORM else ""
    query = urlsplit(_text(request.raw_path)).query
    return Incoming(
        method=request.method,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        form=dict(parse_qsl(form, keep_blank_values=True)),
        headers={name.lower(): _text(value) for name, value in request.headers.items()},
        body=body,
    )


def _text(received: str) -> str:
    """Return text that can be encoded: what was not UTF-8 has no signature that could match."""
    return received.encode("utf-8", "replace").decode()


def _reply(payload: Any, request: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(payload),
        status=status,
        headers={"Content-Type": JSON, "x-acs-request-id": request, **(headers or {})},
    )
