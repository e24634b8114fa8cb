"""Drills: rows dense in answers, from which a model first learns to copy and to look up.

A hidden pass key gives five answers in a row of text; a drill gives dozens, so that the heads for
"what came after this before" form from a tenth of the tokens (docs/training.md).
"""

import math

import numpy as np
from tokenizers import Tokenizer

from larder_train.data.tasks import ANSWER, NOISE, TEXT, Task

SHORTEST_PERIOD = 4
FORMS = [("The code of", " is", ".\n"), ("", "", "\n"), ("VAR", " =", ".\n")]


class DrillMaker:
    """Draws drills of a wanted length. `words` are words of one token with a blank before them."""

    def __init__(self, tokenizer: Tokenizer, words: list[str]):
        self._digits = np.array([tokenizer.encode(str(d)).ids[0] for d in range(10)])
        self._words = np.array([tokenizer.encode(" " + word).ids[0] for word in words])
        self._all = np.arange(tokenizer.get_vocab_size() // 16, tokenizer.get_vocab_size())
        self._blank = tokenizer.encode(" ").ids
        self._forms = [tuple(tokenizer.encode(part).ids for part in form) for form in FORMS]

    def draw(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """Two repetitions for one table of codes."""
        return (self.table if rng.random() < 1 / 3 else self.repetition)(rng, n_tokens)

    def repetition(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """Random tokens again and again with a short period; digits need more than one token of
        context to be told apart."""
        alphabet = self._alphabet(rng)
        longest = max(SHORTEST_PERIOD + 1, n_tokens // 5)
        period = int(math.exp(rng.uniform(math.log(SHORTEST_PERIOD), math.log(longest))))
        ids = np.resize(alphabet[rng.integers(0, len(alphabet), period)], n_tokens)
        kinds = np.full(n_tokens, ANSWER, np.uint8)
        kinds[:period] = NOISE
        return Task(ids.astype(np.uint16), kinds)

    def table(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """Lines `word code`, drawn again and again from a few; every later code is an answer."""
        most = max(4, n_tokens // 24)
        n_lines = min(len(self._words), int(math.exp(rng.uniform(math.log(2), math.log(most)))))
        words = self._words[rng.permutation(len(self._words))[:n_lines]]
        codes = self._digits[rng.integers(0, 10, (n_lines, int(rng.integers(1, 6))))]
        before, between, after = self._forms[rng.integers(len(self._forms))]
        ids: list[int] = []
        kinds: list[int] = []
        seen: set[int] = set()
        while len(ids) < n_tokens:
            i = int(rng.integers(n_lines))
            ids += [*before, words[i], *between, *self._blank, *codes[i], *after]
            kinds += [TEXT] * len(before) + [NOISE] + [TEXT] * (len(between) + len(self._blank))
            kinds += [ANSWER if i in seen else NOISE] * len(codes[i]) + [TEXT] * len(after)
            seen.add(i)
        return Task(np.asarray(ids[:n_tokens], np.uint16), np.asarray(kinds[:n_tokens], np.uint8))

    def _alphabet(self, rng: np.random.Generator) -> np.ndarray:
        draw = rng.random()
        if draw < 0.3:
            return self._digits
        if draw < 0.6:
            return self._words[rng.permutation(len(self._words))[:int(rng.integers(8, 65))]]
        return self._words if draw < 0.8 else self._all
