"""Python's safetensors and the README's reader read our checkpoints, and we read what Python writes.

Reads fixtures/checkpoints/format-1, which our program wrote (see
Checkpoint.DISABLED_WritesTheFixture), tensor by tensor through the index that Hugging Face tools
use; and checks that python.safetensors, which the unit tests read, is what `--write` makes.
"""

import json

from harness import arguments, fixtures, root, skip

try:
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import save
except ImportError as missing:
    skip(f"{missing}; pip install safetensors numpy")

folder = fixtures / "checkpoints"
IMAGES = 12800


def ramp(count, salt):
    return numpy.arange(count, dtype=numpy.float64) * 3 + IMAGES % 97 + salt


# tests/checkpoint/checkpoint_fixture.h, state_at(); bf16 is compared by its bits.
EXPECTED = {
    "model": {
        "encoder.weight": ramp(24, 1).astype(numpy.float32).reshape(4, 3, 2),
        "encoder.bias": ramp(4, 2).astype(numpy.float32),
        "norm.count": numpy.array(IMAGES, dtype=numpy.int64),
        "mask": ramp(6, 0).astype(numpy.int64) % 2 == 1,
    },
    "ema": {
        "encoder.weight": ramp(24, 5).astype(numpy.float32).reshape(4, 3, 2),
        "encoder.bias": ramp(4, 6).astype(numpy.float32),
    },
    "optimizer": {
        "encoder.weight/exp_avg": ramp(24, 7).astype(numpy.float32).reshape(4, 3, 2),
        "encoder.bias/exp_avg": ramp(4, 8).astype(numpy.float32),
        "generator/steps": numpy.array(IMAGES, dtype=numpy.float32),
    },
}


def check_ours():
    for kind, tensors in EXPECTED.items():
        index = json.loads((folder / "format-1" / f"{kind}.safetensors.index.json").read_text())
        where = index["weight_map"]
        assert set(tensors) == set(where) - {"decoder.weight"}, (kind, sorted(where))
        for name, value in tensors.items():
            with safe_open(folder / "format-1" / where[name], framework="numpy") as file:
                assert file.metadata()["format"] == "pt" and file.metadata()["kind"] == kind
                read = file.get_tensor(name)
            assert read.dtype == value.dtype and read.shape == value.shape, name
            assert (read == value).all(), name
    path = folder / "format-1" / json.loads(
        (folder / "format-1" / "model.safetensors.index.json").read_text())["weight_map"]["decoder.weight"]
    with safe_open(path, framework="numpy") as file:
        part = file.get_slice("decoder.weight")
        assert part.get_dtype() == "BF16" and part.get_shape() == [7, 5]


def check_reader():
    """The reader in src/checkpoint/README.md."""
    readme = (root / "src" / "checkpoint" / "README.md").read_text()
    reader = {}
    exec(readme.split("```python\n")[1].split("```")[0], reader)
    for kind, tensors in EXPECTED.items():
        read = reader["load"](folder / "format-1", kind)
        assert set(read) == set(tensors) | ({"decoder.weight"} if kind == "model" else set()), kind
        for name, value in tensors.items():
            assert read[name].dtype == value.dtype and read[name].shape == value.shape, name
            assert (read[name] == value).all(), name
    weight = reader["load"](folder / "format-1")["decoder.weight"]
    assert (weight == ramp(35, 3).reshape(5, 7).T).all()


def python_file():
    tensors = {
        "f64": numpy.linspace(-1, 1, 5),
        "f32": numpy.arange(12, dtype=numpy.float32).reshape(3, 4) / 8,
        "f16": numpy.arange(6, dtype=numpy.float16).reshape(2, 3) / 4,
        "i64": numpy.array([-(2**62), 0, 2**62]),
        "i32": numpy.array([[1, -2]], dtype=numpy.int32),
        "i16": numpy.array(-3, dtype=numpy.int16),
        "i8": numpy.array([-128, 127], dtype=numpy.int8),
        "u8": numpy.arange(7, dtype=numpy.uint8),
        "bool": numpy.array([True, False, True]),
        "empty": numpy.zeros((0, 3), dtype=numpy.float32),
        "schl\u00fcssel \"quoted\"\n": numpy.array([1], dtype=numpy.uint8),
    }
    return save(tensors, metadata={"made by": "Python", "\u00e9": "\\ \"x\""})


if arguments == ["--write"]:
    (folder / "python.safetensors").write_bytes(python_file())
check_ours()
check_reader()
# The order of the metadata is the package's own affair; sizes and data are not.
kept, made = (folder / "python.safetensors").read_bytes(), python_file()
header = int.from_bytes(kept[:8], "little")
assert len(kept) == len(made) and kept[8 + header:] == made[8 + header:]
print("all passed")
