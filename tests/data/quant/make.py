"""Blocks of random bytes and what the `gguf` Python package decodes them to.

Run in this folder; needs numpy and gguf (0.19 was used). TYPE.blocks holds the bytes, TYPE.f32 the floats.
"""
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

# Where the f16 scales of a block lie: random ones would mostly be infinite or absurd.
SCALES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F16: [], T.BF16: []}

rng = np.random.default_rng(20)
for dtype, scales in SCALES.items():
    elems, size = GGML_QUANT_SIZES[dtype]
    n = max(2, 64 // elems)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in scales:
        blocks[:, at:at + 2] = rng.standard_normal((n, 1)).astype(np.float16).view(np.uint8)
    if dtype in (T.F16, T.BF16):
        blocks = rng.standard_normal(n).astype(np.float32)
        blocks = quants.quantize(blocks.reshape(1, n), dtype).view(np.uint8).reshape(n, size)
    name = dtype.name.lower()
    blocks.tofile(f"{name}.blocks")
    quants.dequantize(blocks.reshape(1, -1), dtype).astype(np.float32).tofile(f"{name}.f32")
