"""Processors that lack what this one has, in emulation: the binary must begin and end on them."""

import pathlib
import platform
import shutil
import subprocess

import pytest

MODEL = pathlib.Path(__file__).parents[2] / "models/stories260K.gguf"


@pytest.fixture(scope="module")
def packed_model(larder, tmp_path_factory) -> str:
    """Weights that are packed while loading, and multiplied by int8 activations."""
    path = tmp_path_factory.mktemp("processors") / "q8_0.gguf"
    subprocess.run([larder, "quantize", str(MODEL), str(path), "q8_0"], check=True,
                   capture_output=True, timeout=300)
    return str(path)


def _text_and_engine(command: list[str], model: str) -> tuple[str, str]:
    done = subprocess.run([*command, "run", "-m", model, "-p", "Once upon a time", "-n", "20",
                           "--temp", "0", "-t", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, next(line for line in done.stderr.splitlines() if " thread" in line)


@pytest.mark.parametrize(("processor", "isa"), [("Nehalem", "scalar"), ("Haswell", "avx2")])
def test_older_processors_write_the_same_text(larder, packed_model, processor, isa):
    if platform.machine() != "x86_64":
        pytest.skip("emulates x86-64 on x86-64")
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian's qemu-user)")
    for model in (str(MODEL), packed_model):
        text, engine = _text_and_engine([qemu, "-cpu", processor, larder], model)
        assert f"{isa}, 1 thread" in engine
        assert len(text) > 20
        assert text == _text_and_engine([larder], model)[0]
