"""Receives the webhooks of watcher: checks the signature, drops repeats, prints what happened.

    pip install -r requirements.txt
    WEBHOOK_SECRET=whsec_... python receiver.py

Python 3.11 or newer. HOST (127.0.0.1) and PORT (8080) say where it listens; put a server with TLS in front of it.
WEBHOOK_SECRET may hold two secrets, separated by a space, while you change from one to the next.
"""

import json
import os
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

LONGEST_BODY = 256 * 1024
#: Repeats come within four days. A real program keeps the ids in its database, in the transaction of its own work.
MOST_IDS = 100_000

secrets = [Webhook(secret) for secret in os.environ.get("WEBHOOK_SECRET", "").split()]
seen: OrderedDict[str, None] = OrderedDict()
one_at_a_time = Lock()


def handle(event: dict[str, Any]) -> None:
    """Do your own work here. If it raises, the answer is a 500, and the event comes again."""
    data = event["data"]
    note = data.get("note", {})
    # The texts come from other people: json.dumps keeps them on one line.
    said = [data["reason"], data["ticket"]["id"], data["ticket"]["title"], note.get("content")]
    print(event["id"], event["type"], json.dumps(said, ensure_ascii=False), flush=True)


def verified(body: bytes, headers: dict[str, str]) -> Any:
    """Return the document if one of the secrets signed it within the last five minutes."""
    for webhook in secrets:
        try:
            return webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            continue
    raise PermissionError


def events_in(document: Any, headers: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Return the single events of a message, whatever its format."""
    if isinstance(document, list):  # cloudevents-batch
        yield from document
    elif "specversion" not in document:  # cloudevents-binary: of the headers, only webhook-id is signed
        whole = {"id": headers["webhook-id"], "type": headers.get("ce-type", ""), "data": document}
        yield from events_in(whole | {"specversion": "1.0"}, headers)
    elif "events" in document["data"]:  # a digest
        yield from document["data"]["events"]
    else:
        yield document


def take(document: Any, headers: dict[str, str]) -> None:
    """Handle what was not seen before."""
    with one_at_a_time:
        for event in events_in(document, headers):
            if event["id"] not in seen:
                handle(event)
                seen[event["id"]] = None
                if len(seen) > MOST_IDS:
                    seen.popitem(last=False)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what was taken, now or before; 400 to what is not from watcher; 413 to what is too long."""

    protocol_version = "HTTP/1.1"
    timeout = 15

    def do_POST(self) -> None:
        """Take a message."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal():
            return self.answer(411)
        if int(length) > LONGEST_BODY:
            return self.answer(413)
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            document = verified(body, headers)
        except PermissionError:
            return self.answer(400)
        try:
            take(document, headers)
        except Exception:  # Whatever it is, watcher comes again.
            traceback.print_exc()
            return self.answer(500)
        return self.answer(204)

    def answer(self, status: int) -> None:
        """Answer without a body; after an error, close: the rest of the request was not read."""
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Leave the log to `handle`."""


if __name__ == "__main__":
    if not secrets:
        sys.exit("WEBHOOK_SECRET is not set")
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    with ThreadingHTTPServer(address, Receiver) as server:
        print(f"listening on http://{address[0]}:{server.server_port}/", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
