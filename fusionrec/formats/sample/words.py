"""Word material of the sample corpus: tags, title words, names and a lyrics vocabulary.

Everything a listener would read about a song of the sample corpus is drawn here, with
flavour from its genre mixture and enough shared and stray words that the genre has to be
inferred rather than read off.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GENRES = ("rock", "metal", "pop", "jazz", "electronic", "hip hop", "country", "folk")
"""The planted genres, in the order of every mixture and preference vector."""

TAGTRAUM_NAMES = ("Rock", "Metal", "Pop", "Jazz", "Electronic", "Rap", "Country", "Folk")
"""The genres as the tagtraum annotation spells them."""

VOCABULARY_SIZE = 1500
"""Words the lyrics are drawn from."""


def _split(*lines: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line.split("|")) for line in lines)


GENRE_TAGS = _split(
    "rock|indie rock|alternative rock|hard rock|classic rock|garage rock|punk|grunge",
    "metal|heavy metal|death metal|thrash metal|black metal|doom metal|power metal|metalcore",
    "pop|dance pop|synthpop|teen pop|pop rock|electropop|europop|power pop|pop and chart",
    "jazz|bebop|swing|cool jazz|hard bop|vocal jazz|latin jazz|jazz and blues|big band",
    "electronic|techno|house|trance|ambient|drum and bass|downtempo|electro|dance and electronica",
    "hip hop|rap|gangsta rap|underground hip hop|east coast rap|turntablism|boom bap|old school",
    "country|alt country|bluegrass|honky tonk|country rock|americana|outlaw country|western swing",
    "folk|singer-songwriter|folk rock|traditional|celtic|indie folk|acoustic folk|ballad|fiddle",
)
"""Tags of each genre, the most common first."""

GENERIC_TAGS = _split(
    "american|british|80s|90s|00s|english|male vocals|female vocalist|seen live|uk|usa|german"
    "|favorites|acoustic|instrumental"
)[0]
"""Tags that say nothing about the genre, the most common first."""

GENRE_WORDS = _split(
    "thunder|rebel|electric|highway|wild|rolling|basement|stranger|engine|jungle|crash|gasoline"
    "|howling|riot|velvet|amplifier",
    "blood|doom|iron|grave|inferno|wrath|throne|serpent|chaos|steel|demon|tomb|scourge|storm|skull"
    "|oblivion",
    "baby|kiss|summer|sugar|party|crush|sparkle|forever|tonight|darling|sweet|glitter|boyfriend"
    "|magic|lipstick|heartbeat",
    "blue|moonlight|autumn|waltz|bop|swing|satin|indigo|lullaby|monk|misty|stardust|mood|serenade"
    "|trumpet|harlem",
    "circuit|neon|pulse|signal|orbit|machine|digital|static|laser|spectrum|voltage|vector|cosmos"
    "|echo|plastic|android",
    "street|hustle|money|flow|block|crew|mic|gangster|dollar|rhyme|ghetto|boss|paper|corner|cipher"
    "|hood",
    "truck|whiskey|dusty|boots|tennessee|cowboy|barn|saddle|rodeo|jukebox|prairie|tractor|honky"
    "|bourbon|wagon|fiddle",
    "river|meadow|willow|harvest|shepherd|raven|cottage|lantern|sparrow|hollow|wander|maiden|hills"
    "|sailor|gather|thistle",
)
"""Words that flavour a genre's titles, names and lyrics."""

SHARED_WORDS = _split(
    "love|night|day|time|heart|home|world|light|dream|rain|fire|road|eyes|life|sun|moon|song|sky"
    "|city|dance|man|girl|morning|again|alone|better|broken|change|closer|dark|door|down"
    "|end|fall|free|ghost|gone|good|ground|hand|hold|hope|king|last|leave|little|live|long|lost"
    "|mind|never|new|old|one|over|people|queen|red|run|secret|sleep|smile|soul|star|stay|still"
    "|story|sunday|tears|tell|things|town|train|walk|water|way|wind|winter|words|young"
)[0]
"""Content words of any genre."""

FUNCTION_WORDS = _split(
    "i|the|you|to|and|a|me|it|not|in|my|is|of|your|that|do|on|are|we|am|will|all|for|no|be|have|so"
    "|know|this|but|with|what|just|when|like|now|can|come|there|go|up|oh|they|out|got|say|get|her"
    "|if|was|want|make|see|let|take|how|he|from|feel|need|she|here|where|at|as|give|yeah"
    "|think|by|said|would|too|more|our|who|been|his|could|back|why|off|look|him|us|these|some|only"
)[0]
"""The vocabulary's head: the most frequent words of lyrics in any genre."""

_ONSETS, _NUCLEI, _CODAS = _split(
    "b|c|d|f|g|h|j|k|l|m|n|p|r|s|t|v|w|br|ch|cl|dr|fl|gr|kr|pl|pr|sh|sl|st|th|tr",
    "a|e|i|o|u|ai|ea|ee|io|oa|ou",
    "|||l|m|n|r|s|t|ck|nd|rn|ss|x",
)
_ACCENTS = str.maketrans("aeionuc", "áéíøñüç")


