"""The error tree of the core, split by who can act. `regate_gateway.http.errors` maps it to HTTP; nothing
between translates.

    RegateError
    ├── CallerError                 the caller can mend the request
    │   ├── InvalidRequest          400, with the parameter at fault
    │   │   ├── TextTooLong         a text is longer than what the embedding model takes
    │   │   └── FetchFailed         what an address of the caller leads to cannot be had
    │   ├── Unauthenticated         401
    │   ├── NotPermitted            403, for what the caller may see but not do
    │   │   └── EgressDenied        the gateway may not connect there for the caller
    │   ├── NotFound                404, absent and invisible alike
    │   ├── TooLarge                413
    │   └── LimitExceeded           429
    │       └── BudgetSpent         what may be spent within a day or a month is spent
    ├── Unavailable                 the operator can mend a dependency; nothing was done
    │   ├── IdentityUnavailable     a provider could not say whether a credential holds
    │   ├── PolicyUnavailable       OPA gave no usable answer
    │   ├── StateUnavailable        the state store failed
    │   ├── VectorStoreUnavailable  the vector store failed
    │   ├── EmbeddingsUnavailable   the embedder failed
    │   ├── RerankingUnavailable    the reranker failed
    │   ├── QueryRewritingUnavailable    the model that rewrites queries failed
    │   ├── ContextUnavailable      the model that writes contexts of chunks failed
    │   ├── GuardUnavailable        a guard that must look at a text did not
    │   ├── ExtractionUnavailable   a file could not be read now, by no fault of its own
    │   ├── QuotaUnavailable        what was spent so far cannot be counted
    │   ├── GatewayStopped          the gateway ended, or its lease did, while it made a response
    │   ├── AuditUnavailable        the record could not be written, so the effect did not happen
    │   └── FilterNotExpressible    the policy's residual has no exact form in this store
    ├── UpstreamError               the backend failed; carries a status, never its words
    └── ConfigurationError          refused at start

A refusal by policy is a value (`decisions.Deny`); it becomes one of these only at the point where an
operation ends because of it. Messages are written for the caller and never carry a secret, a foreign id,
document text, or a backend's own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class RegateError(Exception):
    """The root; never raised itself. `code` is stable and machine-readable, `message` is safe to show
    to the caller.
    """

    code: str | None = None
    is_logged: bool = False
    """Whether the log has it already, from whom knew most about it."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class CallerError(RegateError):
    """The caller can mend it. `param` names the field at fault, in the request's own spelling."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class InvalidRequest(CallerError):
    """The request is malformed, or asks for what cannot be honoured; the message says what to change."""

    code = "invalid_value"


class TextTooLong(InvalidRequest):
    """A text is longer than what the embedding model takes: so many tokens, where that is known."""

    code = "context_length_exceeded"

    def __init__(self, limit: int | None = None) -> None:
        self.limit_text = "" if limit is None else f" ({limit} tokens)"
        super().__init__(
            f"The text is longer than what the embedding model takes{self.limit_text}. Shorten it."
        )


class FetchFailed(InvalidRequest):
    """What an address leads to could not be had: nobody answers, or with something else than was asked for.
    The message never says what the address resolved to.
    """

    code = "fetch_failed"


class Unauthenticated(CallerError):
    """No token, or one that does not verify. The message never says which check failed beyond what the
    caller already knows.
    """

    code = "invalid_api_key"

    @classmethod
    def refused(cls) -> Unauthenticated:
        """Return the one wording for every credential that does not hold, whoever was asked and whichever
        check failed.
        """
        return cls(
            "The credential is not valid here: it is malformed, expired, not yet valid, revoked, or not "
            "issued for this gateway."
        )


class NotPermitted(CallerError):
    """The caller may see the thing but not do this with it."""

    code = "policy_denied"


class EgressDenied(NotPermitted):
    """The gateway may not connect there for the caller: by the policy, or because no address of it may be
    connected to. One wording for both, so that nobody learns which names lead into the private network.
    """

    code = "egress_denied"

    def __init__(self) -> None:
        super().__init__(
            "The gateway may not connect to this address. Name one that the operator has permitted."
        )


class NotFound(CallerError):
    """Absent or invisible: the two must be indistinguishable, so they are one class with one wording
    per kind of object.
    """

    @classmethod
    def of(cls, kind: str, identifier: str, *, param: str | None = None) -> NotFound:
        """Return the one wording used for every absent or invisible object of this kind (`'vector
        store'`, `'file'`, …).
        """
        return cls(f"No such {kind}: {identifier}", param=param, code="not_found")


class TooLarge(CallerError):
    """The request exceeds a size limit, which the message states."""

    code = "request_too_large"


class LimitExceeded(CallerError):
    """A quota is used up; `retry_after` is in seconds."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetSpent(LimitExceeded):
    """A budget of a day or a month is spent. Trying again within a minute does not help."""

    code = "insufficient_quota"


