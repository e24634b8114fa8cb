"""Starts and continues runs: `train` from random weights, `uptrain` from a directory."""

import dataclasses
import json
import pathlib
import sys

from larder_train.data.corpus import Corpus
from larder_train.data.sampler import RowSampler, parse_stages
from larder_train.errors import InputError
from larder_train.model.hf import load_hf
from larder_train.model.transformer import Transformer, validated
from larder_train.options import DataOptions, ModelOptions, TrainOptions, UptrainOptions
from larder_train.training.checkpoint import checkpoints, load_checkpoint, write_whole
from larder_train.training.trainer import Teacher, Trainer, run_to_end

# Options that may differ when a run goes on; all others decide what the run is.
_FREE = {"tokens", "decay", "device", "threads", "micro_tokens", "save_minutes", "keep",
         "max_steps", "max_minutes", "compile"}


def _fix_options(run: pathlib.Path, parts: dict[str, object]) -> None:
    """Writes options.json, or refuses options that differ from those the run began with."""
    current = {name: dataclasses.asdict(part) for name, part in parts.items()}
    path = run / "options.json"
    if path.is_file() and checkpoints(run):
        before = json.loads(path.read_text())
        for part, values in current.items():
            for key, value in values.items():
                old = before.get(part, {}).get(key, value)
                if old != value and key not in _FREE and key != "out":
                    raise InputError(f"{path}: the run has {key} = {old}, not {value}")
    run.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(current, indent=2) + "\n")


def _require(command: str, **paths: str) -> None:
    for name, value in paths.items():
        if not value:
            raise InputError(f"{command} needs --{name}")


def _go(model: Transformer, corpus: Corpus, data: DataOptions, train_options: TrainOptions,
        teacher: Teacher | None) -> bool:
    run = pathlib.Path(train_options.out)
    stages = parse_stages(data, model.options.context)
    sampler = RowSampler(corpus, data, train_options.seed)
    trainer = Trainer(model, sampler, stages, train_options, teacher)
    n_weights = sum(w.numel() for w in model.parameters())
    if found := checkpoints(run):
        trainer.restore(load_checkpoint(found[-1]))
    print(f"{run}: {model.options.attention}, {n_weights:,} parameters, step {trainer.step} of "
          f"{trainer.n_steps}", file=sys.stderr)
    done = run_to_end(trainer, train_options, f"{run.name}: {model.options.attention}, "
                                              f"{n_weights / 1e6:.1f} M parameters")
    print(f"{run}: {'complete' if done else 'stopped'} at step {trainer.step}", file=sys.stderr)
    return done


def train(model_options: ModelOptions, data: DataOptions, train_options: TrainOptions) -> bool:
    """Trains from random weights, or goes on from the newest checkpoint in `out`. True when the
    run is complete, false when it was stopped."""
    _require("train", out=train_options.out, cache=data.cache)
    corpus = Corpus.open(pathlib.Path(data.cache))
    n_vocab = corpus.tokenizer.get_vocab_size()
    if model_options.vocab_size not in (0, n_vocab):
        raise InputError(f"vocab_size: {model_options.vocab_size}, the tokenizer has {n_vocab}")
    model_options = validated(dataclasses.replace(model_options, vocab_size=n_vocab))
    _fix_options(pathlib.Path(train_options.out), {
        "model": model_options, "data": data, "train": train_options})
    model = Transformer(model_options)
    model.initialise(train_options.seed)
    return _go(model, corpus, data, train_options, None)


def uptrain(options: UptrainOptions, data: DataOptions, train_options: TrainOptions) -> bool:
    """Goes on from a Hugging Face directory for a part of the original steps, with a schedule of
    its own and, if wanted, a teacher. Resumes like `train`."""
    _require("uptrain", source=options.source, out=train_options.out, cache=data.cache)
    if options.original_steps > 0:
        n_steps = max(1, round(options.fraction * options.original_steps))
        train_options = dataclasses.replace(train_options,
                                            tokens=n_steps * train_options.step_tokens)
    corpus = Corpus.open(pathlib.Path(data.cache))
    model = load_hf(pathlib.Path(options.source))
    if model.options.vocab_size < corpus.tokenizer.get_vocab_size():
        raise InputError(f"{options.source}: {model.options.vocab_size} tokens, the corpus uses "
                         f"{corpus.tokenizer.get_vocab_size()}")
    teacher = None
    if options.teacher:
        teacher = Teacher(load_hf(pathlib.Path(options.teacher)), options.teacher_share)
        if teacher.model.options.vocab_size != model.options.vocab_size:
            raise InputError(f"{options.teacher}: {teacher.model.options.vocab_size} tokens, the "
                             f"pupil has {model.options.vocab_size}")
    _fix_options(pathlib.Path(train_options.out), {
        "model": model.options, "data": data, "train": train_options, "uptrain": options})
    return _go(model, corpus, data, train_options, teacher)
