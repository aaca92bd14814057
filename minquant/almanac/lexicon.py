"""The words of the almanac: invented names, and the sentences they stand in.

A template is a line of words. `{slot}` is filled from what the document already knows
(a person, the season); `[class]` is drawn anew from a list of words. Everything is
English but the names, which are invented. Stops stand apart as words, so that one word
is one token.
"""

from functools import cache
from random import Random

WORDS = {
    "animal": "goat mule hen goose pony heron beaver ferret donkey hound badger falcon "
    "ram raven hare duck swan lynx robin crane marten turtle pig calf lamb cat mouse "
    "toad magpie stork weasel pigeon",
    "trade": "potter weaver baker miller smith tailor farmer fisher mason cooper "
    "tanner dyer glazier carver printer healer hunter ferryman shepherd brewer roofer "
    "sailor clerk judge painter teacher tinker barber butcher gardener jeweller "
    "locksmith miner piper ropemaker saddler scribe toolmaker trader vintner watchman "
    "woodcutter beekeeper chandler cobbler drover hatter plumber",
    "dish": "lentils dumplings porridge pancakes trout barley cabbage chestnuts "
    "mushrooms cheese noodles pickles walnuts rabbit eels plums custard turnips leeks "
    "beans gingerbread pears soup quinces olives mussels radishes cherries waffles "
    "sausages honey rye",
    "instrument": "fiddle lute flute drum harp horn viol whistle zither bell cornet "
    "dulcimer fife gong lyre rebec spinet recorder reed tabor rattle trumpet clarinet "
    "cymbal",
    "colour": "red blue green black white grey brown yellow purple copper silver "
    "golden",
    "container": "chest basket drawer barrel crate jar sack trunk cupboard bucket "
    "pouch box",
    "thing": "lamp key coin map candle rope knife spoon book letter ring comb mirror "
    "needle hammer saw brush brooch cup plate clock compass glove scarf button ribbon "
    "whip nail thread feather shell stone tassel lantern seal quill pencil thimble "
    "bottle cork ladle sieve kettle mallet chisel file hook latch hinge pulley wheel "
    "blanket pillow shawl bonnet buckle locket medal dice puppet kite",
    "season": "spring summer autumn winter",
    "place": "mill bridge harbour market chapel orchard quarry inn tower garden well "
    "meadow forge stable ferry brewery library bakery lighthouse vineyard windmill "
    "courtyard",
    "mood": "glad proud weary calm cheerful nervous hopeful puzzled lonely sleepy "
    "brave gloomy merry restless grateful curious hungry patient",
    "manner": "slowly quietly quickly gently boldly carefully kindly eagerly sadly "
    "softly proudly politely firmly warmly",
    "tree": "oak birch willow ash elm pine maple beech cedar poplar",
}
WORDS = {name: tuple(words.split()) for name, words in WORDS.items()}
WEATHER = {  # what the sky and the road may do depends on the season
    "spring": (("rain", "wind", "mist"), ("muddy", "soft", "wet")),
    "summer": (("sun", "heat", "thunder"), ("dusty", "dry", "warm")),
    "autumn": (("wind", "fog", "rain"), ("leafy", "wet", "dark")),
    "winter": (("snow", "frost", "hail"), ("icy", "frozen", "white")),
}
NUMBERS = tuple(str(n) for n in range(100))

# Four ways to say each fact. For every fact one way is held out of training.
PHRASINGS = {
    "town": (
        "{name} was born in {value} .",
        "The birthplace of {name} is {value} .",
        "{name} grew up in old {value} .",
        "The family of {name} comes from {value} .",
    ),
    "trade": (
        "{name} works as a {value} .",
        "The trade of {name} is {value} .",
        "Everyone knows {name} the {value} .",
        "{name} has long been a {value} .",
    ),
    "animal": (
        "{name} keeps a {value} .",
        "The pet of {name} is a {value} .",
        "Each morning {name} feeds the {value} .",
        "{name} would never sell the {value} .",
    ),
    "dish": (
        "{name} loves to eat {value} .",
        "The best meal of {name} is {value} .",
        "On feast days {name} cooks {value} .",
        "{name} always asks for {value} .",
    ),
    "instrument": (
        "{name} plays the {value} .",
        "The instrument of {name} is the {value} .",
        "At weddings {name} brings the {value} .",
        "{name} practises on a {value} .",
    ),
    "year": (
        "{name} arrived in year {value} .",
        "The roll of {name} begins in year {value} .",
        "{name} first paid tax in year {value} .",
        "Records name {name} from year {value} .",
    ),
}
PLACEMENTS = (  # each thing that is put away gets a number
    "The [container] holds {thing} {number} .",
    "In the [container] lies {thing} {number} .",
    "They keep {thing} {number} in the [container] .",
)
QUESTIONS = ("Please bring {thing} {number} .", "Who took {thing} {number} ?")

