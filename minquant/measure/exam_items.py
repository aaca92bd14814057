"""The questions of the exam: what a model of English knows, can do, and keeps up.

    group      a fact                                         facts   phrasings
    capital    a country and its capital                        154       3
    element    a chemical element, its symbol or its number     196       3
    order      what comes after or before: months, days,        110       3
               letters, numbers in words
    opposite   a word and its opposite                          110       3
    sum        one and two digits                               110       3
    recall     a number that was said 50, 200 or 800 tokens     105       2
               before
    form       the bracket, quote or record that is open        100       2

Before each question, except those of recall, two others of its kind are asked and
answered in the same words. Without them a small model answers a question with another,
and what it knows does not show. These examples are no questions of the exam.

Facts were chosen before any model was asked, and not by what it gets right. (Phrasings
were: one that a model answers in other words measures nothing.) Countries stand in the
order of their population, about 2024. Left out are those whose capital is disputed, has
moved or was to move in the last twenty-five years, is shared among several cities or
stands in the question (Kuwait City); Georgia, which is also a state with another
capital; and countries below a hundred thousand people.

Each answer is what comes next in the text. Where several are right, all are accepted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from random import Random


@dataclass(frozen=True)
class Question:
    """One question. A model continues `context` + `prompt` with one of `answers`.

    group: which ability; level: a part of the group, such as a distance. fact: what is
    asked for; the same fact is asked in several ways, and phrasing numbers them.
    context: what is said before, shared by several questions; often nothing.
    """

    group: str
    level: str
    fact: str
    phrasing: int
    prompt: str
    answers: tuple[str, ...]
    context: str = ""


@cache
def questions() -> tuple[Question, ...]:
    """All questions, group by group.

    >>> q = questions()[0]
    >>> q.prompt[-23:], q.answers
    ('The capital of India is', (' New Delhi',))
    """
    makers = (_capitals, _elements, _order, _opposites, _sums, _recalls, _forms)
    return tuple(question for make in makers for question in make())


Pairs = tuple[tuple[str, str], ...]


def _ask(
    group: str,
    level: str,
    fact: str,
    forms: tuple[str, ...],
    examples: Pairs,
    x: str,
    answers: list[str],
) -> Iterator[Question]:
    """One fact in each of its phrasings.

    forms: with gaps {x} for what is asked and {y} for the answer. examples: pairs x, y
    that are said before."""
    for phrasing, form in enumerate(forms):
        said = "".join(form.format(x=a, y=f" {b}") for a, b in examples)
        prompt = said + form.partition("{y}")[0].format(x=x)
        spaced = tuple(f" {answer}" for answer in answers)
        yield Question(group, level, fact, phrasing, prompt, spaced)


# --- capitals ---

# Country: capital, or several spellings of it. Largest population first.
CAPITALS = """
India: New Delhi; China: Beijing; the United States: Washington;
Pakistan: Islamabad; Nigeria: Abuja; Brazil: Brasília | Brasilia; Bangladesh: Dhaka;
Russia: Moscow; Ethiopia: Addis Ababa; Japan: Tokyo; Egypt: Cairo;
the Philippines: Manila; the Democratic Republic of the Congo: Kinshasa;
Vietnam: Hanoi; Iran: Tehran; Turkey: Ankara; Germany: Berlin; Thailand: Bangkok;
Tanzania: Dodoma; the United Kingdom: London; France: Paris; Italy: Rome;
Colombia: Bogotá | Bogota; South Korea: Seoul; Sudan: Khartoum;
Uganda: Kampala; Spain: Madrid; Algeria: Algiers; Iraq: Baghdad;
Argentina: Buenos Aires; Afghanistan: Kabul; Yemen: Sana'a | Sanaa; Canada: Ottawa;
Angola: Luanda; Ukraine: Kyiv | Kiev; Morocco: Rabat; Poland: Warsaw;
Uzbekistan: Tashkent; Malaysia: Kuala Lumpur; Mozambique: Maputo; Ghana: Accra;
Peru: Lima; Saudi Arabia: Riyadh; Madagascar: Antananarivo;
Cameroon: Yaoundé | Yaounde; Nepal: Kathmandu; Venezuela: Caracas; Niger: Niamey;
Australia: Canberra; North Korea: Pyongyang; Syria: Damascus; Mali: Bamako;
Burkina Faso: Ouagadougou; Malawi: Lilongwe; Zambia: Lusaka;
Chad: N'Djamena | Ndjamena; Kazakhstan: Astana | Nur-Sultan; Chile: Santiago;
Somalia: Mogadishu; Romania: Bucharest; Senegal: Dakar; the Netherlands: Amsterdam;
Ecuador: Quito; Cambodia: Phnom Penh; Zimbabwe: Harare; Guinea: Conakry;
Rwanda: Kigali; Tunisia: Tunis; South Sudan: Juba; Haiti: Port-au-Prince;
Belgium: Brussels; Jordan: Amman; the Dominican Republic: Santo Domingo;
the United Arab Emirates: Abu Dhabi; Honduras: Tegucigalpa; Cuba: Havana;
Tajikistan: Dushanbe; Papua New Guinea: Port Moresby; Sweden: Stockholm;
the Czech Republic: Prague; Portugal: Lisbon; Azerbaijan: Baku; Greece: Athens;
Togo: Lomé | Lome; Hungary: Budapest; Belarus: Minsk;
Switzerland: Bern | Berne; Sierra Leone: Freetown; Laos: Vientiane;
Turkmenistan: Ashgabat; Libya: Tripoli; Kyrgyzstan: Bishkek;
Paraguay: Asunción | Asuncion; Nicaragua: Managua; Bulgaria: Sofia;
Serbia: Belgrade; the Republic of the Congo: Brazzaville; Denmark: Copenhagen;
Lebanon: Beirut; Finland: Helsinki; Liberia: Monrovia; Norway: Oslo;
Slovakia: Bratislava; the Central African Republic: Bangui; New Zealand: Wellington;
Ireland: Dublin; Mauritania: Nouakchott; Costa Rica: San José | San Jose;
Oman: Muscat; Croatia: Zagreb; Eritrea: Asmara; Mongolia: Ulaanbaatar | Ulan Bator;
Uruguay: Montevideo; Bosnia and Herzegovina: Sarajevo; Qatar: Doha;
Moldova: Chișinău | Chisinau; Namibia: Windhoek; Armenia: Yerevan;
Lithuania: Vilnius; Jamaica: Kingston; Albania: Tirana; the Gambia: Banjul;
Gabon: Libreville; Botswana: Gaborone; Lesotho: Maseru; Slovenia: Ljubljana;
Latvia: Riga; North Macedonia: Skopje; Bahrain: Manama;
Trinidad and Tobago: Port of Spain; East Timor: Dili; Estonia: Tallinn;
Cyprus: Nicosia; Mauritius: Port Louis; Fiji: Suva; Comoros: Moroni;
Guyana: Georgetown; Bhutan: Thimphu; the Solomon Islands: Honiara;
Montenegro: Podgorica; Suriname: Paramaribo; Malta: Valletta;
the Maldives: Malé | Male; Cape Verde: Praia; Brunei: Bandar Seri Begawan;
Belize: Belmopan; the Bahamas: Nassau; Iceland: Reykjavík | Reykjavik;
Vanuatu: Port Vila; Barbados: Bridgetown; Samoa: Apia; Saint Lucia: Castries;
Seychelles: Victoria; Grenada: St. George's
"""


def _pairs(table: str) -> list[tuple[str, list[str]]]:
    """Entries "key: answer | answer", in order."""
    entries = [entry.split(":", 1) for entry in " ".join(table.split()).split(";")]
    return [(key.strip(), [a.strip() for a in v.split("|")]) for key, v in entries]


def _capitals() -> Iterator[Question]:
    """By quarters of the population's order."""
    forms = (
        "The capital of {x} is{y}. ",
        "In {x}, the capital city is{y}. ",
        "Q: What is the capital of {x}?\nA:{y}\n",
    )
    examples = (("Austria", "Vienna"), ("Kenya", "Nairobi"))
    countries = _pairs(CAPITALS)
    for rank, (country, answers) in enumerate(countries):
        level = f"quarter {1 + 4 * rank // len(countries)} by population"
        yield from _ask("capital", level, country, forms, examples, country, answers)


