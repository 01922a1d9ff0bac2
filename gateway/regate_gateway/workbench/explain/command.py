"""The command `regate policy explain`: options, and explanations as people read them. What is
explained is in `explanation.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from regate_gateway.workbench.check.samples import principal_in
from regate_gateway.workbench.directory import choose
from regate_gateway.workbench.explain.explanation import Explanation, relevant, shown_rule
from regate_gateway.workbench.explain.recorded import (
    ExplainedRecords,
    explain_all,
    find_decision,
    find_response,
)
from regate_gateway.workbench.explain.supposed import Supposed, Supposition, suppose
from regate_gateway.workbench.explain.trace import Attempt, Condition, Tracer
from regate_gateway.workbench.replay.engine import RunningPolicies, running_policies
from regate_gateway.workbench.replay.replaying import spelt_plan
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, JsonObject, StoreId

_MAX_BYTES: Final = 1024 * 1024
_STORE: Final[JsonObject] = {"id": ""}


def _json_or_file(ctx: click.Context, param: click.Parameter, value: str | None) -> JsonObject | None:
    """Return the JSON object that an option holds, or that is in the file it names with `@`; anything
    else is wrong usage.
    """
    if value is None:
        return None
    try:
        document = json.loads(_read(Path(value[1:])) if value.startswith("@") else value)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"neither JSON nor a file of it: {error}", ctx, param) from None
    if not isinstance(document, dict):
        raise click.BadParameter("is not a JSON object", ctx, param)
    return document


def _store(ctx: click.Context, param: click.Parameter, value: str | None) -> JsonObject | str | None:
    """Return the id of a store, or its policy fields."""
    return value if value is not None and value.startswith("vs_") else _json_or_file(ctx, param, value)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).decode("utf-8")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks about: a principal and perhaps a chunk, or something recorded."""

    principal: Principal | None
    chunk: JsonObject | None
    store: JsonObject
    filters: bool
    file: FileId | None
    in_store: StoreId | None
    """In which store the file is looked for; None where it is in one alone."""
    config: Path | None
    decision: str | None
    response: str | None
    audit: Path


