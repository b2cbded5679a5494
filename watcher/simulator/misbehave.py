"""How each fault looks on the wire."""

import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import msgspec
from aiohttp import web

from watcher.simulator.faults import Fault
from watcher.simulator.refusal import error_body, request_id

JSON = "application/json;charset=utf-8"

_CHUNK = 256 * 1024
_STATUS = {"status": 503, "html": 502, "xml": 400}
_TYPE = {"html": "text/html;charset=utf-8", "xml": "text/xml;charset=utf-8"}
_PAGE = """<!DOCTYPE html>
<html><head><title>{status} Bad Gateway</title></head>
<body><center><h1>{status} Bad Gateway</h1></center><hr><center>proxy.corp.example</center></body></html>
"""
_XML = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><RequestId>{request}</RequestId><HostId>{host}</HostId>'
    "<Code>{code}</Code><Message>{message}</Message></Error>"
)


async def misbehave(fault: Fault, request: web.Request, answer: Callable[[], web.Response]) -> web.StreamResponse:
    """Answer as ``fault`` says; ``answer`` makes the right answer, at the moment when it is wanted."""
    match fault.kind:
        case "slow":
            await anyio.sleep(5.0 if fault.seconds is None else fault.seconds)
            return answer()
        case "drip":
            return await _drip(request, answer(), 0.05 if fault.seconds is None else fault.seconds)
        case "hang":
            # Ends when the client goes away or the server stops.
            await anyio.sleep_forever()
            raise AssertionError
        case "truncated":
            return await _truncated(request, answer())
        case "reset":
            return _reset(request)
        case "huge":
            return await _huge(request, fault)
        case _:
            return _wrong(fault, request.host)


def _wrong(fault: Fault, host: str) -> web.Response:
    """Return a whole answer that is not the right one."""
    status = fault.status or _STATUS.get(fault.kind, 200)
    content_type = _TYPE.get(fault.kind, JSON)
    match fault.kind:
        case "status":
            message = fault.message or "The request has failed due to a temporary failure of the server."
            code = str(fault.code or "ServiceUnavailable")
            body = msgspec.json.encode(error_body(code, message, host, request_id()))
        case "in_band":
            number, message = int(fault.code or 5000), fault.message or "系统繁忙"
            failed = {"Code": number, "Message": message, "RequestId": request_id(), "Success": False}
            body = msgspec.json.encode(failed)
        case "html":
            body = (fault.text or _PAGE.format(status=status)).encode()
        case "xml":
            message = fault.message or "Request was denied due to request throttling."
            code = str(fault.code or "Throttling")
            body = _XML.format(request=request_id(), host=host, code=code, message=message).encode()
        case "not_json":
            body = b'{"Code": 0, "Success": true, "Data": ['
        case _:
            body, content_type = fault.body or fault.text.encode(), fault.content_type
    return web.Response(body=body, status=status, headers={"Content-Type": content_type, **fault.headers})


async def _start(request: web.Request, like: web.Response, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=like.status, headers=like.headers)
    response.content_length = len(body)
    await response.prepare(request)
    return response


async def _drip(request: web.Request, answer: web.Response, pause: float) -> web.StreamResponse:
    body = _bytes(answer)
    response = await _start(request, answer, body)
    for at in range(len(body)):
        await response.write(body[at : at + 1])
        await anyio.sleep(pause)
    return response


async def _truncated(request: web.Request, answer: web.Response) -> web.StreamResponse:
    body = _bytes(answer)
    response = await _start(request, answer, body)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        # A linger time of zero makes the system send RST instead of FIN.
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _huge(request: web.Request, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON, **fault.headers})
    packer = zlib.compressobj(wbits=31) if fault.compressed else None
    if packer is not None:
        response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    async for chunk in _flood(fault.size):
        await response.write(packer.compress(chunk) if packer else chunk)
    if packer is not None:
        await response.write(packer.flush())
    return response


async def _flood(size: int) -> AsyncIterator[bytes]:
    head, tail = b'{"Code":0,"Message":"success","Success":true,"Data":[],"Filler":"', b'"}'
    yield head
    left = size - len(head) - len(tail)
    while left > 0:
        yield b"x" * min(left, _CHUNK)
        left -= _CHUNK
        # Compressing may write nothing for long: let others have their turn.
        await anyio.lowlevel.checkpoint()
    yield tail


def _bytes(answer: web.Response) -> bytes:
    body = answer.body
    return body if isinstance(body, bytes) else b""