class Unavailable(RegateError):
    """A dependency gave no usable answer. Always a refusal: nothing was read, written or sent because
    of the missing answer.
    """

    default_message: ClassVar[str] = "A dependency is unavailable. Try again later."

    def __init__(self, detail: str = "") -> None:
        super().__init__(self.default_message)
        self.detail = detail
        """For the log, never for the caller."""


class PolicyUnavailable(Unavailable):
    """OPA was unreachable, late, or answered with anything but the exact shape asked for."""

    code = "policy_unavailable"
    default_message = "The policy engine gave no decision, so the request was refused. Try again later."


class IdentityUnavailable(Unavailable):
    """Whoever must say whether a credential holds gave no usable answer."""

    code = "identity_unavailable"
    default_message = "The identity provider gave no answer, so the request was refused. Try again later."


class StateUnavailable(Unavailable):
    """The state store could not read or write."""

    code = "state_unavailable"
    default_message = "The state store is unavailable. Nothing was stored. Try again later."


class VectorStoreUnavailable(Unavailable):
    """The vector store could not answer. It is never reported as an empty result."""

    code = "vector_store_unavailable"
    default_message = "The vector store is unavailable. Try again later."


class EmbeddingsUnavailable(Unavailable):
    """The embedder could not answer."""

    code = "embeddings_unavailable"
    default_message = "The embedding model is unavailable. Try again later."


class RerankingUnavailable(Unavailable):
    """The reranker could not answer."""

    code = "reranking_unavailable"
    default_message = "The ranking model is unavailable. Try again later, or with the ranker 'none'."


class QueryRewritingUnavailable(Unavailable):
    """The model that rewrites queries could not answer."""

    code = "query_rewriting_unavailable"
    default_message = (
        "The model that rewrites queries is unavailable. Try again later, or without 'rewrite_query'."
    )


class ContextUnavailable(Unavailable):
    """The model that writes the contexts of chunks could not answer."""

    code = "context_unavailable"
    default_message = "The model that describes passages is unavailable. Try again later."


class GuardUnavailable(Unavailable):
    """A guard that must look at a text gave no usable answer, so the text goes no further."""

    code = "guard_unavailable"
    default_message = "A guard of this service gave no answer, so the request was refused. Try again later."


class ExtractionUnavailable(Unavailable):
    """A file's text could not be taken out because of the machine, not of the file; it may be tried again."""

    code = "extraction_unavailable"
    default_message = "The file cannot be read at this moment. Try again later."


class QuotaUnavailable(Unavailable):
    """The counter that gateways share gave no answer, so nothing may be spent."""

    code = "quota_unavailable"
    default_message = "The quota counter is unavailable, so the request was refused. Try again later."


class GatewayStopped(Unavailable):
    """The gateway that made the response ended, or was taken for gone by another that ended it in
    its place.
    """

    code = "server_error"
    default_message = "The gateway stopped before the response was complete."


class AuditUnavailable(Unavailable):
    """The audit record could not be written; the effect it describes must not happen."""

    code = "audit_unavailable"
    default_message = "The audit log cannot be written, so the request was refused. Try again later."


class FilterNotExpressible(Unavailable):
    """The filter has no exact form in this store. Raised before any IO; `detail` says which part and
    why, for operators.
    """

    code = "filter_not_expressible"
    default_message = (
        "The access policy cannot be applied by this vector store, so nothing was searched. Tell the "
        "operator."
    )


class UpstreamError(RegateError):
    """The backend failed. `status` is what the caller is told (429 keeps `retry_after`); `detail` is
    for the log only.
    """

    code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str | None = None,
        retry_after: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after = retry_after
        self.detail = detail


class ConfigurationError(RegateError):
    """The configuration is unsafe or inconsistent; the message says which setting to change. Raised at
    start only.
    """

    code = "configuration_error"


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """Name the setting at fault before whatever `ConfigurationError` is raised within: what reads a
    place does not know where that was set.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error.message}") from error
