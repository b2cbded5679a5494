"""Addresses of attachments: signed, different at every call, and good for a while.

The form is OSS V1 URL signing, as the vendor prints it for GetAttachmentUploadUrl: ``Expires`` in epoch
seconds, ``OSSAccessKeyId`` and ``Signature``.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from watcher.simulator.records import StoredFile
from watcher.simulator.refusal import request_id
from watcher.simulator.world import World

PATH = "/attachments"


def signed_url(world: World, base: str, file: StoredFile) -> str:
    """Return an address of ``file`` below ``base`` that works for ``world.url_lifetime`` seconds."""
    expires = str(int(world.now() + world.url_lifetime))
    # A temporary key per address makes two addresses of one second differ too.
    key_id = f"TMP.{secrets.token_hex(12)}"
    query = urlencode(
        {"Expires": expires, "OSSAccessKeyId": key_id, "Signature": _sign(world, file.key, expires, key_id)}
    )
    return f"{base}{PATH}/{file.key}/{quote(file.name, safe='')}?{query}"


def refusal_of(world: World, key: str, query: Mapping[str, str]) -> str | None:
    """Return why an address does not work, or None if it does."""
    expires, key_id = query.get("Expires", ""), query.get("OSSAccessKeyId", "")
    wanted = _sign(world, key, expires, key_id)
    if not hmac.compare_digest(wanted.encode(), query.get("Signature", "").encode("utf-8", "replace")):
        return "The request signature we calculated does not match the signature you provided."
    return "Request has expired." if world.now() >= int(expires) else None


def access_denied(message: str, host: str) -> str:
    """Return the body that OSS answers with HTTP 403."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>AccessDenied</Code>\n'
        f"  <Message>{escape(message)}</Message>\n  <RequestId>{request_id()}</RequestId>\n"
        f"  <HostId>{escape(host)}</HostId>\n</Error>\n"
    )


def _sign(world: World, key: str, expires: str, key_id: str) -> str:
    text = f"GET\n\n\n{expires}\n{PATH}/{key}".encode("utf-8", "replace")
    secret = f"{world.url_secret}/{key_id}".encode("utf-8", "replace")
    return base64.b64encode(hmac.new(secret, text, hashlib.sha1).digest()).decode()
