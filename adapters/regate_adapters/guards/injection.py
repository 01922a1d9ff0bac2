"""Phrases by which a text tries to instruct a model against those who run it, in several languages; and text
that only a model can see.

A phrase book, and no judgement: it finds what is copied from one document into the next, and nothing that is
put in other words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from regate_adapters.guards.anchored import Anchored

_GAP: Final = r"[\s\"'*,.:;-]{1,4}"
_FEW: Final = rf"(?:[^\W\d_]{{1,12}}{_GAP}){{0,4}}"
"""A few words between two others."""


def _words(firsts: str, *others: str) -> tuple[list[str], str]:
    """Return the pattern of words that follow each other, few others between them, and each with whatever
    ending.
    """
    rest = "".join(rf"{_GAP}{_FEW}(?:{other})\w{{0,8}}" for other in others)
    return firsts.split("|"), rf"(?<!\w)(?:{firsts})\w{{0,5}}{rest}"


_PHRASES: Final[tuple[tuple[list[str], str], ...]] = (
    _words(
        "ignor|disregard|forget|overrid|bypass",
        "previous|prior|above|earlier|preceding|system|original|existing",
        "instruction|prompt|rule|direction|guideline|command|message",
    ),
    _words("not follow|stop following", "previous|prior|above|earlier|system", "instruction|prompt|rule"),
    _words("reveal|print|show|repeat|output|leak", "system", "prompt|message|instruction"),
    _words("you are now", "jailbroken|unrestricted|developer mode|dan\\b"),
    _words("do anything now"),
    (["new instruction", "new system"], rf"(?<!\w)new (?:system{_GAP})?instructions?\s{{0,2}}:"),
    _words(  # German
        "ignorier|vergiss|vergessen|missacht",
        "vorherig|vorig|bisherig|obig|früher|ursprünglich",
        "anweisung|instruktion|regel|vorgabe|befehl|prompt",
    ),
    _words(
        "ignor|oubli|néglige|neglige", "instruction|consigne|règle|regle|directive", "préc|prec|antérieur"
    ),
    _words("ignor|olvid|omit", "instruc|regla|indicacion|orden|órden", "anterior|previ"),
    _words("ignora|dimentica", "istruzion|regol|direttiv|indicazion", "precedent|anterior"),
    _words("ignor|esqueç|esquec", "instruç|regra|diretriz|orientaç", "anterior|prévia|acima"),
    _words("negeer|vergeet", "vorige|eerdere|voorgaande|bovenstaande", "instructie|opdracht|regel"),
    _words("zignoruj|ignoruj|zapomnij", "poprzedni|wcześniejsz|powyższ", "instrukcj|polece|zasad"),
    _words("игнорируй|проигнорируй|забудь", "предыдущ|прежн|вышеуказан", "инструкци|указани|правил|команд"),
    _words("önceki|yukarıdaki", "talimat|kural|komut", "yok say|görmezden gel|unut"),
    (
        ["忽略", "无视", "無視", "忘记", "忘記"],
        r".{2}[^\s。，,.]{0,8}(?:之前|以前|上面|以上|先前|前面)[^\s。，,.]{0,6}(?:指令|指示|提示|规则|規則|命令)",
    ),
    (
        ["以前", "これまで", "上記", "前の"],
        r"(?:以前の|これまでの|上記の|(?<!以)前の)[^\s。、]{0,8}(?:指示|命令|ルール|プロンプト)[^\s。、]{0,6}(?:無視|忘れ)",
    ),
    (
        ["이전", "위의", "앞의"],
        r".{2}\s?(?:모든\s)?(?:지시|명령|규칙|프롬프트)[^\s.]{0,6}\s?(?:모두\s)?(?:무시|잊)",
    ),
    (["تجاهل"], r"تجاهل\s[^.،]{0,24}(?:التعليمات|الأوامر|القواعد)\s(?:السابقة|أعلاه)"),
    (["पिछले", "उपरोक्त"], r"(?:पिछले|उपरोक्त)\s[^।.]{0,16}(?:निर्देश|नियम)[^\s]{0,4}\s(?:को\s)?(?:अनदेखा|भूल)"),
    # Marks of chat templates, which nobody writes to another
    (["<|"], r"<\|(?:im_start|im_end|system|start_header_id|eot_id)\|>"),
    (["[inst]", "[/inst]", "<<sys>>"], r"\[/?inst\]|<<sys>>"),
)
_INSTRUCTING: Final = Anchored(_PHRASES)
_LONGER_IN_LOWER_CASE: Final = {0x130: "i"}
_HIDDEN: Final = re.compile(
    "[\U000e0020-\U000e007e]{2,4096}|[\u200b\u200c\u200d\u2060\u2062-\u2064\ufeff]{8,4096}"
)
_FLAG: Final = "\U0001f3f4"


def instructions(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of phrases that instruct a model."""
    return _INSTRUCTING.find(text.translate(_LONGER_IN_LOWER_CASE).lower())


def hidden_texts(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of characters that are not shown and can spell a text: tags, but for those of a flag,
    and long runs of others.
    """
    for match in _HIDDEN.finditer(text):
        if match.start() == 0 or text[match.start() - 1] != _FLAG:
            yield match.span()
