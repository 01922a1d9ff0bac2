"""The error table: every error of the core has its status, type and code, and no answer holds what was
not written for callers.
"""

from __future__ import annotations

import inspect
from typing import Any

import orjson
import pytest

from regate_gateway.http.errors import MethodNotAllowed, describe, envelope, log_error
from regate_orchestrator import errors

TABLE: list[tuple[errors.RegateError, int, str, str | None]] = [
    (errors.InvalidRequest("m", param="p", code="c"), 400, "invalid_request_error", "c"),
    (errors.TextTooLong(512), 400, "invalid_request_error", "context_length_exceeded"),
    (errors.Unauthenticated("m"), 401, "authentication_error", "invalid_api_key"),
    (errors.NotPermitted("m"), 403, "permission_error", "policy_denied"),
    (errors.NotFound("m", code="model_not_found"), 404, "invalid_request_error", "model_not_found"),
    (MethodNotAllowed("m", allowed=["GET"]), 405, "invalid_request_error", "method_not_allowed"),
    (errors.TooLarge("m"), 413, "invalid_request_error", "request_too_large"),
    (errors.LimitExceeded("m", retry_after=3), 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.BudgetSpent("m", retry_after=3), 429, "insufficient_quota", "insufficient_quota"),
    (errors.QuotaUnavailable("d"), 503, "server_error", "quota_unavailable"),
    (errors.EgressDenied(), 403, "permission_error", "egress_denied"),
    (errors.FetchFailed("m"), 400, "invalid_request_error", "fetch_failed"),
    (errors.GuardUnavailable("d"), 503, "server_error", "guard_unavailable"),
    (errors.IdentityUnavailable("d"), 503, "server_error", "identity_unavailable"),
    (errors.PolicyUnavailable("d"), 503, "server_error", "policy_unavailable"),
    (errors.StateUnavailable("d"), 503, "server_error", "state_unavailable"),
    (errors.VectorStoreUnavailable("d"), 503, "server_error", "vector_store_unavailable"),
    (errors.EmbeddingsUnavailable("d"), 503, "server_error", "embeddings_unavailable"),
    (errors.RerankingUnavailable("d"), 503, "server_error", "reranking_unavailable"),
    (errors.QueryRewritingUnavailable("d"), 503, "server_error", "query_rewriting_unavailable"),
    (errors.ContextUnavailable("d"), 503, "server_error", "context_unavailable"),
    (errors.ExtractionUnavailable("d"), 503, "server_error", "extraction_unavailable"),
    (errors.AuditUnavailable("d"), 503, "server_error", "audit_unavailable"),
    (errors.GatewayStopped("d"), 503, "server_error", "server_error"),
    (errors.FilterNotExpressible("d"), 503, "server_error", "filter_not_expressible"),
    (errors.UpstreamError("m", status=504), 504, "server_error", "upstream_error"),
    (errors.UpstreamError("m", status=400, code="invalid"), 400, "invalid_request_error", "invalid"),
    (errors.UpstreamError("m", status=429, retry_after="7"), 429, "rate_limit_error", "upstream_error"),
    (errors.ConfigurationError("secret path"), 500, "server_error", None),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_error_has_its_status_type_and_code(
    error: errors.RegateError, status: int, kind: str, code: str | None
) -> None:
    answer = describe(error)
    assert (answer.status, answer.type, answer.code) == (status, kind, code)


def test_every_error_of_the_core_is_in_the_table() -> None:
    abstract = {errors.RegateError, errors.CallerError, errors.Unavailable}
    core = {
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.RegateError)
    } - abstract
    assert core - {type(error) for error, *_ in TABLE} == set()


def test_every_400_has_a_code() -> None:
    assert describe(errors.InvalidRequest("m")).code == "invalid_value"


def body_of(error: BaseException) -> Any:
    return orjson.loads(envelope(error)[2])["error"]


def test_envelope_has_exactly_the_four_members() -> None:
    expected = {
        "message": "m",
        "type": "invalid_request_error",
        "param": "tools[0].type",
        "code": "invalid_value",
    }
    assert body_of(errors.InvalidRequest("m", param="tools[0].type")) == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.PolicyUnavailable("secret"),
        errors.ConfigurationError("secret"),
        KeyError("secret"),
        MemoryError("secret"),
    ],
)
def test_detail_is_not_shown(error: BaseException) -> None:
    assert b"secret" not in envelope(error)[2]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.LimitExceeded("m", retry_after=0.1), b"1"),
        (errors.LimitExceeded("m", retry_after=float("inf")), b"3600"),
        (errors.StateUnavailable(), b"5"),
        (errors.UpstreamError("m", status=429, retry_after="30"), b"30"),
        (errors.UpstreamError("m", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (errors.UpstreamError("m", status=429, retry_after="1\r\nSet-Cookie: a=b"), None),
        (errors.NotFound("m"), None),
    ],
)
def test_retry_after_is_a_plain_number_of_seconds(error: BaseException, seconds: bytes | None) -> None:
    assert dict(envelope(error)[1]).get(b"retry-after") == seconds


def test_allowed_methods_are_named() -> None:
    assert dict(envelope(MethodNotAllowed("m", allowed=["GET", "POST"]))[1])[b"allow"] == b"GET, POST"


def test_lone_surrogate_in_a_message_does_not_cost_the_answer() -> None:
    assert body_of(errors.InvalidRequest("odd \ud800"))["message"] == "odd ?"


def test_details_are_logged_for_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    log_error(errors.PolicyUnavailable("opa: connection refused"), request_id="req_1")
    assert ["opa: connection refused" in record.getMessage() for record in caplog.records] == [True]


def test_callers_errors_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_error(errors.NotFound("m"), request_id="req_1")
    assert caplog.records == []
