"""The control endpoint: change the world while it runs, with curl.

It is for people and tests on this machine. A web page that a browser has open must not reach it: such
requests carry an ``Origin``, or by DNS rebinding a ``Host`` that is not this machine's.
"""

from collections.abc import Mapping
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from watcher.simulator import steps
from watcher.simulator.records import AGENT, UNREAD, Ticket
from watcher.simulator.steps import Verb
from watcher.simulator.world import NotThereError, World

PATH = "/_control"
_LISTED = 100

#: Method, path below ``/_control``, the verb, an example body.
_VERBS: tuple[tuple[str, str, type[Verb], str], ...] = (
    (
        "POST",
        "/tickets",
        steps.NewTicket,
        '{"ticket": "0009NEW", "title": "Disk full", "severity": "urgent"}',
    ),
    ("POST", "/tickets/{ticket}/agent-reply", steps.AgentReply, '{"text": "Please try again."}'),
    ("POST", "/tickets/{ticket}/customer-reply", steps.CustomerReply, '{"text": "It works, thank you."}'),
    ("POST", "/tickets/{ticket}/read", steps.Read, "{}"),
    ("POST", "/tickets/{ticket}/status", steps.SetStatus, '{"status": "wait_confirm"}'),
    ("POST", "/tickets/{ticket}/edit", steps.Edit, '{"text": "Please try again at 10:00."}'),
    ("POST", "/tickets/{ticket}/remove", steps.Remove, "{}"),
    ("POST", "/keys/{key}/disable", steps.DisableKey, "{}"),
    ("POST", "/keys/{key}/enable", steps.EnableKey, "{}"),
    ("POST", "/accounts/{account}/quota", steps.SetQuota, '{"per_second": 0.5}'),
    ("POST", "/faults", steps.Inject, '{"kind": "status", "status": 503, "times": 2}'),
    ("DELETE", "/faults", steps.ClearFaults, ""),
)


class Control:
    """Serves the verbs of a world, and shows its state."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add_to(self, app: web.Application) -> None:
        """Register what the control endpoint serves."""
        for method, path, verb, _ in _VERBS:
            app.router.add_route(method, PATH + path, self._serve(verb))
        app.router.add_get(PATH, self.usage)
        app.router.add_get(PATH + "/state", self.state)
        app.router.add_get(PATH + "/tickets/{ticket}", self.ticket)
        app.router.add_route("*", PATH + "/{rest:.*}", self.unknown)
        app.middlewares.append(_guard)

    async def usage(self, request: web.Request) -> web.Response:
        """List what there is, as commands to copy."""
        base = f"http://{request.host}{PATH}"
        account = next(iter(self._world.accounts.values()))
        example = {
            "ticket": next(iter(self._world.tickets), "0005PYGCW"),
            "key": account.keys[0].id if account.keys else "simulator",
            "account": account.name,
        }
        lines = [f"curl -s {base}/state", f"curl -s {base}/tickets/{example['ticket']}"]
        for method, path, verb, body in _VERBS:
            data = f" -d '{body}'" if body else ""
            comment = (verb.__doc__ or "").partition("\n")[0]
            lines += ["", f"# {comment}", f"curl -s -X {method} {base}{path.format_map(example)}{data}"]
        return web.Response(text="\n".join(lines) + "\n")

    async def state(self, _: web.Request) -> web.Response:
        """Show accounts without their secrets, the newest tickets, the faults and the last calls."""
        world = self._world
        newest = sorted(world.tickets.values(), key=lambda ticket: -ticket.created_ms)[:_LISTED]
        return _json(
            {
                "now": world.now(),
                "accounts": [
                    {
                        "name": account.name,
                        "uid": account.uid,
                        "customers": sorted(account.customers),
                        "per_second": account.quota.per_second if account.quota else None,
                        "keys": [{"id": key.id, "disabled": key.disabled} for key in account.keys],
                    }
                    for account in world.accounts.values()
                ],
                "ticket_count": len(world.tickets),
                "newest_tickets": [_summary(ticket) for ticket in newest],
                "faults": world.faults,
                "call_counts": world.counts,
                "last_calls": [asdict(call) for call in list(world.calls)[-_LISTED:]],
            }
        )

    async def ticket(self, request: web.Request) -> web.Response:
        """Show a ticket with its notes."""
        ticket = self._world.ticket(request.match_info["ticket"])
        notes = [{**asdict(note), "attachments": [f.name for f in note.attachments]} for note in ticket.notes.values()]
        return _json({**_summary(ticket), "description": ticket.description, "notes": notes})

    async def unknown(self, request: web.Request) -> web.Response:
        """Say where the list of what there is can be found."""
        raise NotThereError(f"there is no {request.method} {request.path}; GET {PATH} lists what there is")

    def _serve(self, verb: type[Verb]) -> Any:
        async def serve(request: web.Request) -> web.Response:
            given = _fields(await request.read())
            # A fault is the whole body; of other verbs the path names the one it is done to.
            fields = {"fault": given} if verb is steps.Inject else {**given, **request.match_info}
            done = steps.convert(fields, verb).apply(self._world)
            return _json({"done": done.sentence, "dialog_id": done.dialog_id})

        return serve


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse foreign requests to the control endpoint, and answer its errors as JSON."""
    if not request.path.startswith(PATH):
        return await handler(request)
    if "Origin" in request.headers or not _is_loopback(request.host):
        return _json({"error": "only for this machine, and not for web pages"}, 403)
    try:
        return await handler(request)
    except NotThereError as error:
        return _json({"error": str(error)}, 404)
    except ValueError as error:  # msgspec's errors are of this kind
        return _json({"error": str(error)}, 400)


def _fields(body: bytes) -> Mapping[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}


def _is_loopback(authority: str) -> bool:
    try:
        host = URL(f"http://{authority}").host or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _summary(ticket: Ticket) -> dict[str, Any]:
    unread = sum(note.role == AGENT and note.status == UNREAD for note in ticket.notes.values())
    return {
        "ticket": ticket.id,
        "uid": ticket.uid,
        "title": ticket.title,
        "status": ticket.status,
        "severity": ticket.severity,
        "notes": len(ticket.notes),
        "unread": unread,
    }


def _json(payload: Any, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(payload), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")
