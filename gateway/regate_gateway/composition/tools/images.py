"""What makes images for `image_generation`: one of the upstreams."""

from __future__ import annotations

from regate_adapters.backend.images import UpstreamImages
from regate_adapters.backend.upstreams import Upstreams
from regate_gateway.config.tool_settings import ImageGeneration
from regate_orchestrator.documents.made_files import MadeFiles
from regate_orchestrator.responses.tools.kinds.image_runner import Imaging


def make_imaging(settings: ImageGeneration | None, upstreams: Upstreams, made: MadeFiles) -> Imaging | None:
    """Return what makes images; None where nothing is configured."""
    if settings is None:
        return None
    maker = UpstreamImages(
        upstreams,
        settings.upstream,
        settings.model,
        settings.deadline_s,
        settings.max_bytes,
        settings.asks_for_base64,
    )
    return Imaging(maker, made)
