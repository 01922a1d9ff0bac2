"""Kernels of a real Jupyter kernel gateway: what code writes, files in and out, and that none is left."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.adapters.egress.conftest import World
from tests.kernels import TOKEN, KernelGateway
from tests.orchestrator.scripted import CONTEXT

from regate_adapters.code.jupyter import CodeLimits, JupyterKernels
from regate_adapters.egress.services import GuardedServiceClient
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.ports import CodeFailed, KernelId

pytestmark = pytest.mark.asyncio(loop_scope="session")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHOW_IMAGE = (
    "import base64\nfrom IPython.display import Image, display\n"
    f"display(Image(base64.b64decode({base64.b64encode(PNG).decode()!r})))"
)


def kernels(
    engine: OpaEngine, jupyter: KernelGateway, *, token: str = TOKEN, **limits: Any
) -> JupyterKernels:
    client = GuardedServiceClient(World(engine).guard)
    return JupyterKernels(client, jupyter.url, token, "python3", CodeLimits(**limits))


@asynccontextmanager
async def started(found: JupyterKernels, files: Mapping[str, bytes] | None = None) -> AsyncIterator[KernelId]:
    kernel = await found.start(CONTEXT, files or {})
    try:
        yield kernel
    finally:
        await found.stop(CONTEXT, kernel)


@pytest.mark.parametrize(
    ("code", "logs", "failed"),
    [
        ("print('hello'); 1 + 1", "hello\n2\n", False),
        ("import sys; print('é 日本', file=sys.stderr)", "é 日本\n", False),
        ("x = 1", "", False),
        ("print('a' * 300)", "a" * 256 + "\n[The rest was cut.]", False),
        ("input()", "StdinNotImplementedError", True),
        ("1 / 0", "ZeroDivisionError: division by zero", True),
        ("def", "SyntaxError", True),
    ],
)
async def test_what_code_writes_comes_back(
    engine: OpaEngine, jupyter: KernelGateway, code: str, logs: str, failed: bool
) -> None:
    found = kernels(engine, jupyter, max_output=256 if "300" in code else 65_536)
    async with started(found) as kernel:
        outcome = await found.run(CONTEXT, kernel, code)

    assert outcome.failed is failed
    assert logs in outcome.logs if failed else logs == outcome.logs
    assert "\x1b" not in outcome.logs


async def test_variables_and_files_stay_and_what_is_new_comes_out(
    engine: OpaEngine, jupyter: KernelGateway
) -> None:
    found = kernels(engine, jupyter, max_file_bytes=100)
    async with started(found, {"in 'put'.csv": b"a,b\n1,2\n"}) as kernel:
        first = await found.run(CONTEXT, kernel, "x = open(\"in 'put'.csv\").read(); print(x)")
        second = await found.run(
            CONTEXT,
            kernel,
            "open('out.bin', 'wb').write(bytes(range(9))); open('large', 'w').write('x' * 101)\n"
            "import os; os.makedirs('below'); os.symlink('/etc/passwd', 'link'); open('empty', 'w')\n"
            "print(x)",
        )
        third = await found.run(CONTEXT, kernel, "open('out.bin', 'ab').write(b'!'); None")

    assert (first.logs, list(first.files)) == ("a,b\n1,2\n\n", [])
    assert [(one.name, one.data) for one in second.files] == [("out.bin", bytes(range(9)))]
    assert [one.data for one in third.files] == [bytes(range(9)) + b"!"]


async def test_images_that_code_shows_come_out(engine: OpaEngine, jupyter: KernelGateway) -> None:
    found = kernels(engine, jupyter)
    async with started(found) as kernel:
        outcome = await found.run(CONTEXT, kernel, SHOW_IMAGE)

    assert list(outcome.images) == [PNG]


async def test_code_that_does_not_end_is_not_waited_for(engine: OpaEngine, jupyter: KernelGateway) -> None:
    found = kernels(engine, jupyter)
    late = kernels(engine, jupyter, deadline_s=1)
    async with started(found) as kernel:
        with pytest.raises(CodeFailed, match="did not end in time"):
            await late.run(CONTEXT, kernel, "while True: pass")
    assert kernel not in jupyter.kernels()


async def test_code_that_ends_its_kernel_is_told(engine: OpaEngine, jupyter: KernelGateway) -> None:
    found = kernels(engine, jupyter, deadline_s=30)
    async with started(found) as kernel:
        with pytest.raises(CodeFailed):
            await found.run(CONTEXT, kernel, "import os; os._exit(1)")


async def test_a_start_that_is_cancelled_leaves_no_kernel(engine: OpaEngine, jupyter: KernelGateway) -> None:
    before = jupyter.kernels()
    found = kernels(engine, jupyter)
    starting = asyncio.get_running_loop().create_task(found.start(CONTEXT, {}))
    while not set(await asyncio.to_thread(jupyter.kernels)) - set(before):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert jupyter.kernels() == before


async def test_a_server_that_refuses_is_told_without_its_words(
    engine: OpaEngine, jupyter: KernelGateway
) -> None:
    with pytest.raises(CodeFailed) as failed:
        await kernels(engine, jupyter, token="wrong").start(CONTEXT, {})

    assert str(failed.value) == "The container for the code could not be reached."


async def test_a_kernel_that_is_gone_is_stopped_and_not_run_in(
    engine: OpaEngine, jupyter: KernelGateway
) -> None:
    found = kernels(engine, jupyter)
    gone = KernelId("00000000-0000-0000-0000-000000000000")
    await found.stop(CONTEXT, gone)
    with pytest.raises(CodeFailed):
        await found.run(CONTEXT, gone, "1")
