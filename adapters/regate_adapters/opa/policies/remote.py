"""The policies of an OPA that is not ours, held to what those of a managed one are held to: read through its
API, parsed by itself, judged here.

Such an OPA takes whatever its operators give it, and the gateway learns of it afterwards. So an answer counts
only when the policies of its revision were found to be acceptable; until then, and when they cannot be read,
there is no policy. Whoever may read them is said by `system.authz` (`rego/system/authz.rego` permits it). The
counterpart for our own OPA is `opa/server/process.py`, which never lets OPA see what is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self

import orjson

from regate_adapters.opa.acceptance.judging import in_words, judged
from regate_adapters.opa.acceptance.reading import NotParsed, parsed_by_server
from regate_adapters.opa.client import OpaAddress, OpaClient, Reply
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.schema import RowSchema

_log = logging.getLogger("regate.opa")

_DEADLINE_SECONDS: Final = 10.0
_LOOK_EVERY_SECONDS: Final = 5.0
_REMEMBERED: Final = 8
_DOCUMENTS: Final = ("tools", "guard_thresholds")
"""The operators' documents in which controls can be asked for."""
_UNREADABLE: Final = (
    "OPA does not let the gateway read its policies (GET /v1/policies answers {status}), so nothing "
    "shows that they stay within the filter "
    "fragment: permit it to the gateway's token in system.authz, as the shipped rego/system/authz.rego does"
)


class RemotePolicies:
    """What a remote OPA runs. Must be entered; `work` must run for as long as it is used.

    `problem` says why what OPA runs now may not serve; None while it may, as far as is known.
    """

    def __init__(
        self,
        address: OpaAddress,
        *,
        schemas: Mapping[str, RowSchema],
        guarded: Collection[str],
        wait_s: float,
    ) -> None:
        self._client = OpaClient(address, deadline_s=_DEADLINE_SECONDS)
        self._probe = OpaEngine(address, schemas={}, deadline_s=_DEADLINE_SECONDS)
        self._schemas = schemas
        self._guarded = frozenset(guarded)
        self._wait_s = wait_s
        self._wanted = asyncio.Event()
        self._looked = asyncio.Condition()
        self._verdicts: dict[str, str | None] = {}
        self._seen: tuple[str, str] | None = None
        self.problem: str | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Is called when OPA is found to run other policies, or to run none that may serve."""

    async def __aenter__(self) -> Self:
        """Open the connections."""
        await self._client.__aenter__()
        await self._probe.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._probe.__aexit__(kind, error, trace)
        await self._client.__aexit__(kind, error, trace)

    async def require(self, revision: str) -> None:
        """Return when the policies of the revision were found acceptable. Raises `PolicyUnavailable`
        otherwise, and when it takes too long.
        """
        if self._verdicts.get(revision, self) is None:  # nothing is wrong with it
            return
        try:
            async with asyncio.timeout(self._wait_s), self._looked:
                while revision not in self._verdicts:
                    self._wanted.set()
                    await self._looked.wait()
        except TimeoutError as error:
            raise PolicyUnavailable(f"the policies of revision {revision} are not checked yet") from error
        if (problem := self._verdicts[revision]) is not None:
            raise PolicyUnavailable(problem)

    async def check(self) -> str:
        """Return the revision that may serve, after looking now. Raises `PolicyUnavailable` when none
        may, or OPA does not answer.
        """
        revision = await self._probe.revision()
        await self._look()
        if self.problem is not None:
            raise PolicyUnavailable(self.problem)
        return revision

    async def work(self) -> None:
        """Look at the policies whenever somebody asks about a revision that is not known, and every
        few seconds, until cancelled.
        """
        while True:
            try:
                await self._look()
            except PolicyUnavailable as error:  # whoever asks OPA something meets the same
                self.on_change()
                _log.warning("policies_not_read", extra={"cause": error.detail})
            async with self._looked:
                self._looked.notify_all()
            self._wanted.clear()
            try:
                async with asyncio.timeout(_LOOK_EVERY_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        revision = await self._probe.revision()
        reply = await self._client.get("/v1/policies")
        if reply.status in (401, 403):
            self._judge(revision, _UNREADABLE.format(status=reply.status))
            return
        texts = _texts(reply)
        documents = await self._documents()
        seen = sha256(orjson.dumps([texts, documents], option=orjson.OPT_SORT_KEYS)).hexdigest()
        if (
            self._seen == (revision, seen)
            and revision in self._verdicts
            and self._verdicts[revision] == self.problem
        ):
            return
        try:
            trees = await parsed_by_server(self._client, texts)
        except NotParsed as error:
            problem: str | None = str(error)
        else:
            files = {name: text.encode() for name, text in texts.items()} | {
                "data.json": orjson.dumps({"regate": documents})
            }
            findings = await asyncio.to_thread(judged, trees, files, self._schemas, guarded=self._guarded)
            problem = in_words(findings) or None
        if (
            await self._probe.revision() == revision
        ):  # else it is not known whose policies these are, and they are looked at once more
            self._seen = revision, seen
            self._judge(revision, problem)

    def _judge(self, revision: str, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            _log.error("policy_broken", extra={"problem": problem, "revision": revision})
        self.problem = problem
        self.on_change()
        self._verdicts.pop(revision, None)
        self._verdicts[revision] = problem
        while len(self._verdicts) > _REMEMBERED:
            del self._verdicts[next(iter(self._verdicts))]

    async def _documents(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in _DOCUMENTS:
            body = _body(await self._client.post(f"/v1/data/regate/{name}", {}))
            if "result" in body:
                found[name] = body["result"]
        return found


def _texts(reply: Reply) -> dict[str, str]:
    """Return the text of each module, by its name in OPA."""
    try:
        found = {str(module["id"]).lstrip("/"): str(module["raw"]) for module in _body(reply)["result"]}
    except (KeyError, TypeError) as error:
        raise PolicyUnavailable("OPA's list of policies does not have the shape that OPA gives it") from error
    if not found:
        raise PolicyUnavailable("OPA lists no policies")
    return found


def _body(reply: Reply) -> dict[str, Any]:
    try:
        body = orjson.loads(reply.body)
    except ValueError:
        body = None
    if reply.status != 200 or not isinstance(body, dict):
        raise PolicyUnavailable(
            f"OPA answered {reply.status} when its policies were to be read: {reply.excerpt}"
        )
    return body
