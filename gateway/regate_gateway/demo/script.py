"""The demonstration: two tenants, one shared store, the same questions, and why each answer is what it is.

Everything is real: OPA with the shipped policies, the gateway on a socket, the official `openai` client, a
backend that answers only from its prompt. What was filtered is told by the gateway's own audit records, and
by which rule by asking OPA as an operator would; no answer says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import openai

from regate_gateway.composition.development import mint_token, read_audit
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.demo.backend import MODEL, RunningBackend, running_backend
from regate_gateway.http.server import Running
from regate_gateway.services import Services
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, JsonObject, RequestId, StoreId

_DOCUMENTS: Final = Path(__file__).parent / "documents"
_WIDTH: Final = 100
_POLL_SECONDS: Final = 0.05
_RULES: Final[Mapping[str, str]] = {
    "other_tenant": "of another tenant",
    "not_shared_with_principal": "of teams that the caller is not in",
    "level_above_clearance": "above the caller's clearance",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who asks, with a client of the official SDK."""

    principal: Principal
    client: openai.AsyncOpenAI

    @property
    def name(self) -> str:
        """Return how the demonstration calls the person."""
        return f"{self.principal.id}@{self.principal.tenant}"

    @property
    def described(self) -> str:
        """Return the name with the teams that decide what the person sees."""
        return f"{self.name} (teams: {', '.join(self.principal.teams)})"


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scenes play on. `documents` maps each attached file to its path."""

    settings: Settings
    services: Services
    backend: RunningBackend
    people: Mapping[str, Person]
    store: StoreId
    documents: dict[FileId, str] = field(default_factory=dict)


def main(keep: Path | None) -> int:
    """Run the demonstration; return the exit code."""
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="regate-demo-") as folder:
        try:
            return asyncio.run(_run(keep or Path(folder)))
        except ConfigurationError as error:
            click.echo(f"regate: {error.message}", err=True)
            return 1


async def _run(data_dir: Path) -> int:
    index = json.loads((_DOCUMENTS / "index.json").read_text(encoding="utf-8"))
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(running_backend())
        settings = Settings.model_validate(
            {
                "data_dir": data_dir,
                "listen": {"port": 0},
                "upstreams": [{"name": "bundled", "base_url": backend.base_url, "models": [MODEL]}],
                "telemetry": {"access_log": False},
            }
        )
        app, gateway = gateway_app(settings)
        server = await stack.enter_async_context(Running(app, settings.listen))
        assert gateway.services is not None  # noqa: S101 — INVARIANT: the server has started
        people = _people(settings, server.url, index)
        for person in people.values():
            stack.push_async_callback(person.client.close)
        _title("Regate: two tenants, one shared store, every decision made by OPA")
        click.echo(
            f"gateway {server.url}/v1   backend {backend.base_url}   policy "
            f"{await gateway.services.enforcer.revision()}"
        )
        store = await people["alice"].client.vector_stores.create(
            name="shared", metadata={"regate.share": "all_tenants"}
        )
        stage = Stage(settings, gateway.services, backend, people, StoreId(store.id))
        await _ingest(stage, index)
        good = await _same_question(stage, index)
        good &= await _team_sees_part(stage)
        good &= await _detached(stage)
        _title("The receipts")
        click.echo(f"pushdown mismatches (must be 0): {gateway.services.retrieval.mismatches}")
        click.echo(
            "every decision above is in the audit log; with a gateway that keeps its data: regate "
            "audit --response ID"
        )
        good &= gateway.services.retrieval.mismatches == 0
        click.secho("\nAll as promised." if good else "\nNot as promised: see above.", bold=True)
    return 0 if good else 1


# ---------------------------------------------------------------- scenes


async def _same_question(stage: Stage, index: Mapping[str, Any]) -> bool:
    _title("1. The same question, asked by two tenants of the same store")
    good = True
    for question in index["questions"][:2]:
        for name in ("alice", "carol"):
            person = stage.people[name]
            response = await _ask(stage, person, question["question"])
            says = question["says"]
            own, other = (
                says[person.principal.tenant],
                [fact for tenant, fact in says.items() if tenant != person.principal.tenant],
            )
            good &= own in response.output_text and not any(fact in response.output_text for fact in other)
    return good


async def _team_sees_part(stage: Stage) -> bool:
    _title("2. The same tenant, another team")
    question = "How much severance is paid for each year of service?"
    asked = [await _ask(stage, stage.people[name], question) for name in ("alice", "bob")]
    cited = [{annotation.filename for annotation in _annotations(response)} for response in asked]
    return "severance.md" in cited[0] and "severance.md" not in cited[1]


async def _detached(stage: Stage) -> bool:
    _title("3. A document is detached in the middle of a conversation")
    alice = stage.people["alice"]
    first = await _ask(stage, alice, "How many days of annual leave do employees get?")
    (file,) = [file for file, path in stage.documents.items() if path == "acme/annual-leave.md"]
    held = _sentence("acme/annual-leave.md")
    before = held in _prompt(stage)
    await alice.client.vector_stores.files.delete(vector_store_id=stage.store, file_id=file)
    click.secho(
        "\n  alice detaches annual-leave.md from the store, and goes on with the conversation", fg="yellow"
    )
    await _ask(
        stage, alice, "And how many of those days of annual leave may be carried over?", previous=first.id
    )
    prompt = _prompt(stage)
    after = held in prompt or first.output_text in prompt
    click.echo(f"\n  the document's text in the prompt of the turn before:  {'yes' if before else 'no'}")
    click.echo(
        "  the document's text, or the answer made from it, in the prompt of this turn:  "
        f"{'yes' if after else 'no'}"
    )
    for record in read_audit(stage.settings, request_id=None, response_id=None):
        if record.get("phase") == "history.withheld":
            click.echo(
                f"  audit: {record['count']} item(s) of the earlier turn withheld, as "
                f"regate.history.on_deny says: {record['on_deny']}"
            )
    return before and not after


# ---------------------------------------------------------------- asking and telling


async def _ask(stage: Stage, person: Person, question: str, *, previous: str | None = None) -> Any:
    """Ask, and print who asked, the answer, what it cites, and what was filtered by which rule."""
    click.echo()
    click.secho(f"  {person.described}", bold=True)
    click.echo(f"  asks     {question}")
    response = await person.client.responses.create(
        model=MODEL,
        input=question,
        previous_response_id=previous or openai.omit,
        tools=[{"type": "file_search", "vector_store_ids": [stage.store], "max_num_results": 4}],
    )
    _wrapped("  answer   ", response.output_text)
    cited = Counter(
        f"{annotation.filename} ({annotation.file_id[:13]}…)" for annotation in _annotations(response)
    )
    _wrapped("  cites    ", ", ".join(cited) or "nothing")
    await _tell_filtered(stage, person, response.id)
    return response


async def _tell_filtered(stage: Stage, person: Person, response_id: str) -> None:
    records = [
        one["retrieval"]
        for one in read_audit(stage.settings, request_id=None, response_id=response_id)
        if "retrieval" in one
    ]
    if not records:
        click.echo("  audit    the model did not search")
        return
    found = records[-1]
    total, permitted = found["total"], found["permitted"]
    click.echo(
        f"  audit    the store holds {total} chunks; the filter let {permitted} through, "
        f"{found['returned']} were found and decided again"
    )
    reasons = await _reasons(stage, person)
    told = ", ".join(
        f"{count} {_RULES.get(reason, 'for a reason')} (regate.chunk: {reason})"
        for reason, count in reasons.most_common()
    )
    _wrapped("  withheld ", told or "nothing")


async def _reasons(stage: Stage, person: Person) -> Counter[str]:
    """Return, as only an operator may ask, by which rule each document of the store is denied to the
    person.
    """
    context = Context(person.principal, RequestId("req_demo"))
    services = stage.services
    stamps: list[JsonObject] = []
    for owner in (stage.people["alice"], stage.people["carol"]):
        live = await services.state.attachments.live(
            owner.principal, [(stage.store, file) for file in stage.documents]
        )
        stamps += [file.stamp for file in live.values()]
    row = await services.state.vector_stores.get(person.principal, stage.store)
    assert row is not None  # noqa: S101 — INVARIANT: the store is shared
    batch = Batch(
        stores={stage.store: services.retrieval.view(row)}, chunks=[(stage.store, stamp) for stamp in stamps]
    )
    explained = await services.enforcer.explain_chunks(context, batch)
    first = ("other_tenant", "not_shared_with_principal")
    return Counter(
        next((one for one in first if one in reasons), reasons[0])
        for reasons in explained.values()
        if reasons
    )


async def _ingest(stage: Stage, index: Mapping[str, Any]) -> None:
    entries = [entry for tenant in index["tenants"].values() for entry in tenant["documents"]]
    with click.progressbar(entries, label="ingesting both tenants' documents", show_eta=False) as progress:
        for entry in progress:
            client = stage.people[entry["owner"]].client
            path = _DOCUMENTS / entry["file"]
            file = await client.files.create(file=(path.name, path.read_bytes()), purpose="assistants")
            await client.vector_stores.files.create(
                vector_store_id=stage.store, file_id=file.id, attributes=entry["attributes"]
            )
            attached = await client.vector_stores.files.retrieve(vector_store_id=stage.store, file_id=file.id)
            while attached.status == "in_progress":
                await asyncio.sleep(_POLL_SECONDS)
                attached = await client.vector_stores.files.retrieve(
                    vector_store_id=stage.store, file_id=file.id
                )
            if attached.status != "completed":
                raise ConfigurationError(f"{entry['file']} could not be ingested: {attached.last_error}")
            stage.documents[FileId(file.id)] = entry["file"]
    for tenant, told in index["tenants"].items():
        click.echo(f"  {told['name']} ({tenant}): {len(told['documents'])} documents in the same store")


def _people(settings: Settings, url: str, index: Mapping[str, Any]) -> dict[str, Person]:
    people: dict[str, Person] = {}
    for tenant, told in index["tenants"].items():
        for one in told["principals"]:
            token = mint_token(
                settings, subject=one["sub"], tenant=tenant, teams=one["teams"], roles=one["roles"]
            )
            principal = Principal(one["sub"], tenant, teams=tuple(one["teams"]), roles=tuple(one["roles"]))
            people[one["sub"]] = Person(
                principal, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
            )
    return people


def _annotations(response: Any) -> list[Any]:
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    return [annotation for part in parts for annotation in getattr(part, "annotations", [])]


def _prompt(stage: Stage) -> str:
    """Return the last prompt that the backend was sent, as text."""
    return "\n".join(str(message.get("content") or "") for message in stage.backend.prompts[-1])


def _sentence(document: str) -> str:
    """Return a sentence that stands in this document alone."""
    text = (_DOCUMENTS / document).read_text(encoding="utf-8")
    paragraphs = [line for line in text.splitlines() if line and not line.startswith(("#", "-", "|"))]
    return paragraphs[0].split(". ")[0]


def _title(text: str) -> None:
    click.secho(f"\n{text}\n{'─' * len(text)}", bold=True)


def _wrapped(label: str, text: str) -> None:
    words, line = text.split(), label
    for word in words:
        if len(line) + len(word) > _WIDTH:
            click.echo(line)
            line = " " * len(label)
        line += word + " "
    click.echo(line.rstrip())
