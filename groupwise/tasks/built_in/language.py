"""How much of a completion is in the language that was asked for, by its letters and its most frequent words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Literal

from groupwise.types import Prompt

Language = Literal[
    "ar", "bn", "de", "el", "en", "es", "fa", "fr", "he", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "ta", "th",
    "tr", "uk", "zh",
]  # fmt: skip

# First words of Unicode's names of letters. Languages that share these are not told apart.
_SCRIPTS: dict[Language, tuple[str, ...]] = {
    "ar": ("ARABIC",),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "ta": ("TAMIL",),
    "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK",),
}
_LATIN = ("LATIN", "FULLWIDTH")
_UNSPACED = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "THAI"}  # each letter counts as a word

# Frequent words of the languages in Latin letters. One that several share tells nothing between those; so English has
# some, such as ten, plus and over, only because they are frequent in another language.
_FREQUENT: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "de": "der die das und ist nicht ein eine einen dem den des zu mit von auf für sich auch wir ich sie es er als "
        "an bei aus nach wie wenn dann also dass sind hat haben wird werden kann nur noch aber oder so im am um "
        "durch was will",
        "en": "the of and to is in that it we for as with this are be so on by have from has not at which then can if "
        "but or an was will there what when their they he she you i my let need first next because how all would "
        "also no do per ten plus over come car door met die her",
        "es": "el la los las de del y que es en un una por con para se no su al lo como más pero son entonces cuando "
        "porque esto este esta tiene hay ser si ya también muy sobre todo primero hasta donde cada dos",
        "fr": "le la les des et est un une dans que qui pour pas sur avec ce cette il elle nous vous ils sont par plus "
        "donc mais ou où au aux du de en se ne on comme être avoir a si alors car leur tout fait deux ces son",
        "it": "il lo la gli le di e che è un una in per con non si del della dei delle da come sono ma anche più nel "
        "nella quindi questo questa allora perché se ho ha abbiamo al alla ogni prima poi essere",
        "nl": "de het een en van is dat in te zijn op met voor niet die er aan om ook als dan maar bij naar uit we ik "
        "je hij ze dit deze dus wordt worden heeft hebben kan nog wel door over",
        "pl": "i w na z nie się jest to że do o jak ale co za po tak od przez dla są być może ten ta który która więc "
        "jego już tylko czy oraz mamy jeśli gdy przy bardzo",
        "pt": "o a os as de do da dos das e que é em um uma por com para não se no na ao como mais mas são então "
        "quando porque isso este esta tem há ser já também muito sobre nós primeiro até cada",
        "tr": "ve bir bu da de için ile olarak daha çok en gibi ne var olan o ama değil sonra kadar her ki ise veya "
        "önce şimdi bunu olur eğer çünkü biz ben",
    }.items()
}
_MARKUP = re.compile(r"<[^<>]{0,50}>|\\[A-Za-z]+|```.*?```", re.DOTALL)


def language(prompt: Prompt, completion: str, *, language: Language) -> float:
    """Share of the completion's words that are in `language` (ISO 639-1), between 0 and 1; without words 0.

    The language consistency of DeepSeek-R1 (arXiv 2501.12948, section 2.3.2), estimated. A word is a run of letters of
    one script; of Han, kana and Thai, which are written without blanks, each letter. A word is in the language when its
    script is. For the languages in Latin letters that share is multiplied by another: of the words that are frequent in
    exactly the target or exactly others (de, en, es, fr, it, nl, pl, pt, tr), the share of the target's. Tags, LaTeX
    commands, fenced code and single Latin letters (variables) do not count.

    It tells English from Chinese or French; not Russian from Ukrainian, Arabic from Persian, nor Chinese from a
    Japanese text without kana; not Latin-letter languages from those outside the list, nor in texts of a few words.
    It does not look at what is said, nor whether it is right.

    >>> prompt = Prompt(id="1", task="t", domain="d", text="")
    >>> language(prompt, "First we add 3 to x.", language="en"), language(prompt, "我们 add", language="zh")
    (1.0, 0.6666666666666666)
    """
    words = list(_words(unicodedata.normalize("NFC", completion)))
    if not words:
        return 0.0
    scripts = _SCRIPTS.get(language, _LATIN)
    share = sum(script in scripts for script, _ in words) / len(words)
    if language in _FREQUENT:
        share *= _frequency_share(Counter(word for _, word in words), language)
    return share


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Script and case-folded letters of each word."""
    letters = (c for c in _MARKUP.sub(" ", text) if unicodedata.category(c)[0] != "M")  # vowel signs are in their word
    for script, run in groupby(letters, key=_script):
        word = "".join(run)
        if script in _UNSPACED:
            yield from ((script, letter) for letter in word)
        elif script and (script not in _LATIN or len(word) > 1):
            yield script, word.casefold()


@cache
def _script(character: str) -> str:
    """The script of a letter; empty for all else."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def _frequency_share(words: Counter[str], language: Language) -> float:
    """Of frequent words that tell the target from the others, the share of the target's; 1 where there are none."""
    own = _FREQUENT[language]
    others = frozenset[str]().union(*(words for name, words in _FREQUENT.items() if name != language))
    hits = sum(count for word, count in words.items() if word in own and word not in others)
    misses = sum(count for word, count in words.items() if word in others and word not in own)
    return hits / (hits + misses) if hits + misses else 1.0
