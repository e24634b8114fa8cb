"""The command line: each command's flags are the fields of its dataclasses."""

import argparse
import dataclasses
import json
import pathlib
import sys
import typing

from larder_train import options as opt
from larder_train.errors import InputError

COMMANDS = {
    "tokenizer": ("train a byte-level BPE tokenizer", [opt.TokenizerOptions]),
    "prepare": ("tokenise the corpus once", [opt.PrepareOptions]),
    "train": ("train, or go on with the run in --out",
              [opt.ModelOptions, opt.DataOptions, opt.TrainOptions]),
    "uptrain": ("go on from a Hugging Face folder",
                [opt.UptrainOptions, opt.DataOptions, opt.TrainOptions]),
    "export": ("write a run as Hugging Face folder and GGUF", [opt.ExportOptions]),
    "evaluate": ("bits per byte and retrieval accuracy", [opt.EvaluateOptions]),
    "measure": ("the same of a GGUF file, through the engine", [opt.MeasureOptions]),
    "compare": ("train, convert and measure kinds of attention, or go on with that",
                [opt.CompareOptions, opt.ModelOptions, opt.DataOptions, opt.TrainOptions]),
}


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise argparse.ArgumentTypeError(f"'{text}' is not true or false")
    return text.lower() in ("true", "1", "yes")


def _mapping(text: str) -> dict[str, float]:
    """books=0.6,technical=0.4"""
    try:
        return {k: float(v) for k, v in (item.split("=") for item in text.split(","))}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not name=weight,...") from error


def _parser_of(kind: type) -> typing.Callable[[str], object]:
    if kind is bool:
        return _boolean
    if kind == dict[str, float]:
        return _mapping
    if typing.get_origin(kind) is list:
        item = typing.get_args(kind)[0]
        return lambda text: [item(part) for part in text.split(",") if part]
    return kind


def _add_flags(parser: argparse.ArgumentParser, classes: list[type]) -> None:
    parser.add_argument("--config", help="JSON file with the same names (underscores); flags win")
    for cls in classes:
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            # `--json` alone means yes.
            alone = {"nargs": "?", "const": True} if hints[field.name] is bool else {}
            parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name,
                                type=_parser_of(hints[field.name]), default=argparse.SUPPRESS,
                                help=field.metadata["help"], **alone)


def _values(parsed: argparse.Namespace, classes: list[type]) -> dict[str, object]:
    given = vars(parsed)
    path = given.pop("config", None)
    if path is None:
        return given
    try:
        values = json.loads(pathlib.Path(path).read_text())
    except ValueError as error:  # no JSON, or no text
        raise InputError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: is not an object with options by name")
    kinds = {name: kind for cls in classes for name, kind in typing.get_type_hints(cls).items()}
    if unknown := sorted(set(values) - set(kinds)):
        raise InputError(f"{path}: unknown option {', '.join(unknown)}")
    values = {name: opt.typed(f"{path}: {name}", value, kinds[name])
              for name, value in values.items()}
    return values | given


def _build(values: dict[str, object], classes: list[type]) -> list:
    built = []
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)}
        built.append(opt.checked(cls(**{k: v for k, v in values.items() if k in names})))
    return built


def _run(command: str, parts: list) -> None:
    """Imports late: `--help` and the tokenizer do without PyTorch."""
    if command == "tokenizer":
        from larder_train.data.tokenizer import save_tokenizer, train_tokenizer
        options = parts[0]
        save_tokenizer(train_tokenizer(options), pathlib.Path(options.out), options.context)
    elif command == "prepare":
        from larder_train.data.corpus import prepare_corpus
        options = parts[0]
        info = prepare_corpus(*(pathlib.Path(p) for p in
                                (options.text, options.tokenizer, options.cache)))
        print(json.dumps(info, indent=2))
    elif command == "train":
        from larder_train.training.run import train
        train(*parts)
    elif command == "uptrain":
        from larder_train.training.run import uptrain
        uptrain(*parts)
    elif command == "export":
        from larder_train.model.export import export
        export(parts[0])
    elif command == "measure":
        from larder_train.measure import measure
        measure(parts[0])
    elif command == "compare":
        from larder_train.compare.stages import compare
        compare(*parts)
    else:
        from larder_train.evaluate import evaluate
        evaluate(parts[0])


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one sentence on standard error for input that cannot be used."""
    parser = argparse.ArgumentParser(prog="larder_train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, classes) in COMMANDS.items():
        _add_flags(commands.add_parser(name, help=summary), classes)
    parsed = parser.parse_args(arguments)
    command = vars(parsed).pop("command")
    try:
        classes = COMMANDS[command][1]
        _run(command, _build(_values(parsed, classes), classes))
    except (InputError, OSError, json.JSONDecodeError) as error:
        print(f"larder_train {command}: {error}", file=sys.stderr)
        return 2
    return 0
