"""Generated tasks that can only be solved by looking far back.

Each task is a list of segments; a segment that carries an answer says so, because only answers can
be predicted and are scored. Segments begin where the pre-tokenizer cuts anyway (a blank before a
word or a digit, a line), so joining them gives the tokens that the whole text would give.
Everything is drawn from a `numpy.random.Generator`: the same seed gives the same tasks.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from tokenizers import Tokenizer

NOISE, TEXT, ANSWER = 0, 1, 2  # what a token is: cannot be foreseen, ordinary text, an answer

PASSKEY_HINT = "There is a pass key hidden in the text below. Remember it.\n"
PASSKEY_QUESTION = "\nWhat is the pass key? The pass key is"
KEY_VALUE_HINT = "Remember the code of each word.\n"
LINE_TOKENS = 12  # of `The code of river is 4821.` at most, with a vocabulary of some thousands
KEY_VALUE_HINT_TOKENS = 12


@dataclasses.dataclass
class Task:
    """Tokens of one task and their kinds."""

    ids: np.ndarray    # uint16 [n]
    kinds: np.ndarray  # uint8 [n]


class TaskMaker:
    """Draws tasks of a wanted length. `filler(rng, n)` gives n token ids of ordinary text."""

    def __init__(self, tokenizer: Tokenizer, filler: Callable[[np.random.Generator, int],
                                                              np.ndarray]):
        self.tokenizer = tokenizer
        self._filler = filler
        # Words of one token: " river", without the blank they would be another token.
        self.words = sorted(w[1:] for w in tokenizer.get_vocab()
                             if len(w) >= 5 and w[0] == "\u0120" and w[1:].isascii()
                             and w[1:].isalpha() and w[1:].islower()) or ["key"]

    def draw(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """A task of a random kind with at most `n_tokens` tokens. REQUIRES n_tokens >= 96"""
        makers = [self.passkey, self.key_value, self.key_value, self.copy, self.variables]
        return makers[rng.integers(len(makers))](rng, n_tokens)

    def passkey(self, rng: np.random.Generator, n_tokens: int, depth: float | None = None) -> Task:
        """A number hidden in text at `depth` (0: start, 1: end; None: anywhere)."""
        key = "".join(str(d) for d in rng.integers(0, 10, 5))
        hint = self._join([(PASSKEY_HINT, TEXT)])
        needle = self._join([("\nThe pass key is", TEXT), (" " + key, NOISE),
                             (". Remember it.", TEXT), (" " + key, ANSWER),
                             (" is the pass key.\n", TEXT)])
        question = self._join([(PASSKEY_QUESTION, TEXT), (" " + key, ANSWER), (".\n", TEXT)])
        n_filler = max(0, n_tokens - len(hint.ids) - len(needle.ids) - len(question.ids))
        before = round(n_filler * (rng.random() if depth is None else depth))
        text = self._text(rng, n_filler)
        return _concat([hint, _cut(text, 0, before), needle, _cut(text, before, n_filler),
                        question])

    def key_value(self, rng: np.random.Generator, n_tokens: int,
                  n_questions: int | None = None) -> Task:
        """Lines `word: code`, with or without text between them, then questions about some."""
        asked = n_questions or int(rng.integers(1, 9))
        room = n_tokens - KEY_VALUE_HINT_TOKENS - asked * LINE_TOKENS
        n_pairs = int(np.clip(room // LINE_TOKENS, 1, min(len(self.words), 64)))
        if n_questions is None:
            n_pairs = int(rng.integers(1, n_pairs + 1))
        words = [self.words[i] for i in rng.permutation(len(self.words))[:n_pairs]]
        codes = ["".join(str(d) for d in rng.integers(0, 10, 4)) for _ in words]
        parts = [self._join([(KEY_VALUE_HINT, TEXT)])]
        gap = max(0, room - n_pairs * LINE_TOKENS) // n_pairs if n_questions or rng.random() < 0.7 else 0
        for word, code in zip(words, codes):
            parts.append(self._join([("The code of", TEXT), (f" {word}", NOISE),
                                     (" is", TEXT), (f" {code}", NOISE), (".\n", TEXT)]))
            if gap > 2:
                parts += [self._text(rng, gap - 1), self._join([("\n", TEXT)])]
        for i in rng.integers(0, n_pairs, asked):
            parts.append(self._join([("The code of", TEXT), (f" {words[i]}", NOISE), (" is", TEXT),
                                     (f" {codes[i]}", ANSWER), (".\n", TEXT)]))
        return _concat(parts)

    def copy(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """Words or text, something in between, and the same again."""
        n = int(rng.integers(8, max(9, min(256, n_tokens // 2 - 24))))
        if rng.random() < 0.5:
            words = rng.integers(0, len(self.words), n)
            first = self._join([("".join(" " + self.words[i] for i in words), NOISE)])
        else:
            first = self._text(rng, n)
        n = min(len(first.ids), n_tokens // 2 - 16)
        first = _cut(first, 0, n)
        head, again = self._join([("Copy this:", TEXT)]), self._join([("\nCopy:", TEXT)])
        n_gap = int(rng.integers(0, max(1, n_tokens - 2 * n - 24)))
        gap = [self._join([("\n", TEXT)]), self._text(rng, n_gap)] if n_gap > 16 else []
        second = Task(first.ids, np.full(n, ANSWER, np.uint8))
        return _concat([head, first, *gap, again, second, self._join([("\n", TEXT)])])

    def variables(self, rng: np.random.Generator, n_tokens: int) -> Task:
        """Chains of assignments in random places; the question is about the end of one."""
        n_chains, n_hops = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        names = iter(self.words[i] for i in rng.permutation(len(self.words)))
        chains = []
        for _ in range(n_chains):
            chain = [next(names, "x") for _ in range(n_hops)]
            chains.append((chain, "".join(str(d) for d in rng.integers(0, 10, 4))))
        lines = []
        turns = rng.permutation(np.repeat(np.arange(n_chains), n_hops))
        met = [0] * n_chains
        for c in turns:
            chain, value = chains[c]
            k, met[c] = met[c], met[c] + 1
            is_value = ([(f" {value}", NOISE)] if k == 0 else [(f" {chain[k - 1]}", NOISE)])
            lines.append(self._join([("VAR", TEXT), (f" {chain[k]}", NOISE), (" =", TEXT),
                                     *is_value, (".\n", TEXT)]))
        gap = max(0, n_tokens - 16 * (len(lines) + 2)) // len(lines)
        gap = int(rng.integers(0, gap + 1))
        parts = []
        for line in lines:
            parts.append(line)
            if gap > 16:
                parts += [self._text(rng, gap - 1), self._join([("\n", TEXT)])]
        chain, value = chains[rng.integers(n_chains)]
        parts.append(self._join([("The value of", TEXT), (f" {chain[-1]}", NOISE), (" is", TEXT),
                                 (f" {value}", ANSWER), (".\n", TEXT)]))
        return _concat(parts)

    def _text(self, rng: np.random.Generator, n: int) -> Task:
        ids = self._filler(rng, n) if n > 0 else np.empty(0, np.uint16)
        return Task(ids, np.full(len(ids), TEXT, np.uint8))

    def _join(self, segments: list[tuple[str, int]]) -> Task:
        ids, kinds = [], []
        for text, kind in segments:
            part = self.tokenizer.encode(text, add_special_tokens=False).ids
            ids += part
            kinds += [kind] * len(part)
        return Task(np.asarray(ids, np.uint16), np.asarray(kinds, np.uint8))


def _concat(parts: list[Task]) -> Task:
    return Task(np.concatenate([p.ids for p in parts]).astype(np.uint16),
                np.concatenate([p.kinds for p in parts]))


def _cut(task: Task, first: int, last: int) -> Task:
    return Task(task.ids[first:last], task.kinds[first:last])