# A story is a row of beats, and a beat is told by one of its templates. A and B are
# its two people.
STORY = {
    "opening": (
        "One {season} morning {A} , the {A_trade} from {A_town} , "
        "left the house early .",
        "It was {season} when {A} , a {A_trade} of {A_town} , packed for a journey .",
        "Long ago in {A_town} the {A_trade} {A} woke up in the {season} {sky} .",
    ),
    "want": (
        "{A_He} wanted to find the {thing} that was lost near the {place} .",
        "{A_He} had promised to carry the {thing} to the {place} before night .",
        "A friend had asked {A_him} to look for the {thing} at the {place} .",
        "In a dream {A_he} had seen a {thing} lying beside the {place} .",
    ),
    "weather": (
        "The {sky} came early that day and the road was {road} .",
        "Because of the {sky} the path to the {place} was {road} .",
        "All day there was {sky} , and the ground stayed {road} .",
        "Nobody had seen such {sky} in {season} , and the fields were {road} .",
    ),
    "companion": (
        "The {A_animal} of {A_first} walked behind {A_him} [manner] .",
        "{A_first} took the {A_animal} along and felt [mood] .",
        "{A_His} {A_animal} would not stay at home and followed [manner] .",
        "When the {A_animal} grew [mood] , {A_first} spoke to it [manner] .",
    ),
    "meeting": (
        "Under the [tree] near the {place} {A_he} met {B} , the {B_trade} .",
        "At the gate of the {place} stood {B} , who is a {B_trade} .",
        "On the way {A_first} saw {B} from {B_town} sitting under the [tree] .",
    ),
    "greeting": (
        "{B_He} looked [mood] and asked where {A_first} was going .",
        "{B_first} waved [manner] and asked about the {thing} .",
        "Good day , said {B_first} , why do you look so [mood] ?",
        "Have you come by the [place] , asked {B_first} , or by the [place] ?",
    ),
    "answer": (
        "I am looking for the {thing} , said {A_first} [manner] .",
        "{A_first} answered that the {thing} was near the {place} .",
        "This {sky} makes me [mood] , said {A_first} to {B_him} .",
        "If the road were not so {road} , said {A_first} , I would be [mood] .",
    ),
    "meal": (
        "They sat down and {B_first} shared {B_his} {B_dish} with {A_first} .",
        "{A_first} opened {A_his} bag and they ate {A_dish} together .",
        "{B_He} cooked {B_dish} and {A_he} felt [mood] again .",
        "There was {A_dish} in a [colour] [container] , and both grew [mood] .",
    ),
    "music": (
        "Then {A_first} played the {A_instrument} [manner] and {B_first} listened .",
        "{B_first} took out {B_his} {B_instrument} and played until "
        "the {sky} stopped .",
        "{A_He} sang , and {B_he} played the {B_instrument} [manner] .",
        "Far away a [trade] heard the {A_instrument} and danced [manner] .",
    ),
    "search": (
        "They looked for the {thing} behind the [tree] and under a "
        "[colour] [container] .",
        "{B_first} searched the [place] [manner] while {A_first} "
        "asked at the [place] .",
        "In a [colour] [container] {A_he} found a [thing] , but not the {thing} .",
        "A [mood] [trade] showed them a [thing] and a [thing] , both [colour] .",
        "Between the [tree] and the [place] {B_he} walked [manner] , {A_he} [manner] .",
    ),
    "wonder": (
        "Who would hide a {thing} in {season} , {A_first} asked [manner] .",
        "{B_first} was [mood] , for {B_he} had once lost a [thing] there too .",
        "Every [trade] owns a [thing] , said {B_first} , but few own a {thing} .",
        "{A_first} had been [mood] at first , but now {A_he} was [mood] .",
        "The [mood] [animal] of a [trade] looked at them [manner] .",
    ),
    "turn": (
        "Suddenly the {A_animal} ran to the {place} and they followed "
        "{A_first} [manner] .",
        "Then a [trade] told {B_him} about a [colour] [container] at the {place} .",
        "Just then {B_first} remembered a [colour] [container] beside the {place} .",
    ),
    "found": (
        "There , in the [colour] [container] , was the {thing} , and "
        "{A_first} felt [mood] .",
        "At last {A_he} held the {thing} and thanked {B_first} [manner] .",
        "{B_first} reached in [manner] and gave the {thing} to {A_first} .",
    ),
    "return": (
        "In the evening {A_first} walked home to {A_town} on the {road} road .",
        "{A_He} said good night to {B_first} and went back to {A_town} .",
        "{B_first} stayed at the {place} , but {A_first} went home through the {sky} .",
    ),
    "lesson": (
        "Since that {season} the {A_trade} and the {B_trade} are friends .",
        "People in {A_town} still tell of {A_first} , {B_first} and the {thing} .",
        "And every {season} {B_first} sends {A_first} a [thing] from {B_town} .",
    ),
}
BEATS = (
    "opening want weather companion wonder meeting greeting answer meal wonder music "
    "search search greeting answer search wonder meal companion search answer music "
    "weather search turn wonder search found answer meal music return lesson"
).split()

HEADINGS = {"register": "Register .", "story": "Story .", "ledger": "Ledger ."}
HEADINGS |= {"recall": "Inventory ."}
LEDGER = {
    "start": "{first} starts with {n} coins ,",
    "earn": "earns {n}",
    "pay": "pays {n}",
    "count": "Count :",
    "plus": "{a} plus {n} is {b}",
    "minus": "{a} minus {n} is {b}",
    "end": "So {first} has {n} coins .",
}


def _names(rng: Random, count: int, endings: str, taken: set[str]) -> tuple[str, ...]:
    """`count` invented names of two or three syllables, none in `taken`; adds them."""
    names = []
    while len(names) < count:
        start, middle = rng.choice("b d f g k l m n p r s t v th br".split()), ""
        if rng.random() < 0.4:
            middle = rng.choice("ri lo na ve du mi ra so".split())
        stem = start + rng.choice("aeiou") + middle
        stem += rng.choice("l n r s d v m lt rn".split())
        name = (stem + rng.choice(endings.split())).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return tuple(names)


@cache
def names() -> dict[str, tuple[str, ...]]:
    """Names: 64 for women, 64 for men, 128 for families and 64 for towns."""
    rng, taken = Random(1), set()
    return {
        "she": _names(rng, 64, "a ia ena", taken),
        "he": _names(rng, 64, "o in ek us", taken),
        "family": _names(rng, 128, "ell and ov ish arin", taken),
        "town": _names(rng, 64, "burg ford wick holm stad mere", taken),
    }
