"""Rows of tokens for training: text and generated tasks, packed, in a reproducible order."""

import dataclasses
import math

import numpy as np

from larder_train.data.corpus import Corpus
from larder_train.data.drills import DrillMaker
from larder_train.data.tasks import ANSWER, NOISE, Task, TaskMaker
from larder_train.errors import InputError
from larder_train.options import DataOptions

MIN_TASK_TOKENS = 96
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclasses.dataclass
class Rows:
    """What one optimiser step learns from."""

    inputs: np.ndarray   # int64 [n_rows, row_tokens]
    targets: np.ndarray  # int64 [n_rows, row_tokens]: the next token
    weights: np.ndarray  # float32 [n_rows, row_tokens]: weight of each target in the loss
    answers: np.ndarray  # bool [n_rows, row_tokens]: the target belongs to a task's answer


@dataclasses.dataclass
class Stage:
    """A part of a run: its rows, and what they hold."""

    row_tokens: int
    share: float         # of the steps
    tasks: float = 0.0   # share of the rows that hold tasks
    drills: float = 0.0  # share of those that hold drills


def parse_stages(options: DataOptions, context: int) -> list[Stage]:
    """`512:0.6` means rows of 512 tokens for 0.6 of the steps; the shares are normalised.
    `512:0.6:0.8:0.5`: tasks in 0.8 of the rows instead of `task_share`, half of them drills."""
    stages = []
    for text in options.stages:
        row, *numbers = text.split(":")
        if not row.isdigit() or int(row) > context or int(row) < MIN_TASK_TOKENS:
            raise InputError(f"stages: '{text}': rows have {MIN_TASK_TOKENS} to {context} tokens")
        try:
            share, tasks, drills = ([float(x) for x in numbers] +
                                    [1.0, options.task_share, 0.0][len(numbers):])
        except ValueError as error:
            raise InputError(f"stages: '{text}' is not TOKENS:SHARE:TASKS:DRILLS") from error
        if not (share >= 0 and 0 <= tasks <= 1 and 0 <= drills <= 1):
            raise InputError(f"stages: '{text}': shares lie between 0 and 1")
        stages.append(Stage(int(row), share, tasks, drills))
    total = sum(stage.share for stage in stages)
    if not total > 0:
        raise InputError(f"stages: {options.stages} have no positive share")
    return [dataclasses.replace(stage, share=stage.share / total) for stage in stages]


def stage_at(stages: list[Stage], progress: float) -> Stage:
    """The stage at `progress` (0..1) of the run."""
    for stage in stages:
        progress -= stage.share
        if progress < 0:
            return stage
    return stages[-1]


class RowSampler:
    """Draws rows; what it will draw next depends only on the seed and on `state`.

    Row k of a source begins at (k * golden ratio) of its length: any number of rows covers the
    source evenly, whatever their lengths, and the position is one number. Text rows are windows of
    the packed documents. Task rows are filled with tasks of random length, and with text where
    nothing more fits.
    """

    def __init__(self, corpus: Corpus, options: DataOptions, seed: int):
        if unknown := set(options.mix) - set(corpus.sources):
            raise InputError(f"mix: no source {', '.join(sorted(unknown))}, "
                             f"there are {', '.join(sorted(corpus.sources))}")
        self._corpus, self._options, self._seed = corpus, options, seed
        self._names = sorted(options.mix or corpus.sources)
        weights = np.array([options.mix.get(n, len(corpus.sources[n])) for n in self._names], float)
        self._weights = weights / weights.sum()
        self._maker = TaskMaker(corpus.tokenizer, self._filler)
        self._drills = DrillMaker(corpus.tokenizer, self._maker.words)
        self.state = {"step": 0, "rows": {name: 0 for name in self._names}}

    def next(self, n_rows: int, stage: Stage) -> Rows:
        """The rows of the next step; advances `state`."""
        row_tokens = stage.row_tokens
        rng = np.random.default_rng([self._seed, self.state["step"]])
        ids = np.empty((n_rows, row_tokens + 1), np.int64)
        kinds = np.ones((n_rows, row_tokens + 1), np.uint8)
        for row in range(n_rows):
            if rng.random() < stage.tasks:
                ids[row], kinds[row] = self._task_row(rng, row_tokens + 1, stage.drills)
            else:
                ids[row] = self._text_row(rng, row_tokens + 1)
        self.state["step"] += 1
        target_kinds = kinds[:, 1:]
        answers = target_kinds == ANSWER
        weights = np.where(target_kinds == NOISE, 0.0, 1.0).astype(np.float32)
        weights[answers] = self._options.answer_weight
        return Rows(ids[:, :-1], ids[:, 1:], weights, answers)

    def _text_row(self, rng: np.random.Generator, n: int) -> np.ndarray:
        name = self._names[rng.choice(len(self._names), p=self._weights)]
        source = self._corpus.sources[name]
        if len(source) < n:
            raise InputError(f"source {name}: {len(source)} tokens, a row needs {n}")
        k = self.state["rows"][name]
        self.state["rows"][name] = k + 1
        start = int((k * GOLDEN + self._seed * 0.1) % 1.0 * (len(source) - n + 1))
        return source[start:start + n]

    def _filler(self, rng: np.random.Generator, n: int) -> np.ndarray:
        source = self._corpus.sources[self._names[rng.choice(len(self._names), p=self._weights)]]
        start = int(rng.integers(0, max(1, len(source) - n)))
        return np.asarray(source[start:start + n])

    def _task_row(self, rng: np.random.Generator, n: int,
                  drills: float) -> tuple[np.ndarray, np.ndarray]:
        ids = np.empty(n, np.int64)
        kinds = np.ones(n, np.uint8)
        # Without drills no number is drawn: older runs go on with the rows they would have had.
        draw = self._drill if drills > 0 and rng.random() < drills else self._task
        at = 0
        while n - at > MIN_TASK_TOKENS:
            room = n - at - 1
            task = draw(rng, room)
            m = min(len(task.ids), room)
            ids[at:at + m], kinds[at:at + m] = task.ids[:m], task.kinds[:m]
            ids[at + m] = self._corpus.eos
            at += m + 1
        ids[at:] = self._filler(rng, n - at) if n > at else ids[at:]
        return ids, kinds

    def _task(self, rng: np.random.Generator, room: int) -> Task:
        # Log-uniform: as many short tasks as long ones, half of the rows hold one long task.
        low = MIN_TASK_TOKENS / room
        size = room if rng.random() < 0.25 else max(MIN_TASK_TOKENS,
                                                    int(room * low ** rng.random()))
        return self._maker.draw(rng, min(size, room))

    def _drill(self, rng: np.random.Generator, room: int) -> Task:
        size = room if rng.random() < 0.5 else int(rng.integers(MIN_TASK_TOKENS, room + 1))
        return self._drills.draw(rng, size)
