"""Texts in their own language score high, in another low, and half and half between."""
# ruff: noqa: RUF001 - letters that look alike are the matter here

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.built_in.language import Language, language

from .cases import prompt

# The same thought in each language.
TEXTS: dict[Language, str] = {
    "ar": "أولا نجمع العددين ثم نقسم الناتج على اثنين",
    "bn": "প্রথমে আমরা দুটি সংখ্যা যোগ করি তারপর ফলকে দুই দিয়ে ভাগ করি",
    "de": "Zuerst addieren wir die Zahlen und teilen dann das Ergebnis durch zwei, denn es ist die Summe von beiden.",
    "el": "Πρώτα προσθέτουμε τους αριθμούς και μετά διαιρούμε το αποτέλεσμα με το δύο",
    "en": "First we add the numbers and then we divide the result by two, because it is the sum of both.",
    "es": "Primero sumamos los números y entonces dividimos el resultado por dos, porque es la suma de los dos.",
    "fr": "D'abord nous ajoutons les nombres, puis nous divisons le résultat par deux, car ce sont des entiers.",
    "he": "קודם נחבר את המספרים ואז נחלק את התוצאה בשתיים",
    "hi": "पहले हम संख्याओं को जोड़ते हैं और फिर परिणाम को दो से भाग देते हैं",
    "it": "Prima sommiamo i numeri e poi dividiamo il risultato per due, perché questa è la somma della coppia.",
    "ja": "まず二つの数を足して、それから結果を二で割ります。",
    "ko": "먼저 두 수를 더하고 그 결과를 둘로 나눕니다",
    "nl": "Eerst tellen we de getallen op en dan delen we het resultaat door twee, want het is de som van beide.",
    "pl": "Najpierw dodajemy liczby, a potem dzielimy wynik przez dwa, ponieważ jest to suma, która się nie zmienia.",
    "pt": "Primeiro somamos os números e então dividimos o resultado por dois, porque não são mais do que isso.",
    "ru": "Сначала мы складываем числа, а затем делим результат на два",
    "ta": "முதலில் எண்களைக் கூட்டி பின்னர் முடிவை இரண்டால் வகுக்கிறோம்",
    "th": "ก่อนอื่นเราบวกตัวเลขแล้วหารผลลัพธ์ด้วยสอง",
    "tr": "Önce sayıları topluyoruz ve sonra sonucu ikiye bölüyoruz, çünkü bu bir toplam ve ne kadar olduğu var.",
    "zh": "首先我们把两个数相加，然后把结果除以二。",
}
LIKE = {("ja", "zh"), ("zh", "ja")}  # they share their letters


@pytest.mark.parametrize("name", TEXTS)
def test_its_own_language_scores_highest(name: Language) -> None:
    scores = {other: language(prompt(), text, language=name) for other, text in TEXTS.items()}
    assert scores.pop(name) >= 0.8
    assert all(score <= 0.35 for other, score in scores.items() if (name, other) not in LIKE), scores


@pytest.mark.parametrize(("name", "other"), [("en", "zh"), ("zh", "en"), ("en", "fr"), ("de", "nl"), ("ru", "en")])
def test_a_mixture_lies_between(name: Language, other: Language) -> None:
    score = language(prompt(), f"{TEXTS[name]} {TEXTS[other]}", language=name)
    assert 0.3 <= score <= 0.8


def test_formulas_code_and_tags_do_not_count() -> None:
    text = "<think>我们</think> $x + y = \\frac{a}{b}$ ```python\nprint(answer)\n``` 12"
    assert language(prompt(), text, language="zh") == 1.0


@pytest.mark.parametrize("text", ["", "12 + 30 = 42", "<answer>7</answer>", "x = y"])
def test_silence_does_not_pay(text: str) -> None:
    assert language(prompt(), text, language="en") == 0.0


@given(st.text(), st.sampled_from(list(TEXTS)))
def test_it_is_a_share(text: str, name: Language) -> None:
    assert 0.0 <= language(prompt(), text, language=name) <= 1.0
