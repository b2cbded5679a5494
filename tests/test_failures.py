"""What a failed answer means: code first, status second, and never a word that could do harm."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import (
    ApiDenied,
    ApiRefused,
    ApiThrottled,
    ApiUnavailable,
    CredentialsRejected,
    PermanentError,
    TransientError,
)
from watcher.ticketapi.failures import CLOCK_OFF, NONCE_USED, Failure, failure_of, retry_after

SAMPLES = Path(__file__).parent / "data" / "samples"
INDEX = {entry["file"]: entry for entry in json.loads((SAMPLES / "_index.json").read_text())["samples"]}
#: The longest texts of the gateway that are repeated: code, message, request id; and a sentence of ours.
LONGEST = 3 * 200 + 200

Outcome = type[TransientError] | type[PermanentError]


def failed(status: int, body: Any, headers: dict[str, str] | None = None) -> Failure:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    failure = failure_of(status, headers or {}, encoded)
    assert failure
    assert str(failure.error).isprintable()
    assert len(str(failure.error)) <= LONGEST
    return failure


def gateway(code: Any, message: str = "m") -> dict[str, Any]:
    return {"RequestId": "R-1", "Message": message, "Recommend": "https://x/?q=1", "HostId": "h", "Code": code}


def in_band(code: Any, message: str = "系统繁忙", **more: Any) -> dict[str, Any]:
    return {"Code": code, "Message": message, "RequestId": "R-1", "Success": False} | more


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("param.illegal", 400, ApiRefused),
        ("illegal.param", 400, ApiRefused),
        ("illegal.auth", 401, ApiDenied),
        ("System.error", 500, ApiUnavailable),
        ("Throttling", 400, ApiThrottled),
        ("Throttling.User", 400, ApiThrottled),
        ("Throttling.Api", 429, ApiThrottled),
        ("Throttling.NotYetPublished", 503, ApiThrottled),
        ("ServiceUnavailable", 503, ApiUnavailable),
        ("InternalError", 500, ApiUnavailable),
        ("UnknownError", 500, ApiUnavailable),
        ("InvalidTimeStamp.Expired", 400, ApiUnavailable),
        ("InvalidTimeStamp.Format", 400, ApiRefused),
        ("SignatureNonceUsed", 400, ApiUnavailable),
        ("SignatureDoesNotMatch", 400, CredentialsRejected),
        ("SignatureDoesNotMatch", 403, CredentialsRejected),
        ("IncompleteSignature", 400, CredentialsRejected),
        ("InvalidAccessKeyId.NotFound", 404, CredentialsRejected),
        ("InvalidAccessKeyId.NotFound", 400, CredentialsRejected),
        ("InvalidAccessKeyId.Inactive", 400, CredentialsRejected),
        ("InvalidAccessKeyId.NotYetPublished", 400, CredentialsRejected),
        ("InvalidSecurityToken.Expired", 400, CredentialsRejected),
        ("InvalidSecurityToken.Malformed", 400, CredentialsRejected),
        ("InvalidSecurityToken.MismatchWithAccessKey", 400, CredentialsRejected),
        ("MissingSecurityToken", 400, CredentialsRejected),
        ("Forbidden.RAM", 403, ApiDenied),
        ("Forbidden", 403, ApiDenied),
        ("Forbidden.NotYetPublished", 403, ApiDenied),
        ("NoPermission", 403, ApiDenied),
        ("Forbidden.RiskControl", 403, CredentialsRejected),
        ("MissingTicketId", 400, ApiRefused),
        ("InvalidPageSize", 400, ApiRefused),
        ("InvalidAction.NotFound", 404, ApiRefused),
        ("InvalidApi.NotFound", 404, ApiRefused),
        ("InvalidProduct.NotFound", 404, ApiRefused),
        ("InvalidVersion", 400, ApiRefused),
        ("InvalidProtocol.NeedSsl", 404, ApiRefused),
        ("UnsupportedHTTPMethod", 403, ApiRefused),
    ],
)
def test_every_published_code_has_its_remedy_whatever_the_status(code: str, status: int, outcome: Outcome) -> None:
    for each in (status, 400, 500, 200):
        failure = failed(each, gateway(code))
        assert type(failure.error) is outcome
        assert failure.code == code
        assert "R-1" in str(failure.error)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("inband_no_permission", ApiDenied),
        ("inband_access_denied", ApiDenied),
        ("error_400_param_illegal", ApiRefused),
        ("error_400_illegal_param", ApiRefused),
        ("error_400_missing_parameter", ApiRefused),
        ("error_401_illegal_auth", ApiDenied),
        ("error_403_forbidden_ram", ApiDenied),
        ("error_403_no_permission", ApiDenied),
        ("error_404_invalid_access_key", CredentialsRejected),
        ("error_400_signature_mismatch", CredentialsRejected),
        ("error_400_timestamp_expired", ApiUnavailable),
        ("error_400_nonce_used", ApiUnavailable),
        ("error_400_throttling_user", ApiThrottled),
        ("error_400_throttling_plain", ApiThrottled),
        ("error_500_system_error", ApiUnavailable),
        ("error_503_service_unavailable", ApiUnavailable),
    ],
)
def test_the_samples_fail_as_the_index_says(name: str, outcome: Outcome) -> None:
    entry = INDEX[f"{name}.json"]
    failure = failed(entry["http_status"], (SAMPLES / entry["file"]).read_bytes(), entry["http_headers"])
    assert type(failure.error) is outcome
    wait = timedelta(milliseconds=1500) if name == "error_400_throttling_user" else None
    assert getattr(failure.error, "retry_after", None) == wait


def test_all_failing_samples_are_in_the_table() -> None:
    names = {name for name in INDEX if name.startswith(("error_", "inband_"))}
    (table,) = (mark.args[1] for mark in test_the_samples_fail_as_the_index_says.pytestmark)  # type: ignore[attr-defined]
    assert {f"{name}.json" for name, _ in table} == names


def test_the_codes_that_one_more_attempt_can_mend_are_told() -> None:
    assert failed(400, gateway(NONCE_USED)).code == NONCE_USED
    assert failed(400, gateway(CLOCK_OFF)).code == CLOCK_OFF
    assert "clock" in str(failed(400, gateway(CLOCK_OFF)).error)


@pytest.mark.parametrize("body", [b"", b"<html>", gateway("Never.Heard.Of"), gateway(None), [], 5, None, "text"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, ApiUnavailable),
        (204, ApiRefused),
        (301, ApiUnavailable),
        (302, ApiUnavailable),
        (308, ApiUnavailable),
        (400, ApiRefused),
        (401, ApiDenied),
        (403, ApiDenied),
        (404, ApiRefused),
        (407, ApiRefused),
        (408, ApiUnavailable),
        (418, ApiRefused),
        (425, ApiUnavailable),
        (429, ApiThrottled),
        (500, ApiUnavailable),
        (502, ApiUnavailable),
        (503, ApiUnavailable),
        (504, ApiUnavailable),
        (599, ApiUnavailable),
    ],
)
def test_without_a_known_code_the_status_decides(status: int, outcome: Outcome, body: Any) -> None:
    failure = failed(status, body)
    assert type(failure.error) is outcome
    assert status == 200 or str(status) in str(failure.error)


def test_a_redirect_is_named_as_what_it_is() -> None:
    assert "redirect, which is not followed" in str(failed(302, b"").error)


# --- in band ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        (2011, "没有权限查看该工单", ApiDenied),
        (2011, "", ApiDenied),
        ("2011", "", ApiDenied),
        (401, "", ApiDenied),
        (403, "", ApiDenied),
        (5001, "您没有权限", ApiDenied),
        (5001, "未授权", ApiDenied),
        (5001, "User not authorized to operate", ApiDenied),
        (5001, "You are Not Authorised", ApiDenied),
        (5001, "No Permission for this ticket", ApiDenied),
        (5001, "permission denied", ApiDenied),
        (5001, "FORBIDDEN", ApiDenied),
        (5001, "系统繁忙", ApiUnavailable),
        (1000, "工单已完结", ApiUnavailable),
        (0, "", ApiUnavailable),
        (200, "success", ApiUnavailable),
        (None, "", ApiUnavailable),
        (True, "", ApiUnavailable),
        ([2011], "", ApiUnavailable),
        ("System.error", "", ApiUnavailable),
        ("Throttling.User", "", ApiThrottled),
    ],
)
def test_a_failure_in_a_good_status_is_a_failure(code: Any, message: str, outcome: Outcome) -> None:
    assert type(failed(200, in_band(code, message)).error) is outcome


@pytest.mark.parametrize("success", [False, None, 0, 1, "", "false", "yes", [True], {}])
def test_only_success_makes_an_answer_usable(success: Any) -> None:
    failed(200, {"Code": 0, "Message": "success", "Success": success, "Data": []})


def test_an_answer_that_does_not_mention_success_is_a_failure() -> None:
    failed(200, {"Code": 0, "Message": "success", "Data": []})
    failed(200, {})


@pytest.mark.parametrize("success", [True, "true", "True"])
@pytest.mark.parametrize("code", [0, 200, "200", 5001, "Throttling", None])
@pytest.mark.parametrize("message", ["success", "入参非法", "not authorized"])
def test_neither_code_nor_message_spoils_a_success(success: Any, code: Any, message: str) -> None:
    answer = {"Code": code, "Message": message, "Success": success}
    assert failure_of(200, {"x-acs-retry-after": "5"}, json.dumps(answer).encode()) is None


@pytest.mark.parametrize("status", [201, 204, 206, 302, 400, 500])
def test_a_success_with_another_status_is_a_failure(status: int) -> None:
    failed(status, {"Code": 0, "Success": True, "Data": []})


def test_every_part_of_a_good_answer_is_a_failure() -> None:
    body = (SAMPLES / "plain_agent_reply.json").read_bytes().rstrip()
    assert failure_of(200, {}, body) is None
    for length in range(len(body)):
        assert type(failed(200, body[:length]).error) is ApiUnavailable


# --- other shapes -----------------------------------------------------------------------------------------


def test_lower_case_names_are_understood() -> None:
    failure = failed(400, {"code": "Throttling.User", "message": "slow down", "requestId": "R-9"})
    assert type(failure.error) is ApiThrottled
    assert "slow down; request R-9" in str(failure.error)
    assert failure_of(200, {}, b'{"code": 0, "success": true}') is None


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("Throttling", ApiThrottled), ("InvalidAccessKeyId.NotFound", CredentialsRejected), ("New", ApiRefused)],
)
def test_the_old_xml_error_is_understood(code: str, outcome: Outcome) -> None:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><Error><RequestId>R-1</RequestId><HostId>h</HostId>'
        f"<Code>{code}</Code><Message>流控</Message></Error>"
    ).encode()
    failure = failed(400, body)
    assert (type(failure.error), failure.code) == (outcome, code)
    assert "流控; request R-1" in str(failure.error)


def test_xml_without_an_error_and_xml_that_claims_success_are_no_answers() -> None:
    failed(200, b"<Answer><Success>true</Success></Answer>")
    assert type(failed(200, b"<Error><Success>true</Success></Error>").error) is ApiUnavailable


def test_xml_entities_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><Error><Code>&a;&a;</Code></Error>'
    assert failed(400, bomb).code == "&a;&a;"


# --- when again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-acs-retry-after": "1500"}, 1.5),
        ({"x-acs-retry-after": " 1500 "}, 1.5),
        ({"x-acs-retry-after": "1"}, 0.001),
        ({"x-acs-retry-after": "300000"}, 300),
        ({"x-acs-retry-after": "300001"}, 300),
        ({"x-acs-retry-after": "9" * 5000}, 300),
        ({"x-acs-retry-after": "0"}, None),
        ({"x-acs-retry-after": "-5"}, None),
        ({"x-acs-retry-after": "1.5"}, None),
        ({"x-acs-retry-after": "soon"}, None),
        ({"x-acs-retry-after": ""}, None),
        ({"x-acs-retry-after": "\u0661\u0665\u0660\u0660"}, None),
        ({"x-acs-retry-after": "²"}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "3600"}, 300),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"x-acs-retry-after": "1500", "retry-after": "60"}, 1.5),
        ({"x-acs-retry-after": "soon", "retry-after": "60"}, 60),
    ],
)
def test_the_wait_is_in_milliseconds_or_seconds_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("body", [gateway("Throttling"), gateway("ServiceUnavailable"), gateway("New"), b"<html>"])
def test_a_wait_is_kept_whatever_the_passing_failure(body: Any) -> None:
    error = failed(503, body, {"x-acs-retry-after": "1500"}).error
    assert isinstance(error, TransientError)
    assert error.retry_after == timedelta(seconds=1.5)


def test_an_unknown_code_that_asks_to_wait_is_throttling() -> None:
    assert type(failed(400, gateway("New"), {"x-acs-retry-after": "1500"}).error) is ApiThrottled
    assert type(failed(400, gateway("New")).error) is ApiRefused


def test_a_known_code_counts_more_than_a_wait() -> None:
    assert type(failed(403, gateway("NoPermission"), {"x-acs-retry-after": "1500"}).error) is ApiDenied


# --- texts from outside -----------------------------------------------------------------------------------

hostile = ["\x1b[2J", "a\r\nb", "\x00", "\u202egnp", "\u2028", "\x85", "\ud800", "x" * 100_000, "9" * 5000]


@pytest.mark.parametrize("text", hostile)
def test_what_the_gateway_says_is_repeated_briefly_and_printably(text: str) -> None:
    for body in (gateway(text, text) | {"RequestId": text}, in_band(1, text, RequestId=text)):
        failed(400, body)
        failed(200, body)


def test_a_code_of_too_many_digits_is_no_code() -> None:
    assert failed(400, b'{"Code": ' + b"9" * 5000 + b"}").code == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["Code", "Message", "RequestId", "Success", "code", "message", "requestId", "success"])


@given(st.integers(100, 599), st.dictionaries(names, json_values), st.text(max_size=12))
def test_no_answer_whatever_is_an_accident(status: int, answer: dict[str, Any], wait: str) -> None:
    failure = failure_of(status, {"x-acs-retry-after": wait}, json.dumps(answer).encode())
    if failure is None:
        assert status == 200
        assert {str(answer.get("Success")), str(answer.get("success"))} & {"True", "true", "TRUE"}
    else:
        assert str(failure.error).isprintable()
        assert len(str(failure.error)) <= LONGEST


@given(st.integers(100, 599), st.binary(max_size=100))
def test_no_bytes_whatever_are_an_accident(status: int, body: bytes) -> None:
    failed(status, body)
