"""Runs `regate eval` as a process."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.patience import PATIENT_SECONDS


class Evaluation:
    """Runs the command in a folder, with the tokens in its environment."""

    def __init__(self, folder: Path, url: str, **tokens: str) -> None:
        self.folder = folder
        self.url = url
        self._tokens = {f"{name}_TOKEN".upper(): token for name, token in tokens.items()}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REGATE_")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "regate_gateway", "eval", *arguments),
            cwd=self.folder,
            env={**kept, **self._tokens, "REGATE_URL": f"{self.url}/v1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.start(*self.tenants, *arguments)
        out, err = await asyncio.wait_for(process.communicate(), PATIENT_SECONDS)
        return process.returncode or 0, out.decode(), err.decode()

    @property
    def tenants(self) -> list[str]:
        return [f"--tenant={variable.removesuffix('_TOKEN').lower()}={variable}" for variable in self._tokens]

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name