@click.command()
@click.option(
    "--principal",
    callback=_json_or_file,
    metavar="JSON|@FILE",
    help="Who asks: an object with id, tenant, teams, roles, …",
)
@click.option(
    "--chunk",
    callback=_json_or_file,
    metavar="JSON|@FILE",
    help="The chunk's policy fields. Absent: only the filter is shown.",
)
@click.option(
    "--file",
    metavar="ID",
    help="A file that is stored here (file-…), in place of --chunk: why the principal finds it, or does not.",
)
@click.option(
    "--store",
    callback=_store,
    metavar="ID|JSON|@FILE",
    help="The vector store: with --file the id of one (vs_…), else its policy fields.",
)
@click.option(
    "--filters", is_flag=True, help="Show the principal's filter as each kind of store is asked it, too."
)
@click.option("--decision", metavar="ID", help="A recorded decision (dec_…).")
@click.option("--response", metavar="ID", help="Everything decided for a response (resp_…).")
@click.option(
    "--audit",
    type=click.Path(exists=True, path_type=Path),
    help="Audit directory, or a file of its JSON lines.  [default: audit.path]",
)
@click.option(
    "--policy",
    type=click.Path(exists=True, path_type=Path),
    help="Policy directory or bundle.  [default: opa.bundle, else the shipped policies]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="REGATE_CONFIG",
    help="Configuration file.",
)
def explain(policy: Path | None, config: Path | None, *, as_json: bool, **options: Any) -> None:
    """Show why a chunk is, or would be, admitted or denied: rules, lines, reasons, and the filter that the
    principal gets.

    Asks the policy as it is now, in an OPA of its own. A recorded decision is asked again exactly as it was
    asked then. Prints metadata only: never document text, and of a tool's arguments only their lengths. Exit
    code 0 when explained, 1 when there is nothing to explain or the policy does not run, 2 for wrong usage.

    \b
    Example: regate policy explain --principal '{"id": "bob", "tenant": "acme", "teams": ["eng"]}' --chunk
    @chunk.json regate policy explain --principal @carl.json --file file-… --store vs_…
             regate policy explain --response resp_…
    """
    try:
        chosen = choose(policy, config)
        asked = _asked(options, config)
        result = asyncio.run(_explain(asked, chosen.directory, chosen.opa))
    except (ConfigurationError, PolicyUnavailable) as error:
        click.echo(
            f"regate: {error.message if isinstance(error, ConfigurationError) else error.detail}", err=True
        )
        sys.exit(1)
    if as_json:
        import orjson

        click.echo(orjson.dumps(result.as_document(), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo("\n".join(result.lines()).rstrip())


def _asked(options: Mapping[str, Any], config: Path | None) -> Asked:
    kinds = [name for name in ("principal", "decision", "response") if options[name] is not None]
    if len(kinds) != 1:
        raise click.UsageError("give exactly one of --principal, --decision and --response")
    if kinds != ["principal"] and any(options[name] is not None for name in ("chunk", "file", "store")):
        raise click.UsageError("--chunk, --file and --store belong to --principal")
    if options["file"] is not None and options["chunk"] is not None:
        raise click.UsageError("give --file or --chunk, not both")
    if options["store"] is not None and isinstance(options["store"], str) != (options["file"] is not None):
        raise click.UsageError(
            "--store: give the id of a store (vs_…) with --file, and its policy fields without"
        )
    principal = principal_in(options["principal"], "--principal") if kinds == ["principal"] else None
    audit = options["audit"]
    if audit is None and principal is None:
        from regate_gateway.config.loading import load_settings

        audit = load_settings(config).audit.path
    named = options["store"] if isinstance(options["store"], str) else None
    return Asked(
        principal,
        options["chunk"],
        _STORE if named or options["store"] is None else options["store"],
        options["filters"],
        None if options["file"] is None else FileId(options["file"]),
        None if named is None else StoreId(named),
        config,
        options["decision"],
        options["response"],
        audit or Path(),
    )


@dataclass(frozen=True, slots=True)
class ShownSupposition:
    """A question that nobody asked yet, explained. `with_stores`: people are shown what each kind of
    store is asked; programs always are.
    """

    found: Supposed
    with_stores: bool

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return self.found.as_document()

    def lines(self) -> Iterator[str]:
        """Yield it as people read it."""
        shown = self.found.shown
        for note in self.found.notes:
            yield f"Note: {note}"
        if self.found.explanation is not None:
            yield from _explanation_lines(self.found.explanation)
            yield ""
        if shown is None:
            yield f"Filter: refused, {self.found.refused}"
            return
        yield f"Filter of the principal ({shown.plan['kind']}): {shown.formula}"
        yield f"Always joined to it: {shown.guard}"
        if not self.with_stores:
            yield "--filters shows what each kind of store is asked."
            return
        for kind, rendered in shown.stores.items():
            yield f"  {kind}:"
            for name, value in rendered.items():
                yield (
                    f"    {name}: "
                    f"{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                )


@dataclass(frozen=True, slots=True)
class FromRecords:
    """Recorded decisions, explained."""

    found: ExplainedRecords

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return self.found.as_document()

    def lines(self) -> Iterator[str]:
        """Yield it as people read it."""
        for explanation in self.found.explanations:
            yield from _explanation_lines(explanation)
            yield ""
        for plan in self.found.plans:
            yield from _plan_lines(plan)
        if self.found.left_out:
            yield f"{self.found.left_out} further decisions are not shown."


async def _explain(asked: Asked, directory: Path, opa: Path | None) -> ShownSupposition | FromRecords:
    async with running_policies(directory, opa=opa) as policies:
        tracer = Tracer(policies.opa, policies.directory)
        if (principal := asked.principal) is not None:
            asked, problems = await _with_stored(asked, principal, policies)
            about = asked.file or str((asked.chunk or {}).get("id", "the chunk"))
            supposition = Supposition(principal, asked.store, asked.chunk, about, int(time.time()))
            found = await suppose(
                supposition,
                policies.engine,
                tracer,
                policies.schemas["chunk"],
                directory=str(policies.directory),
            )
            return ShownSupposition(replace(found, notes=(*problems, *found.notes)), asked.filters)
        if asked.decision is not None:
            records = await asyncio.to_thread(find_decision, asked.audit, asked.decision, tenant=None)
        else:
            records = await asyncio.to_thread(find_response, asked.audit, str(asked.response), tenant=None)
        if not records:
            raise ConfigurationError(f"no record of {asked.decision or asked.response}")
        return FromRecords(await explain_all(records, policies.engine, tracer, directory=str(directory)))


async def _with_stored(
    asked: Asked, principal: Principal, policies: RunningPolicies
) -> tuple[Asked, tuple[str, ...]]:
    """Return what is asked, with what is stored of the file that it names, and what else keeps that
    from being found.
    """
    if asked.file is None:
        return asked, ()
    from regate_gateway.config.loading import load_settings
    from regate_gateway.workbench.explain.stored import stored_file

    found = await stored_file(
        load_settings(asked.config), principal, asked.file, asked.in_store, policies.schemas
    )
    return replace(asked, chunk={**found.chunk}, store=found.store), () if found.problem is None else (
        found.problem,
    )


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield a recorded filter: a record holds its size and digest, so the formula is what the policy
    of now makes of the recorded question.
    """
    about = (
        f"Filter in record {plan['record']} ({plan['rule'].replace('/', '.')} {plan['action']}, "
        f"{spelt_plan(plan['plan'])})"
    )
    match plan["unchanged"]:
        case True:
            yield f"{about}: {plan['formula']}"
        case False:
            yield f"{about} was another than the policy makes now: {plan['formula']}"
        case _ if plan["formula"] is None:
            yield f"{about} cannot be made again: {plan['problem']}"
        case _:
            yield f"{about}, whose digest is not recorded, as the policy makes it now: {plan['formula']}"


def _explanation_lines(explanation: Explanation) -> Iterator[str]:
    verdict = "allowed" if explanation.allowed else "DENIED"
    yield (
        f"{verdict}: {explanation.action} {explanation.about} by {explanation.rule.replace('/', '.')} "
        f"(policy {explanation.revision})"
    )
    if explanation.recorded is not None:
        then = "allowed" if explanation.recorded else "denied"
        changed = "" if explanation.recorded == explanation.allowed else ", which is not what it says now"
        origin = explanation.origin
        yield (
            f"  recorded: {then}{changed} (record {origin.record} of {origin.at}, {explanation.id}, policy "
            f"{explanation.recorded_revision})"
        )
        yield f"  asked by: {origin.asker}"
    for reason in explanation.reasons or explanation.recorded_reasons:
        yield f"  reason: {reason}"
    for attempt in relevant(explanation.attempts):
        yield from _attempt_lines(attempt, 1)
    if explanation.trace_problem:
        yield f"  no trace: {explanation.trace_problem}"
    yield f"  ask again: {explanation.command}"


def _attempt_lines(attempt: Attempt, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if attempt.held:
        yield f"{indent}{attempt.at}  {shown_rule(attempt.rule)} held{_values(attempt.values)}"
    elif attempt.condition is None:
        yield f"{indent}{attempt.at}  {shown_rule(attempt.rule)} did not hold"
    else:
        condition: Condition = attempt.condition
        yield (
            f"{indent}{attempt.at}  {shown_rule(attempt.rule)} did not hold: {condition.at}  "
            f"{condition.text}{_values(condition.values)}"
        )
        for one in condition.because:
            yield from _attempt_lines(one, depth + 1)
    for one in attempt.because:
        yield from _attempt_lines(one, depth + 1)


def _values(values: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return f"   [{shown}]" if shown else ""
