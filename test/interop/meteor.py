"""Stems, tokens and METEOR by NLTK, as expected by test/pure/data-meteor.test.ts. Written with NLTK 3.8 and WordNet 3.0.

Usage: python test/interop/meteor.py WORDNET > test/interop/meteor.json

WORDNET is a folder with WordNet 3.0's files and NLTK's `lexnames` (nltk_data/corpora/wordnet). The texts are this
repository's own.
"""

import json
import sys

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.stem.porter import PorterStemmer
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.translate.meteor_score import meteor_score

WORDS = """
caresses ponies ties dies cats news innings outings cannings skies sky dying lying tying flies fly spied died tried
cry by say enjoy enjoyment happy feed agreed bleed plastered bled motoring sing conflated troubled sized hopping tanned
falling hissing fizzed failing filing relational conditional rational valency hesitancy digitizer conformably
radically differently vilely analogously vietnamization predication operator feudalism decisiveness hopefulness
callousness formality sensitivity sensibility triplicate formative formalize electricity electrical hopeful goodness
revival allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment dependent
adoption homologou communism activate angularity homologous effective bowdlerize probate rate cease controlling
rolling at it is was the proceed exceed succeed howe carefully logically apology biology theology usually finally
generally cheesy syzygy yyy buying played eying eats restaurants eatery eaters cities kitchens families lion union
ending's don't 1990s café naïve x
""".split()

SENTENCES = [
    "The café isn't cheap, it's 20.50 (or more).",
    '"Cheap," she said, "isn\'t everything..."',
    "They'll won't we've I'm he'd you're cannot gonna gotta wanna go",
    "Rock 'n' roll -- at the river's edge; 50% off!",
    "A 3,000-seat hall: open 9:30, closed on Mondays",
    "'Tis the dogs' dinner? What?!",
    "one/two [three] {four} <five> #six $7 &eight *nine*",
    "“Curly” ‘quotes’ and «these»",
    "e.g. a pub near St James's house.",
    "  spaces   and\ttabs\n",
    "",
]

CASES = [
    ("the cat sat on the mat", ["the cat sat on the mat"]),
    ("the cat sat on the mat", ["on the mat sat the cat"]),
    ("a dog runs in the park", ["a dog is running in the parks"]),
    ("the children went home", ["the child goes home", "the kids go home"]),
    ("men buy automobiles", ["a man purchases a car"]),
    ("he is a physician", ["he was a doctor"]),
    ("the film begins late", ["the movie starts late", "the picture commences late"]),
    ("a big house by the sea", ["a large home near the ocean"]),
    ("cheap food in a nice eatery", ["inexpensive food in a fine restaurant"]),
    ("The Tests are HARD", ["the exams are difficult"]),
    ("the the the the", ["the cat and the dog"]),
    ("x y z", ["a b c"]),
    ("a", ["a"]),
    ("", ["a b"]),
    ("better geese feed oxen", ["a good goose fed the ox"]),
    ("she quickly shut the door and left", ["she closed the door rapidly and departed"]),
    ("they are happy , glad and cheerful", ["they seem happy and full of cheer ."]),
    ("dozens of mice ate the leaves", ["a dozen mouse eats a leaf", "mice eating leaf"]),
    ("buy it now or never", ["never purchase it at present"]),
    ("worst of all , the axes broke", ["the worst thing : an axis or an ax breaks"]),
]

wordnet = WordNetCorpusReader(sys.argv[1], None)
stemmer = PorterStemmer()
tokenizer = NLTKWordTokenizer()
json.dump(
    {
        "versions": {"nltk": nltk.__version__, "wordnet": wordnet.get_version()},
        "stems": {word: stemmer.stem(word) for word in WORDS},
        "sentences": [{"text": text, "tokens": tokenizer.tokenize(text)} for text in SENTENCES],
        "meteor": [
            {
                "hypothesis": text.split(),
                "references": [reference.split() for reference in references],
                "score": meteor_score([r.split() for r in references], text.split(), wordnet=wordnet),
            }
            for text, references in CASES
        ],
    },
    sys.stdout,
    indent=1,
)
print()