# --- elements ---

ELEMENTS = """
hydrogen H helium He lithium Li beryllium Be boron B carbon C nitrogen N oxygen O
fluorine F neon Ne sodium Na magnesium Mg aluminum Al silicon Si phosphorus P sulfur S
chlorine Cl argon Ar potassium K calcium Ca scandium Sc titanium Ti vanadium V
chromium Cr manganese Mn iron Fe cobalt Co nickel Ni copper Cu zinc Zn gallium Ga
germanium Ge arsenic As selenium Se bromine Br krypton Kr rubidium Rb strontium Sr
yttrium Y zirconium Zr niobium Nb molybdenum Mo technetium Tc ruthenium Ru rhodium Rh
palladium Pd silver Ag cadmium Cd indium In tin Sn antimony Sb tellurium Te iodine I
xenon Xe cesium Cs barium Ba lanthanum La cerium Ce praseodymium Pr neodymium Nd
promethium Pm samarium Sm europium Eu gadolinium Gd terbium Tb dysprosium Dy holmium Ho
erbium Er thulium Tm ytterbium Yb lutetium Lu hafnium Hf tantalum Ta tungsten W
rhenium Re osmium Os iridium Ir platinum Pt gold Au mercury Hg thallium Tl lead Pb
bismuth Bi polonium Po astatine At radon Rn francium Fr radium Ra actinium Ac thorium Th
protactinium Pa uranium U neptunium Np plutonium Pu americium Am curium Cm berkelium Bk
californium Cf einsteinium Es fermium Fm
""".split()