def pronounceable(rng: np.random.Generator, syllables: int) -> str:
    """A made-up word of `syllables` syllables, lower case."""
    word = ""
    for _ in range(syllables):
        word += _ONSETS[rng.integers(len(_ONSETS))] + _NUCLEI[rng.integers(len(_NUCLEI))]
    return word + _CODAS[rng.integers(len(_CODAS))]


@lru_cache(maxsize=64)
def zipf_cdf(n: int, exponent: float = 1.0) -> NDArray[np.float64]:
    """Cumulative shares of `n` items whose weight falls as rank**-exponent, shape (n,)."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    cdf: NDArray[np.float64] = np.cumsum(weights / weights.sum())
    return cdf


def pick(rng: np.random.Generator, items: tuple[str, ...], exponent: float = 1.0) -> str:
    """One of `items`, the earlier the likelier."""
    rank = int(np.searchsorted(zipf_cdf(len(items), exponent), rng.random(), side="right"))
    return items[min(rank, len(items) - 1)]


def pick_genre(rng: np.random.Generator, mixture: NDArray[np.float32]) -> int:
    """A genre's index, with the chances in `mixture`, shape (G,), which sum to 1."""
    genre = int(np.searchsorted(np.cumsum(mixture), rng.random(), side="right"))
    return min(genre, len(mixture) - 1)


def flavoured(rng: np.random.Generator, mixture: NDArray[np.float32], share: float) -> str:
    """A title word: from a genre of the `mixture` with chance `share`, else from any genre."""
    if rng.random() < share:
        return pick(rng, GENRE_WORDS[pick_genre(rng, mixture)], 0.5)
    return pick(rng, SHARED_WORDS, 0.6)


def title(rng: np.random.Generator, mixture: NDArray[np.float32], *, accent: bool = False) -> str:
    """A song's or release's title of one to four words, with accented letters on demand."""
    words = [flavoured(rng, mixture, 0.35) for _ in range(rng.integers(1, 5))]
    if rng.random() < 0.3:
        words.insert(0, pick(rng, ("the", "my", "in the", "a", "your", "no", "all the"), 0.5))
    text = " ".join(words).title()
    # The prefix is non-ASCII whatever letters the words have.
    return "Más " + text.translate(_ACCENTS) if accent else text


def artist_name(rng: np.random.Generator, mixture: NDArray[np.float32]) -> str:
    """A band's or a person's name."""
    first = pronounceable(rng, int(rng.integers(1, 3)))
    form = rng.integers(4)
    if form == 0:
        return f"{first} {pronounceable(rng, 2)}".title()
    if form == 1:
        return f"the {flavoured(rng, mixture, 0.5)} {first}s".title()
    if form == 2:
        return f"{first} {flavoured(rng, mixture, 0.5)}".title()
    return f"{first} and the {flavoured(rng, mixture, 0.5)}".title()


def artist_tags(
    rng: np.random.Generator, mixture: NDArray[np.float32], draws: int
) -> tuple[str, ...]:
    """Up to `draws` distinct tags: of the artist's genres, of none, and now and then astray."""
    tags: dict[str, None] = {}
    for _ in range(draws):
        kind = rng.random()
        if kind < 0.62:
            tags[pick(rng, GENRE_TAGS[pick_genre(rng, mixture)])] = None
        elif kind < 0.90:
            tags[pick(rng, GENERIC_TAGS)] = None
        else:
            tags[pick(rng, GENRE_TAGS[rng.integers(len(GENRE_TAGS))])] = None
    return tuple(tags)


def vocabulary(rng: np.random.Generator) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The lyrics' words, the most frequent first, and the genre each belongs to.

    Returns
    -------
    words
        :data:`VOCABULARY_SIZE` distinct words without commas.
    home
        Shape (VOCABULARY_SIZE,): index of the genre that favours the word, -1 for none.
    """
    head = list(FUNCTION_WORDS)
    content: dict[str, int] = {}
    for genre, genre_words in enumerate(GENRE_WORDS):
        for word in genre_words:
            # A word two genres share says nothing about either.
            content[word] = -1 if word in content else genre
    content.update(dict.fromkeys(SHARED_WORDS, -1))
    for word in head:
        content.pop(word, None)
    taken = set(head)
    while len(content) + len(head) < VOCABULARY_SIZE:
        word = pronounceable(rng, int(rng.integers(1, 4)))
        if word not in content and word not in taken:
            content[word] = int(rng.integers(-len(GENRES), len(GENRES)))
    order = rng.permutation(len(content))
    names = list(content)
    homes = np.array([max(home, -1) for home in content.values()], dtype=np.int64)
    words = tuple(head + [names[i] for i in order])
    return words, np.concatenate([np.full(len(head), -1, np.int64), homes[order]])
