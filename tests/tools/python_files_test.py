"""tools/python/lastframe_io beside the program: stores of both modes and types, merged, damaged and hostile; runs,
checkpoints and exports; every config. pip installs the package from a copy of the checkout."""

import pickle
import re
import warnings

from harness import *

sys.path.insert(0, str(root / "tools" / "python"))
try:
    import numpy
    import safetensors
except ImportError as missing:
    skip(f"{missing}; pip install numpy safetensors")
from lastframe_io import Checkpoint, DataError, Export, Run, Store, crc32c, parse_text


def refused(action, *words):
    """`action` must raise a DataError of one sentence that says these words."""
    try:
        action()
    except DataError as error:
        text = str(error)
        said = all(word in text for word in words)
        expect(said and "\n" not in text and ";" in text, f"{text!r} does not say {words}")
        return
    except Exception as error:  # any other is a bug
        expect(False, f"{words}: {type(error).__name__}: {error}")
        return
    expect(False, f"nothing was said of {words}")


# --- stores: images and labels that this script drew, and the frames that `lastframe export` writes ---

draw = numpy.random.default_rng(0)
pictures = draw.integers(0, 256, (20, 8, 6, 3), dtype=numpy.uint8)
numpy.save(here / "pictures.npy", pictures)
numpy.save(here / "labels.npy", draw.integers(0, 5, 20))
labels = numpy.load(here / "labels.npy")


def built(name, *sets):
    execute([program, "build", "--out", here / name, *with_sets(
        [f"source.npy={{ path: '{here}/pictures.npy' labels: '{here}/labels.npy' }}", "recipe.frames=4",
         "store.threads=1", "store.clips_per_shard=8", *sets])])
    return here / name


def check_store(folder, kind, draw=0, frames=4):
    output("export", folder, "--npy", here / "clips.npy", *(["--draw", draw] if draw else []))
    truth, found = numpy.load(here / "clips.npy"), Store(folder, draw=draw)
    expect(len(found) == len(truth), f"{folder} has {len(found)} clips, exported {len(truth)}")
    for i, clip in enumerate(found):
        expect((clip.frames.dtype, clip.frames.shape) == (kind, (frames, 8, 6, 3)), f"clip {i} is {clip.frames.shape}")
        held = truth.shape[1] if kind == numpy.float16 else frames
        expect((clip.frames[:held] == truth[i][-frames:][:held]).all(), f"clip {i} of {folder} has other frames")
        image = clip.frames[-1].astype(numpy.float32)
        grey = numpy.rint((image + 1) * 127.5) if kind == numpy.float16 else image
        expect((grey == pictures[i % 20]).all(), f"the last frame of clip {i} of {folder} is not its image")
        expect(clip.label == labels[i % 20] and clip.name.endswith(f"#{i % 20}"), f"{clip.label} {clip.name}")
    return found


plain, noisy = built("plain"), built("noisy", "recipe.noise={}", "store.draws=2")
check_store(plain, numpy.uint8)
for number in (0, 1):
    check_store(noisy, numpy.float16, number)
expect((Store(noisy)[3].frames != Store(noisy, draw=1)[3].frames).any(), "both draws are the same")
refused(lambda: Store(noisy, draw=2), "draw 2", "expected 0 to 1")
output("merge", here / "merged", plain, built("more", "store.seed=1"))
both = check_store(here / "merged", numpy.uint8)
expect(len(both) == 40 and (pickle.loads(pickle.dumps(both))[-1].frames == both[39].frames).all(), "a merged store")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    check_store(built("recomputed", "store.mode=RECOMPUTED"), numpy.uint8, frames=1)
expect(len(said) == 1 and "RECOMPUTED" in str(said[0].message), f"{said}")
execute([program, "build", "--out", here / "captions", *with_sets(
    ["source.generated={ kind: 'captioned-digits' count: 6 frames: 2 }", "store.threads=1"])])
columns = Store(here / "captions")[5].columns
expect(re.fullmatch(r"\w+ \w+, \w+ \w+", columns["words"]) and columns["caption"].dtype == numpy.float32 and
       columns["caption"].size % 32 == 0, f"{columns}")
try:
    both[40]
    expect(False, "a clip beyond the end")
except IndexError:
    pass

# --- stores that are damaged or hostile ---


def copied(name, change=None, file="index"):
    shutil.copytree(plain, here / name)
    if change:
        change(here / name / file)
    return here / name


def flip_picture(path):
    content = path.read_bytes()
    flip_bit(path, content.index(pictures[2].tobytes()) + 5)


def with_index(*fields):
    """An index of these fields, number and value, whose checksum is right."""
    body = b"LFSTORE1"
    for number, value in fields:
        if isinstance(value, bytes):
            body += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            body += varint(number << 3) + varint(value)
    return lambda path: path.write_bytes(body + crc32c(body).to_bytes(4, "little"))


def varint(value):
    data = b""
    while value > 0x7F:
        data, value = data + bytes([value & 0x7F | 0x80]), value >> 7
    return data + bytes([value])