def _elements() -> Iterator[Question]:
    """The first hundred, by symbol and by number."""
    names, symbols = ELEMENTS[::2], ELEMENTS[1::2]
    numbers = [str(n) for n in range(1, len(names) + 1)]
    answers = {"symbol": symbols, "number": numbers}
    shown = [names.index(name) for name in ("oxygen", "silver")]
    for level, what in (("symbol", "chemical symbol"), ("number", "atomic number")):
        forms = (
            f"The {what} of {{x}} is{{y}}. ",
            f"In the periodic table, {{x}} has the {what}{{y}}. ",
            f"Q: What is the {what} of {{x}}?\nA:{{y}}\n",
        )
        examples = tuple((names[i], answers[level][i]) for i in shown)
        for i, (name, answer) in enumerate(zip(names, answers[level], strict=True)):
            if i not in shown:
                fact = f"{name}: {level}"
                yield from _ask("element", level, fact, forms, examples, name, [answer])


# --- order ---

_MONTHS = """January February March April May June July August September October
November December""".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NUMBERS = """one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()


def _order() -> Iterator[Question]:
    """After and before. Months and days go round."""
    rows = (
        ("month", _MONTHS, (2, 7)),
        ("day", _DAYS, (1, 4)),
        ("letter", _LETTERS, (3, 14)),
        ("number", _NUMBERS, (2, 11)),
    )
    for kind, row, shown in rows:
        pairs = list(pairwise(row))
        if kind in ("month", "day"):
            pairs.append((row[-1], row[0]))
        for place, follows in (("after", "followed"), ("before", "preceded")):
            forms = (
                f"The {kind} right {place} {{x}} is{{y}}. ",
                f"The {kind} {{x}} is {follows} by{{y}}. ",
                "{x} ->{y}\n",
            )
            level = f"{kind} {place}"
            asked = pairs if place == "after" else [pair[::-1] for pair in pairs]
            examples = tuple(asked[i] for i in shown)
            for x, y in asked:
                if (x, y) not in examples:
                    fact = f"{level} {x}"
                    yield from _ask("order", level, fact, forms, examples, x, [y])


# --- opposites ---

OPPOSITES = """
big: small | little; in: out; on: off; open: closed | close | shut;
day: night; black: white; good: bad | evil; happy: sad | unhappy; fast: slow; high: low;
hard: soft | easy; light: dark | heavy; old: new | young; rich: poor; wet: dry;
full: empty; early: late; strong: weak; long: short; thick: thin; wide: narrow;
deep: shallow; near: far; left: right; first: last; true: false; win: lose; buy: sell;
give: take | receive; push: pull; love: hate; begin: end | finish; come: go | leave;
laugh: cry; remember: forget; friend: enemy | foe; peace: war; life: death;
heaven: hell; north: south; east: west; summer: winter; morning: evening | night;
inside: outside; above: below; before: after; always: never; everything: nothing;
everybody: nobody; more: less | fewer; most: least | fewest; best: worst;
better: worse; top: bottom; front: back | rear; over: under; clean: dirty;
cheap: expensive; safe: dangerous | unsafe; loud: quiet | soft | silent;
smooth: rough; sharp: dull | blunt; sweet: sour | bitter; tall: short; heavy: light;
easy: difficult | hard; simple: complex | complicated | difficult;
wrong: right | correct; possible: impossible; legal: illegal; visible: invisible;
guilty: innocent; public: private; male: female; ancient: modern | new;
natural: artificial | unnatural; positive: negative; maximum: minimum; major: minor;
internal: external; import: export; increase: decrease; expand: contract | shrink;
accept: reject | refuse; agree: disagree; allow: forbid | prohibit | deny;
attack: defend | defense; create: destroy; succeed: fail; success: failure;
victory: defeat | loss; question: answer; problem: solution; cause: effect;
entrance: exit; arrival: departure; asleep: awake; alive: dead; optimist: pessimist;
polite: rude | impolite; tight: loose; fresh: stale | old; horizontal: vertical;
odd: even; plus: minus; add: subtract; multiply: divide; dawn: dusk; rural: urban;
hero: villain
"""


def _opposites() -> Iterator[Question]:
    """A word, and a word that means the opposite."""
    forms = (
        "The opposite of {x} is{y}. ",
        "{x} -{y}\n",
        "Q: What is the opposite of {x}?\nA:{y}\n",
    )
    examples = (("hot", "cold"), ("up", "down"))
    for word, answers in _pairs(OPPOSITES):
        yield from _ask("opposite", "word", word, forms, examples, word, answers)


# --- sums ---


def _sums() -> Iterator[Question]:
    """Seventy of one digit, forty of two, drawn once."""
    forms = ("{x} ={y}\n", "{x} equals{y}. ", "Q: What is {x}?\nA:{y}\n")
    rng = Random("sums")
    for level, numbers, n, examples in (
        ("one digit", range(1, 10), 70, (("1 + 1", "2"), ("7 + 4", "11"))),
        ("two digits", range(10, 90), 40, (("10 + 20", "30"), ("17 + 41", "58"))),
    ):
        pairs = [(f"{a} + {b}", str(a + b)) for a in numbers for b in numbers]
        pairs = [pair for pair in pairs if pair not in examples]
        for x, y in rng.sample(pairs, n):
            yield from _ask("sum", level, x, forms, examples, x, [y])


# --- recall ---

DISTANCES = (800, 200, 50)  # tokens, about, from the number to the question
PASSAGES, EACH = 7, 5  # passages, and numbers at each distance in one
# Sentences between a block of numbers and the next, or the question: of about 11 tokens
_BETWEEN = (47, 9, 2)
_THINGS = """lamp chair basket kettle mirror ladder hammer pillow bottle blanket drum
candle bucket violin carpet helmet ribbon wallet compass lantern trumpet saddle anchor
barrel bicycle camera curtain envelope fountain guitar jacket locker magnet needle
piano rocket""".split()
_WHO = """The baker|The old farmer|A young doctor|The teacher|My neighbor|The painter
The captain|A tall stranger|The gardener|The shopkeeper|Her cousin|The librarian
A tired traveler|The singer|The mayor|His grandmother|The postman|The carpenter"""
_DID = """walked slowly along the river|bought some bread and cheese
sat down under a tree|told a long story about the sea|looked out of the window
waited for the train|made a pot of soup|spoke with two friends
painted the wooden door green|read a book about birds|swept the yard
listened to the rain|wrote a letter to the king|carried apples to the market
slept in a warm room|climbed the hill|fed the horses|washed the dishes
lost the way in the fog|planted beans and onions"""
_WHEN = """in the morning|before lunch|after the storm|on a quiet day|without a word
late in the evening|as usual|with great care|at the end of summer|near the old bridge
while the others slept|on the way home"""


def _choices(table: str) -> list[str]:
    return table.replace("\n", "|").split("|")


def _recalls() -> Iterator[Question]:
    """Passages in which things get numbers, at three distances from the end."""
    rng = Random("recall")
    who, did, when = map(_choices, (_WHO, _DID, _WHEN))
    for passage in range(PASSAGES):
        things = rng.sample(_THINGS, EACH * len(DISTANCES))
        numbers = rng.sample(range(10, 100), len(things))
        given = list(zip(things, numbers, strict=True))
        sentences, blocks = [], []
        for block, between in enumerate(_BETWEEN):
            blocks.append(given[block * EACH : (block + 1) * EACH])
            sentences += [f"The code of the {t} is {n}." for t, n in blocks[-1]]
            for _ in range(between):
                parts = rng.choice(who), rng.choice(did), rng.choice(when)
                sentences.append(" ".join(parts) + ".")
        context = " ".join(sentences)
        for distance, block in zip(DISTANCES, blocks, strict=True):
            for thing, number in block:
                prompts = (
                    f" As I said, the code of the {thing} is",
                    f"\nThe codes are:\nThe code of the {thing} is",
                )
                fact = f"passage {passage}: {thing}"
                level, answers = f"{distance} tokens back", (f" {number}",)
                for i, prompt in enumerate(prompts):
                    yield Question("recall", level, fact, i, prompt, answers, context)


# --- form ---

# What stands open: {} are words or numbers, and what closes it stands after the |.
_SHAPES = {
    "list": "[{n}, {m}, {k}|]",
    "call": "add({n}, {m}|)",
    "quote": '"{w} {v}|"',
    "bold": "**{w} {v}|**",
    "tag": "<b>{w} {v}|</b>",
    "record": '{{"name": "{w}", "size": {n}|}}',
    "record of words": '{{"first": "{w}", "second": "{v}|"}}',
    "calls in calls": "max({n}, min({m}, {k}|))",
    "lists in lists": "[[{n}, {m}], [{k}, {n}|]]",
    "records in records": '{{"id": {n}, "at": {{"x": {m}, "y": {k}|}}}}',
}
_WORDS = """river stone lamp window garden bread cloud horse silver letter music paper
winter bridge forest table shoulder market copper island""".split()


def _forms() -> Iterator[Question]:
    """Ten of each shape, after two that are closed: on lines, or with commas.

    With commas the comma belongs to the answer, since many tokenizers write a bracket
    and the comma after it as one token.
    """
    rng = Random("form")
    for level, shape in _SHAPES.items():
        opened, closing = shape.split("|")
        closing = closing.replace("}}", "}")
        drawn = dict.fromkeys(_filled(opened, rng) for _ in range(20))
        first, second, *rest = list(drawn)[:12]  # no two alike
        said = first + closing, second + closing
        for number, now in enumerate(rest):
            fact = f"{level} {number}"
            for phrasing, (gap, end) in enumerate((("\n", ""), (", ", ","))):
                prompt = gap.join((*said, now))
                answers = (closing + end,)
                yield Question("form", level, fact, phrasing, prompt, answers)


def _filled(opened: str, rng: Random) -> str:
    """A shape with words and numbers."""
    w, v = rng.sample(_WORDS, 2)
    n, m, k = rng.sample(range(10, 100), 3)
    return opened.format(w=w, v=v, n=n, m=m, k=k)
