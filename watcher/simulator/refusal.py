"""How the gateway says no: an error body with a Code of text, or a failed answer with a Code of digits."""

import uuid
from collections.abc import Mapping

from watcher.errors import WatcherError

#: Status and text of each Code, as the vendor's common-error pages print them; they vary a little by product.
_PRINTED: dict[str, tuple[int, str]] = {
    "IncompleteSignature": (400, "The request signature does not conform to Aliyun standards."),
    "InvalidAccessKeyId.NotFound": (404, "Specified access key is not found."),
    "InvalidAccessKeyId.Inactive": (400, "Specified access key is disabled."),
    "InvalidAction.NotFound": (404, "Specified api is not found, please check your url and method."),
    "InvalidSecurityToken.Expired": (400, "Specified SecurityToken is expired."),
    "InvalidSecurityToken.Malformed": (400, "Specified SecurityToken is malformed."),
    "InvalidSecurityToken.MismatchWithAccessKey": (
        400,
        "Specified SecurityToken mismatch with the AccessKey.",
    ),
    "InvalidTimeStamp.Expired": (400, "Specified time stamp or date value is expired."),
    "InvalidTimeStamp.Format": (400, "Specified time stamp or date value is not well formatted."),
    "InvalidVersion": (400, "Specified parameter Version is not valid."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
    "SignatureNonceUsed": (400, "Specified signature nonce was used already."),
    "System.error": (500, "An error occurred while processing your request."),
    "Throttling.User": (400, "Request was denied due to user flow control."),
    "UnsupportedHTTPMethod": (400, "This http method is not supported."),
    "illegal.auth": (401, "You are not authorized to perform the operation."),
    "illegal.param": (400, "Params illegal"),
}


class RefusedError(WatcherError):
    """The gateway answers with an error status and a Code of text."""

    def __init__(self, code: str, message: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        status, printed = _PRINTED.get(code, (400, code))
        super().__init__(message or printed)
        self.code = code
        self.status = status
        self.headers = headers or {}


class FailedError(WatcherError):
    """The operation answers HTTP 200 with ``Success: false`` and a Code of digits."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def missing(parameter: str) -> RefusedError:
    """Return the refusal of a request that lacks a parameter."""
    return RefusedError(f"Missing{parameter}", f"{parameter} is mandatory for this action.")


def request_id() -> str:
    """Return a fresh one, in the vendor's upper case."""
    return str(uuid.uuid4()).upper()


def error_body(code: str, message: str, host: str, request: str) -> dict[str, str]:
    """Return the body that goes with an error status."""
    return {
        "RequestId": request,
        "Message": message,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={code}&product=Workorder",
        "HostId": host,
        "Code": code,
    }
