"""The comparison stage by stage. What is done is on disk; the same command goes on after a kill."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import statistics
import sys
import time

from larder_train.compare.report import write_report
from larder_train.compare.variants import TITLES, cached_numbers, n_weights, variant
from larder_train.data.corpus import Corpus
from larder_train.engine import Engine
from larder_train.errors import InputError
from larder_train.measure import measure_file
from larder_train.model.export import export
from larder_train.model.hf import load_hf
from larder_train.options import (CompareOptions, DataOptions, ExportOptions, MeasureOptions,
                                  ModelOptions, TrainOptions, UptrainOptions)
from larder_train.training.run import train, uptrain

DECODED_TOKENS = 64  # of one timing


class Stopped(Exception):
    """A signal ended a training run, which has saved itself."""


class Comparison:
    """Folders and options of one comparison; each method is a stage that can be repeated."""

    def __init__(self, options: CompareOptions, model: ModelOptions, data: DataOptions,
                 training: TrainOptions):
        for name, value in {"out": training.out, "cache": data.cache, "text": options.text,
                            "larder": options.larder or options.train_only}.items():
            if not value:
                raise InputError(f"compare needs --{name}")
        self.options, self.data, self.training = options, data, training
        self.out = pathlib.Path(training.out)
        self.corpus = Corpus.open(pathlib.Path(data.cache))
        self.base = dataclasses.replace(model, vocab_size=self.corpus.tokenizer.get_vocab_size())
        self.models = {kind: variant(kind, self.base) for kind in options.kinds}
        self.engine = Engine(options.larder, training.threads)

    def train(self, kind: str) -> None:
        """From random weights."""
        own = dataclasses.replace(self.training, out=str(self.out / kind / "run"))
        if not train(self.models[kind], self.data, own):
            raise Stopped

    def uptrain(self) -> None:
        """The aligned model, for `fraction` of the steps, all decaying, on the longer rows: what it
        could do is repaired, not taught again from the beginning."""
        rows = {stage: int(stage.split(":")[0]) for stage in self.data.stages}
        own = dataclasses.replace(self.training, out=str(self.out / "uptrained/run"), decay=1.0,
                                  lr=self.training.lr / 2, seed=self.training.seed + 1)
        data = dataclasses.replace(
            self.data, stages=[s for s, n in rows.items() if 4 * n >= max(rows.values())])
        source = UptrainOptions(source=str(self.out / "aligned/hf"),
                                fraction=self.options.fraction,
                                original_steps=self.training.tokens // self.training.step_tokens)
        if not uptrain(source, data, own):
            raise Stopped

    def convert(self) -> None:
        """MHA to GQA-2 by the engine's converter, as directories and as files: heads averaged as
        they are, and aligned first."""
        for name, flags in {"pooled": [], "aligned": ["--align"]}.items():
            folder = self.out / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.engine.convert(self.out / "mha/hf", folder / "hf", "--kv-heads", "2", *flags,
                                "--to", "hf", "--type", "f32")
            self.engine.convert(folder / "hf", folder / "model.gguf", "--type", "f16")

    def export(self, name: str) -> None:
        """The run's newest checkpoint as directory and GGUF."""
        folder = self.out / name
        export(ExportOptions(run=str(folder / "run"), out=str(folder / "hf"),
                             larder=self.options.larder, gguf=str(folder / "model.gguf")))

    def measure(self, name: str) -> None:
        """Bytes, quality and retrieval of one model."""
        o = self.options
        gguf = self.out / name / "model.gguf"
        result = measure_file(self.engine, gguf, self.corpus.tokenizer, MeasureOptions(
            text=o.text, tokens=o.eval_tokens, context=o.eval_context, lengths=o.lengths,
            samples=o.samples, threads=self.training.threads))
        model = load_hf(self.out / name / "hf").options
        result |= {"name": name, "title": TITLES[name], "weights": n_weights(model),
                   "n_ff": model.n_ff, "cached_numbers": cached_numbers(model),
                   "kv_bytes_per_token": self.engine.kv_bytes_per_token(gguf)}
        self._write(name, result)

    def time(self, names: list[str]) -> None:
        """Decoding at `depth`, all models in turn in every round."""
        o = self.options
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(o.rounds):
            for name in names:
                speed = self.engine.decode_speed(self.out / name / "model.gguf", o.depth,
                                                 DECODED_TOKENS, 1)
                rates[name].append(speed["median"])
        self._write("speed", {"depth": o.depth, "decoded_tokens": DECODED_TOKENS,
                              "engine": speed["engine"], "tokens_per_second": {
                                  name: {"median": statistics.median(r), "min": min(r),
                                         "max": max(r)} for name, r in rates.items()}})

    def report(self, names: list[str]) -> dict:
        """All figures; written beside --report as JSON, pictures and the table in it."""
        o, t = self.options, self.training
        figures = {"models": [json.loads(self._result(name).read_text()) for name in names],
                   "speed": json.loads(self._result("speed").read_text()),
                   "training": {"tokens": t.tokens, "step_tokens": t.step_tokens,
                                "stages": self.data.stages, "optimizer": t.optimizer, "lr": t.lr,
                                "seed": t.seed, "uptrain_fraction": o.fraction},
                   "shape": dataclasses.asdict(self.base)}
        if o.report:
            write_report(pathlib.Path(o.report), figures)
        return figures

    def is_measured(self, name: str) -> bool:
        """Whether that stage is done with these options."""
        path = self._result(name)
        return path.is_file() and json.loads(path.read_text())["options"] == self._fingerprint()

    def _result(self, name: str) -> pathlib.Path:
        return self.out / "results" / f"{name}.json"

    def _write(self, name: str, figures: dict) -> None:
        path = self._result(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(figures | {"options": self._fingerprint()}, indent=2) + "\n")
        beside.replace(path)

    def _fingerprint(self) -> str:
        """Of all that a figure depends on."""
        o = self.options
        data = dataclasses.asdict(self.data) | {"cache": ""}
        parts = [dataclasses.asdict(self.base), data, o.fraction, o.eval_tokens, o.eval_context,
                 o.lengths, o.samples, o.depth, self.training.tokens, self.training.step_tokens,
                 self.training.lr]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class _Stages:
    """Runs stages and says how many are left and, from the time of those done, how long."""

    def __init__(self):
        self._stages: list[tuple[str, float, object]] = []

    def add(self, title: str, cost: float, action) -> None:
        """`cost` in anything that is proportional to time."""
        self._stages.append((title, cost, action))

    def run(self) -> None:
        start, done = time.monotonic(), 0.0
        for i, (title, cost, action) in enumerate(self._stages):
            left = sum(c for _, c, _ in self._stages[i:])
            eta = f", about {(time.monotonic() - start) / done * left / 60:.0f} min left" \
                if done > 0 else ""
            print(f"compare: stage {i + 1} of {len(self._stages)}: {title}{eta}", file=sys.stderr,
                  flush=True)
            action()
            done += cost