damaged = copied("flipped", flip_picture, "shards/00000.h5")
refused(lambda: Store(damaged)[2], "00000.h5", "checksum of its image")
expect(Store(damaged)[9].label == labels[9], "a whole shard beside a damaged one")
cut = copied("cut", lambda path: path.write_bytes(path.read_bytes()[:-9]), "shards/00001.h5")
refused(lambda: Store(cut)[8], "00001.h5", "the index says")
gone = copied("gone", lambda path: path.unlink(), "shards/00002.h5")
refused(lambda: Store(gone)[19], "00002.h5", "cannot be read")
refused(lambda: Store(copied("bit", flip_bit)), "index", "checksum")
refused(lambda: Store(copied("unfinished", lambda path: path.unlink())), "not finished")
refused(lambda: Store(here), "is no store")
refused(lambda: Store(copied("newer", with_index((1, 2)))), "format 2")
shape = [(1, 1), (4, 4), (5, 8), (6, 6), (7, 3), (8, 1), (9, 1)]
huge = with_index(*shape, (4, 4096), (5, 65536), (6, 65536))
refused(lambda: Store(copied("huge", huge)), "bytes", "expected at most")
refused(lambda: Store(copied("negative", with_index(*shape, (5, 2**64 - 1)))), "height")
refused(lambda: Store(copied("typed", with_index(*shape, (4, b"x")))), "field 4")
refused(lambda: Store(copied("torn", with_index(*shape, (15, b"\x08")))), "record of shard 0", "within a field")
record = b"\x08" + varint(1 << 24) + b"\x19" + (1 << 30).to_bytes(8, "little")
lies = record + b"\x32\x05\0\0\0\0\0\x3a\x01\0"
refused(lambda: Store(copied("lies", with_index(*shape, (15, lies)))), "datasets")
lies = record + b"\x32\x06\0\0\0\0\0\0\x3a\x01\0"
refused(lambda: Store(copied("beyond", with_index(*shape, (15, lies)))), "ends beyond the file")
for number in range(200):  # whatever an index says, it is read or refused
    noise = bytearray((plain / "index").read_bytes()[8:-4])
    for _ in range(4):
        noise[draw.integers(len(noise))] = draw.integers(256)
    body = b"LFSTORE1" + noise
    (damaged / "index").write_bytes(body + crc32c(bytes(body)).to_bytes(4, "little"))
    try:
        Store(damaged)[0]
    except (DataError, IndexError):
        pass

# --- runs, checkpoints, exports ---

made = here / "run"
train(made, 1, ["checkpoint.keep_last=2", "train.validation_images=240", "train.validation_clips=24"])
found = Run(made)
expect(found.status["state"] == "finished" and found.config.model.autoencoder.dropout == 0.3, f"{found.status}")
expect(found.metrics() == [line for line in lines(made) if "event" not in line], "other metrics")
expect(len(found.metrics("validation")) == 2, f"{found.metrics('validation')}")
expect([c.images for c in found.checkpoints()] == [360, 480], f"{found.checkpoints()}")
newest = found.checkpoints()[-1]
expect(newest.clip_shape == (3, 8, 8, 3) and "validation_loss" in newest.numbers, f"{newest.numbers}")
expect(newest.config == found.config, "the checkpoint has another config")
expect(set(newest.kinds()) == {"ema", "model", "optimizer"}, f"{newest.kinds()}")
for kind in ("model", "ema"):
    truth = weights(made, kind)
    expect(set(newest.names(kind)) == set(truth), f"{kind}: {newest.names(kind)}")
    for name, value in newest.tensors(kind).items():
        expect((value.ravel() == numpy.array(truth[name], numpy.float32)).all(), f"{kind}: {name}")
output("export", made, "--out", here / "run.safetensors")
export = Export(here / "run.safetensors")
expect((export.clip_shape, export.images) == ((3, 8, 8, 3), 480), f"{export.metadata}")
expect(export.config == found.config, "the export has another config")
name = export.names()[0]
expect((export.tensor(name) == newest.tensor(name, "ema")).all(), "the export has other weights")
expect(Checkpoint(fixtures / "checkpoints" / "format-1").tensor("decoder.weight")[0, 0] == 96, "bf16")

refused(lambda: Run(plain), "is no run", "config.pbtxt")
refused(lambda: newest.tensor("nothing"), "no tensor nothing")
refused(lambda: newest.tensors("averages"), "'averages'", "ema, model")
file = sorted(pathlib.Path(newest.path).glob("model*.safetensors"))[0]
flip_bit(file, file.stat().st_size - 1)
refused(lambda: newest.tensors(), "checksum", file.name)
flip_bit(pathlib.Path(newest.path) / "manifest.pbtxt")
refused(lambda: found.checkpoints(), "manifest.pbtxt", "own checksum")
(here / "bad.safetensors").write_bytes((1 << 62).to_bytes(8, "little"))
refused(lambda: Export(here / "bad.safetensors"), "is no safetensors file")
(made / "metrics.jsonl").write_text('{"loss": 1}\nnot json\n{"los')
refused(lambda: found.metrics(), "line 2")
for deep in ("a { " * 10000, "a: " + "[ " * 10000):
    refused(lambda: parse_text(deep, "the text"), "64 levels")
refused(lambda: parse_text("a { b: 1", "the text"), "missing")
refused(lambda: parse_text("a: $", "the text"), "character 2")
for path in root.glob("configs/**/*.pbtxt"):
    expect(bool(parse_text(path.read_text(), path)), f"{path} is empty")
expect(parse_text(r'a: "x\n\"\303\244" b: [1, -2.5e3] b: 3 # c: 1' "\nd { e: ON; f <>}".replace("<>", ": -1"), "t") ==
       {"a": 'x\n"ä', "b": [1, -2500.0, 3], "d": {"e": "ON", "f": -1}}, "protobuf text")

# --- the package ---

shutil.copytree(root / "tools" / "python", here / "package", ignore=shutil.ignore_patterns("__pycache__"))
done = run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target",
           here / "site", here / "package", extra={"PYTHONPATH": str(root / ".deps" / "tests")})
if "No module named" in done.stderr:
    print("not tried: pip install, which needs pip and setuptools here")
else:
    check(done.returncode == 0, f"pip install: {done.stderr}")
    expect({"lastframe_io", "lastframe_torch"} <= set(os.listdir(here / "site")), f"{os.listdir(here / 'site')}")
finish()
