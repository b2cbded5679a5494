"""How the other side of a TLS connection is checked, and what a failure of it means."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Read = TypeVar("_Read")
_NO_TLS = "the other side does not speak TLS here"
_WANTS_CERTIFICATE = "the other side asks for a client certificate"
_REFUSES_CERTIFICATE = "the other side refuses the client certificate"
# The names that OpenSSL gives to its reasons; alerts are what the other side said (RFC 8446, 6).
_MEANINGS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "UNKNOWN_PROTOCOL": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": "the other side knows only versions before TLS 1.2",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side does not accept TLS 1.2 or 1.3",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _WANTS_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": _REFUSES_CERTIFICATE,
    "SSLV3_ALERT_BAD_CERTIFICATE": _REFUSES_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_REFUSES_CERTIFICATE}: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{_REFUSES_CERTIFICATE}: it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _REFUSES_CERTIFICATE,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _REFUSES_CERTIFICATE,
    "TLSV1_ALERT_ACCESS_DENIED": _REFUSES_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other side ended the handshake; perhaps it asks for a client certificate",
}
_UNTRUSTED = "is not signed by an authority that is trusted here"
# The numbers that OpenSSL gives to its reasons not to trust a certificate (X509_V_ERR_...).
_DISTRUST = {
    9: "is not valid yet; compare the clocks",
    10: "has expired",
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    62: "is for another host name",
    64: "is for another address",
}


def trusting(ca: Path | None = None) -> ssl.SSLContext:
    """Return how clients check servers: by the system's authorities, or by those of the file ``ca`` alone.

    Raises ``ValueError`` with words for the operator if the file cannot serve.
    """
    context = _read(lambda: ssl.create_default_context(cafile=ca), "holds no certificate")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def show_certificate(context: ssl.SSLContext, cert: Path, key: Path | None = None) -> None:
    """Let clients show a certificate (PEM, with its chain) to servers that ask; without ``key`` it holds the key too.

    Raises ``ValueError`` with words for the operator if the files cannot serve.
    """

    def refuse_password() -> str:
        # Asked for only if the key is encrypted; OpenSSL would ask the terminal.
        raise ValueError("the key is encrypted; decrypt it (`openssl pkey -in KEY -out FILE`) and protect the file")

    _read(
        lambda: context.load_cert_chain(cert, key, password=refuse_password),
        "does not hold a certificate and the key that belongs to it",
    )


def _read(read: Callable[[], _Read], otherwise: str) -> _Read:
    try:
        return read()
    except ssl.SSLError as error:
        raise ValueError(otherwise) from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def meaning(error: ssl.SSLError) -> str:
    """Say why a connection failed, in words for the operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _DISTRUST.get(error.verify_code)
        return f"the certificate of the other side {why or f'is not trusted: {error.verify_message}'}"
    reason = error.reason or ""
    return _MEANINGS.get(reason) or reason.replace("_", " ").lower() or "handshake refused"
