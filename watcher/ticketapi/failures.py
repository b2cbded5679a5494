"""What a failed answer means. Pure: status, headers and body in, one of our errors out.

Codes come first and the HTTP status second, because the status of a code differs between the vendor's products.
Sources: the error tables of the operations, the vendor's common error codes, and the official SDKs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from watcher.errors import (
    ApiDenied,
    ApiRefused,
    ApiThrottled,
    ApiUnavailable,
    CredentialsRejected,
    PermanentError,
    TransientError,
)
from watcher.ticketapi import wire

NONCE_USED = "SignatureNonceUsed"
CLOCK_OFF = "InvalidTimeStamp.Expired"

#: What a server may make us wait at the most.
LONGEST_WAIT = timedelta(minutes=5)

_Outcome = type[TransientError] | type[PermanentError]

# The longest matching beginning of a code wins.
_BY_CODE: dict[str, tuple[_Outcome, str]] = {
    "Throttling": (ApiThrottled, "the account spends more calls than it may"),
    "ServiceUnavailable": (ApiUnavailable, "the service is unavailable for the moment"),
    "InternalError": (ApiUnavailable, "the service failed"),
    "UnknownError": (ApiUnavailable, "the service failed"),
    "System.error": (ApiUnavailable, "the service failed"),
    NONCE_USED: (ApiUnavailable, "the nonce was used before"),
    CLOCK_OFF: (
        ApiUnavailable,
        "the gateway finds the time of the request more than 15 minutes off; set this machine's clock",
    ),
    "InvalidTimeStamp": (ApiRefused, "the time of the request is not well formed"),
    "InvalidAccessKeyId.NotFound": (CredentialsRejected, "the access key is unknown; check its id"),
    "InvalidAccessKeyId.Inactive": (CredentialsRejected, "the access key is disabled"),
    "InvalidAccessKeyId": (CredentialsRejected, "the access key is refused"),
    "InvalidAccessKeySecret": (CredentialsRejected, "the access key secret is wrong"),
    "SignatureDoesNotMatch": (CredentialsRejected, "the signature is refused; check the access key secret"),
    "IncompleteSignature": (CredentialsRejected, "the signature is refused; check the access key secret"),
    "InvalidSecurityToken": (CredentialsRejected, "the security token is refused or has expired"),
    "MissingSecurityToken": (CredentialsRejected, "a security token is missing"),
    "Forbidden.RiskControl": (CredentialsRejected, "the account is blocked by the vendor's risk control"),
    "Forbidden": (ApiDenied, "the key has no permission; attach the policy AliyunSupportFullAccess"),
    "NoPermission": (ApiDenied, "the key has no permission; attach the policy AliyunSupportFullAccess"),
    "illegal.auth": (ApiDenied, "the ticket is another account's, or the key has no permission"),
    "param.illegal": (ApiRefused, "the API finds the parameters illegal; check the ticket id"),
    "illegal.param": (ApiRefused, "the API finds the parameters illegal; check the ticket id"),
    "InvalidAction.NotFound": (ApiRefused, "this host does not serve the Ticket API; check `endpoint`"),
    "InvalidApi.NotFound": (ApiRefused, "this host does not serve the Ticket API; check `endpoint`"),
    "InvalidProduct.NotFound": (ApiRefused, "this host does not serve the Ticket API; check `endpoint`"),
    "InvalidVersion": (ApiRefused, "this host does not serve this version of the API; check `endpoint`"),
    "InvalidProtocol.NeedSsl": (ApiRefused, "this host wants https; check `endpoint`"),
    "UnsupportedHTTPMethod": (ApiRefused, "this host does not take the request; check `endpoint`"),
    "Missing": (ApiRefused, "a parameter is missing"),
    "Invalid": (ApiRefused, "a parameter is refused; check the ticket id"),
}

# Seen by a third party on the console gateway of the same product: no permission, or no such ticket.
_IN_BAND_DENIED = {"2011", "401", "403"}
_PERMISSION_WORDS = re.compile(
    r"not authori[sz]ed|no permission|permission denied|forbidden|权限|未授权", re.IGNORECASE
)

_ACS_RETRY_AFTER = "x-acs-retry-after"
_OK = 200
_REDIRECTS = range(300, 400)
_DENIED_STATUSES = (401, 403)
_LATER_STATUSES = (408, 425)
_THROTTLED_STATUS = 429
_SERVER_ERRORS = range(500, 600)
_LONGEST_MESSAGE = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call: the vendor's code, and the error that says what to do about it."""

    code: str
    error: TransientError | PermanentError


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure | None:
    """Return what went wrong, or None if the answer may be used.

    An answer may be used only if it has HTTP status 200, is a JSON object, and says ``Success: true``: neither
    Code nor Message tells success (other operations print Code 200, and some Messages read like errors).
    """
    if status == _OK and wire.says_success(body):
        return None
    try:
        value = wire.decode(body)
    except wire.Unreadable:
        value = _from_xml(body)
    if not isinstance(value, dict):
        return Failure("", _by_status(status, headers, "an answer that is not the API's"))
    if status == _OK and _is_true(_any_case(value, "Success")):
        return None
    code = _printable(_any_case(value, "Code"))
    message = _printable(_any_case(value, "Message"))
    request_id = _printable(_any_case(value, "RequestId"))
    said = "; ".join(filter(None, [message, f"request {request_id}" if request_id else ""]))
    is_denied = bool(value.get("AccessDeniedDetail"))
    return Failure(code, _by_code(code, message, status, headers, said, is_denied=is_denied))


