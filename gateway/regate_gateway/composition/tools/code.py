"""What runs code for `code_interpreter`: the server that the settings name, over the guard of egress. Its
client is made with the first container.
"""

from __future__ import annotations

from collections.abc import Mapping

from regate_adapters.egress.guard import EgressGuard
from regate_gateway.config.secret import header_secret_from_environment
from regate_gateway.config.tool_settings import CodeInterpreter
from regate_orchestrator.documents.file_text import FileReader
from regate_orchestrator.documents.made_files import MadeFiles
from regate_orchestrator.ports import CodeKernels, CodeOutcome, KernelId
from regate_orchestrator.principal import Context
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.tools.containers import Containers
from regate_orchestrator.responses.tools.kinds.code_runner import CodeRunning


def make_code(
    settings: CodeInterpreter | None, guard: EgressGuard, gate: Gate, reader: FileReader, made: MadeFiles
) -> CodeRunning | None:
    """Return what runs code; None where nothing is configured. Raises `ConfigurationError` for a token that
    is not there.
    """
    if settings is None:
        return None
    key = ""
    if settings.api_key_env is not None:
        place = "tools.code_interpreter.api_key_env"
        key = header_secret_from_environment(settings.api_key_env, setting=place).reveal()
    containers = Containers(
        LazyKernels(settings, guard, key),
        most=settings.max_containers,
        most_each=settings.max_containers_each,
        idle_s=settings.idle_s,
    )
    return CodeRunning(containers, gate, reader, made, settings.max_file_bytes)


class LazyKernels:
    """Runs code with a client that is made at the first use."""

    def __init__(self, settings: CodeInterpreter, guard: EgressGuard, key: str) -> None:
        self._settings = settings
        self._guard = guard
        self._key = key
        self._made: CodeKernels | None = None

    async def start(self, context: Context, files: Mapping[str, bytes]) -> KernelId:
        """Return a new kernel; see the port."""
        return await self._kernels().start(context, files)

    async def run(self, context: Context, kernel: KernelId, code: str) -> CodeOutcome:
        """Return what the code came to; see the port."""
        return await self._kernels().run(context, kernel, code)

    async def stop(self, context: Context, kernel: KernelId) -> None:
        """Delete the kernel; see the port."""
        await self._kernels().stop(context, kernel)

    def _kernels(self) -> CodeKernels:
        if self._made is None:
            from regate_adapters.code.jupyter import CodeLimits, JupyterKernels
            from regate_adapters.egress.services import GuardedServiceClient

            chosen = self._settings
            limits = CodeLimits(chosen.deadline_s, chosen.max_output, chosen.max_file_bytes)
            client = GuardedServiceClient(self._guard)
            self._made = JupyterKernels(client, chosen.base_url, self._key, chosen.kernel, limits)
        return self._made