def compare(options: CompareOptions, model: ModelOptions, data: DataOptions,
            training: TrainOptions) -> dict | None:
    """What is not done yet, then the report. None when it was stopped or `train_only`."""
    c = Comparison(options, model, data, training)
    stages = _Stages()
    tokens = training.tokens / 1e6
    measure_cost = 0.002 * options.samples * len(options.lengths)
    for kind in options.kinds:
        if not c.is_measured(kind):
            stages.add(f"train {kind}", tokens, lambda kind=kind: c.train(kind))
    names = list(options.kinds)
    if not options.train_only:
        for kind in options.kinds:
            if not c.is_measured(kind):
                stages.add(f"export {kind}", 0.01, lambda kind=kind: c.export(kind))
                stages.add(f"measure {kind}", measure_cost, lambda kind=kind: c.measure(kind))
        if "mha" in names:
            names += ["pooled", "aligned", "uptrained"]
            if not all(c.is_measured(name) for name in names[-3:]):
                stages.add("convert mha", 0.01, c.convert)
                stages.add("uptrain aligned", tokens * options.fraction, c.uptrain)
                stages.add("export uptrained", 0.01, lambda: c.export("uptrained"))
                for name in names[-3:]:
                    stages.add(f"measure {name}", measure_cost, lambda name=name: c.measure(name))
        if not c.is_measured("speed"):
            stages.add("time decoding", 0.005 * options.rounds * len(names),
                       lambda: c.time(names))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # which is for the figures
            stages.run()
    except Stopped:
        print("compare: stopped; the same command goes on", file=sys.stderr)
        return None
    if options.train_only:
        return None
    figures = c.report(names)
    if options.json:
        print(json.dumps(figures, indent=2))
    return figures