def _by_code(
    code: str, message: str, status: int, headers: Mapping[str, str], said: str, *, is_denied: bool
) -> TransientError | PermanentError:
    beginning = max((known for known in _BY_CODE if code.startswith(known)), key=len, default="")
    if beginning:
        outcome, meaning = _BY_CODE[beginning]
        return _build(outcome, f"{code}: {meaning}", said, headers)
    if status == _OK and is_denied:
        return ApiDenied(
            f"code {code}: the key has no permission; attach the policy AliyunSupportFullAccess", details=said
        )
    if status == _OK and (code in _IN_BAND_DENIED or _PERMISSION_WORDS.search(message)):
        return ApiDenied(f"code {code}: the ticket does not exist or the key may not see it", details=said)
    if status == _OK:
        return _build(ApiUnavailable, f"code {code}: the API reports a failure", said, headers)
    return _by_status(status, headers, f"code {code or 'missing'}", said)


def _by_status(status: int, headers: Mapping[str, str], what: str, said: str = "") -> TransientError | PermanentError:
    message = f"HTTP {status}, {what}"
    if status == _THROTTLED_STATUS:
        return _build(ApiThrottled, message, said, headers)
    if status in _REDIRECTS:
        return ApiUnavailable(f"HTTP {status}, a redirect, which is not followed; check `endpoint` and the proxy")
    if status == _OK or status in _SERVER_ERRORS or status in _LATER_STATUSES or _ACS_RETRY_AFTER in headers:
        return _build(ApiUnavailable, message, said, headers)
    if status in _DENIED_STATUSES:
        return ApiDenied(message, details=said)
    return ApiRefused(f"{message}; check `endpoint` and the proxy", details=said)


def _build(outcome: _Outcome, message: str, said: str, headers: Mapping[str, str]) -> TransientError | PermanentError:
    if not issubclass(outcome, TransientError):
        return outcome(message, details=said)
    wait = retry_after(headers)
    # The vendor's SDK and CLI take this header alone for throttling, whatever the code.
    throttled = wait and _ACS_RETRY_AFTER in headers
    return (ApiThrottled if throttled else outcome)(message, details=said, retry_after=wait)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long the gateway asks to wait, at most ``LONGEST_WAIT``.

    ``x-acs-retry-after`` is in milliseconds (tea-openapi 0.4.6 and the vendor's CLI read it so); the standard
    ``Retry-After`` in seconds is understood as well. Anything that is not a positive number is ignored.
    """
    for name, unit in ((_ACS_RETRY_AFTER, "milliseconds"), ("retry-after", "seconds")):
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdecimal() and int(text[:12]) > 0:
            return min(timedelta(**{unit: int(text[:12])}), LONGEST_WAIT)
    return None


def _from_xml(body: bytes) -> dict[str, str] | None:
    """Return the fields of an XML error; by pattern, because a parser would also expand entities."""
    text = body[:20_000].decode("utf-8", errors="replace")
    if "<Error>" not in text:
        return None
    found = (re.search(rf"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message", "RequestId"))
    return {name: match[1] for name, match in zip(("Code", "Message", "RequestId"), found, strict=True) if match}


def _any_case(value: dict[str, Any], name: str) -> Any:
    """Return a field that the gateway spells ``Code`` and some of its layers ``code`` (the SDK takes both)."""
    return value.get(name, value.get(name[0].lower() + name[1:]))


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _printable(value: Any) -> str:
    """Return a short text without control characters; the body is text from outside."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST_MESSAGE]).strip()
