"""The shapes of secrets: keys and tokens that services give a shape to, private keys, and passwords in
addresses. What has no shape of its own, such as a password in prose, is not found.
"""

from __future__ import annotations

from typing import Final

from regate_adapters.guards.anchored import Anchored

_TOKENS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("sk-",), r"sk-[A-Za-z0-9_-]{20,512}"),  # OpenAI, Anthropic, DeepSeek, OpenRouter
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[opusr]_[A-Za-z0-9]{36,255}"),
    (("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,255}"),
    (("glpat-",), r"glpat-[A-Za-z0-9_-]{20,255}"),
    (("AKIA", "ASIA", "ABIA", "ACCA"), r"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}(?![A-Za-z0-9])"),
    (("AIza",), r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9])"),
    (("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_-]{28}"),
    (("ya29.",), r"ya29\.[A-Za-z0-9_-]{20,512}"),
    (("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{10,255}"),
    (("xapp-",), r"xapp-[0-9]-[A-Za-z0-9-]{10,255}"),
    (("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"),
    (("whsec_",), r"whsec_[A-Za-z0-9+/]{24,255}"),
    (("npm_",), r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    (("pypi-AgE",), r"pypi-AgE[A-Za-z0-9_-]{50,512}"),
    (("hf_",), r"hf_[A-Za-z0-9]{30,64}"),
    (("rgk_",), r"rgk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}(?![A-Za-z0-9])"),  # our own
    (("gsk_",), r"gsk_[A-Za-z0-9]{40,64}"),
    (("xai-",), r"xai-[A-Za-z0-9]{60,100}"),
    (("SG.",), r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    (("dop_v1_",), r"dop_v1_[a-f0-9]{64}"),
    (("shpat_", "shpca_", "shppa_", "shpss_"), r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    (("dapi",), r"dapi[a-f0-9]{32}(?![A-Za-z0-9])"),
    (("hvs.", "hvb.", "hvr."), r"hv[sbr]\.[A-Za-z0-9_-]{24,255}"),
    (("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    (("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{86}=="),
    (("eyJ",), r"eyJ[A-Za-z0-9_-]{10,1024}\.eyJ[A-Za-z0-9_-]{10,4096}\.[A-Za-z0-9_-]{8,1024}"),
)
_BREAK: Final = r"(?:\s|\\[rn]){0,4}"
_PRIVATE_KEY: Final = (
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:\s{0,4}[A-Z][A-Za-z-]{1,30}: [^\n]{0,80}){0,4}"
    rf"(?:{_BREAK}[A-Za-z0-9+/=]{{16,80}}){{0,190}}{_BREAK}[A-Za-z0-9+/=]{{0,80}}"
    rf"{_BREAK}(?:-----END [A-Z0-9 ]{{0,40}}-----)?"
)
_CREDENTIALS: Final = r"""://[^\s:/@"'<>]{0,64}:[^\s/@"'<>]{3,128}@"""

SECRETS: Final = Anchored(
    [
        # A key does not begin in the middle of a word.
        *((words, rf"(?<![A-Za-z0-9_]){pattern}") for words, pattern in _TOKENS),
        (("-----BEGIN ",), _PRIVATE_KEY),
        (("://",), _CREDENTIALS),
    ]
)
"""Secrets."""
