"""tools/convert_weights and tools/describe_onnx: on files of torch.save(), on a frozen graph, and on pickles that want to run
code: those are refused by name and nothing of them is run."""

import json
import os
import pickle
import struct
import sys
import zipfile

from harness import expect, finish, here, root, run
from harness import fixtures as all_fixtures

tools, fixtures = root / "tools", all_fixtures / "extractors"
out = here / "out.safetensors"


def convert(network, *files, tool="convert_weights"):
    out.unlink(missing_ok=True)
    words = [] if tool == "convert_inception" else [network]
    return run(tools / tool, *words, *files, "--out", out)


def converted():
    data = out.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    formats = {"F32": "f", "F16": "e"}
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            found[name] = (entry["shape"], [value for value, in struct.iter_unpack(
                "<" + formats[entry["dtype"]], data[begin:end])])
    return header["__metadata__"], found


def expect_refused(network, file, *words):
    done = convert(network, file)
    lines = done.stderr.splitlines()
    expect(done.returncode == 4 and len(lines) == 1 and not out.exists() and
           all(word in done.stderr for word in (str(file), *words)),
           f"{file} was not refused with {words}: {done.returncode} {done.stderr}")


def expect_same(network, file, expected):
    done = convert(network, file)
    expect(done.returncode == 0, f"{file}: {done.stderr}")
    if done.returncode == 0:
        expect(converted()[1] == expected, f"{file}: {converted()[1]}, expected {expected}")


def check_files_of_torch():
    plain = {"features.0.weight": ([2, 3, 2, 2], [float(i) for i in range(24)]),
             "features.0.bias": ([2], [0.5, -2.0]), "lin0.weight": ([1, 2, 1, 1], [0.0, 1.0])}
    expect_same("lpips", fixtures / "zip.pth", plain)
    expect_same("lpips", fixtures / "legacy.pth", plain)
    views = dict(plain)
    views["features.0.weight"] = ([2, 3, 2, 2], [float(i) for i in range(24, 48)])
    views["features.0.bias"] = ([2], [3.0, 6.0])
    expect_same("lpips", fixtures / "views.pth", views)
    expect_refused("inception", fixtures / "zip.pth", "'features.0.weight'", "Inception-v3")
    for cut in (1, 300, 900):
        (here / "cut.pth").write_bytes((fixtures / "legacy.pth").read_bytes()[:-cut])
        expect_refused("lpips", here / "cut.pth")
    (here / "cut.pth").write_bytes((fixtures / "zip.pth").read_bytes()[:1500])
    expect_refused("lpips", here / "cut.pth", "damaged")
    (here / "text.pth").write_text("hello")
    expect_refused("lpips", here / "text.pth", "neither a zip nor a pickle")
    missing = convert("lpips", here / "missing.pth")
    expect(missing.returncode == 2 and "missing.pth: No such file" in missing.stderr, missing.stderr)


def check_vision_transformers():
    """The image tower of a CLIP in safetensors, with what no tensor says; and what is no such file."""
    def safetensors(tensors):
        header, at = {}, 0
        for name, values in tensors.items():
            header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [at, at + 4 * len(values)]}
            at += 4 * len(values)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + b"".join(
            struct.pack(f"<{len(values)}f", *values) for values in tensors.values())

    both = safetensors({"visual.class_embedding": [1.0, 2.0], "token_embedding.weight": [3.0]})
    (here / "clip.safetensors").write_bytes(both)
    done = run(tools / "convert_weights", "clip", here / "clip.safetensors", "--activation", "gelu", "--out", out)
    expect(done.returncode == 0, done.stderr)
    metadata, tensors = converted()
    expect(metadata["activation"] == "gelu" and tensors == {"visual.class_embedding": ([2], [1.0, 2.0])},
           f"{metadata} {tensors}")
    expect_refused("dinov2", here / "clip.safetensors", "'visual.class_embedding'", "DINOv2")
    for bad in (both[:-1], b"\xff" * 30, both[:8] + b"[" * 40 + both[48:]):
        (here / "bad.safetensors").write_bytes(bad)
        expect_refused("dinov2", here / "bad.safetensors", "no whole file of safetensors")


def check_descriptions():
    """What describe_onnx appends is entries of the model's metadata, and nothing else changes."""
    network, described = fixtures / "tf_like.onnx", here / "described.onnx"
    done = run(tools / "describe_onnx", network, "--mean", "1,2,3.5", "--order", "BGR", "--out", described)
    entries = (b"\x72\x19\x0a\x0elastframe.mean\x12\x071,2,3.5"
               b"\x72\x16\x0a\x0flastframe.order\x12\x03BGR")
    expect(done.returncode == 0 and described.read_bytes() == network.read_bytes() + entries, done.stderr)
    for words, part in ((("--mean", "1,2"), "neither one number nor three"), (("--name", "A b"), "other characters"),
                        (("--out", "a.pb"), "must end with .onnx")):
        done = run(tools / "describe_onnx", network, "--out", described, *words)
        expect(done.returncode == 2 and part in done.stderr, f"{words}: {done.stderr}")
    done = run(tools / "describe_onnx", here / "none.onnx", "--out", described)
    expect(done.returncode == 2 and "none.onnx: No such file" in done.stderr, done.stderr)


def check_files_of_python_2():
    """The published heads of LPIPS are such: byte strings, and pairs as OrderedDict's argument."""
    def text(value):
        return b"U" + bytes([len(value)]) + value

    def tensor(key):
        storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(key) + text(b"cpu") + b"K\x02NtQ"
        shape = b"(K\x01K\x02K\x01K\x01t(K\x02K\x01K\x01K\x01t\x89ccollections\nOrderedDict\n]\x85R"
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + b"tR"

    names = {b"features.0.weight": b"7", b"lin0.model.1.weight": b"8"}
    pairs = b"".join(b"](" + text(name) + tensor(key) + b"ea" for name, key in names.items())
    data = b"\x80\x02ccollections\nOrderedDict\n]" + pairs + b"\x85R."
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    numbers = [struct.pack("<q2f", 2, *pair) for pair in ((1, 2), (3, 4))]
    keys = b"\x80\x02](" + text(b"7") + text(b"8") + b"e."
    (here / "python2.pth").write_bytes(head + data + keys + b"".join(numbers))
    expect_same("lpips", here / "python2.pth", {"features.0.weight": ([1, 2, 1, 1], [1.0, 2.0]),
                                                "lin0.weight": ([1, 2, 1, 1], [3.0, 4.0])})


class Hostile:
    def __reduce__(self):
        return os.system, (f"touch {here}/ran",)


class Sneaky:
    def __reduce__(self):
        return eval, (f"open('{here}/ran', 'w')",)


def check_code_is_never_run():
    assert_runs = here / "ran"
    pickle.loads(pickle.dumps(Sneaky()))
    expect(assert_runs.exists(), "the hostile pickle is harmless, so this test shows nothing")
    assert_runs.unlink()
    for protocol in (2, 4):
        for hostile, name in ((Hostile(), "system"), (Sneaky(), "eval")):
            data = pickle.dumps({"features.0.weight": hostile}, protocol=protocol)
            for legacy in (False, True):
                file = here / f"hostile-{name}-{protocol}-{legacy}.pth"
                if legacy:
                    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
                    file.write_bytes(b"".join(head) + data + pickle.dumps([], 2))
                else:
                    with zipfile.ZipFile(file, "w") as archive:
                        archive.writestr("archive/data.pkl", data)
                expect_refused("lpips", file, name, "code", "nothing of it was run")
    file = here / "bare.pth"
    file.write_bytes(pickle.dumps(Hostile(), 2))
    expect_refused("lpips", file, "system")
    # Whole modules, which torch.save(model) writes, are classes too.
    with zipfile.ZipFile(here / "module.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02ctorchvision.models.alexnet\nAlexNet\n)\x81.")
    expect_refused("lpips", here / "module.pth", "torchvision.models.alexnet.AlexNet", "state_dict")
    expect(not assert_runs.exists(), "code of a pickle was run")


def message(*parts):
    """A protobuf message of (number, bytes or int)."""
    data = b""
    for number, value in parts:
        is_bytes = isinstance(value, bytes)
        data += varint(number << 3 | (2 if is_bytes else 0))
        data += varint(len(value)) + value if is_bytes else varint(value)
    return data


def varint(value):
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def constant(name, shape, values):
    dimensions = b"".join(message((2, message((1, extent)))) for extent in shape)
    tensor = message((1, 1), (2, dimensions), (4, struct.pack(f"<{len(values)}f", *values)))
    kind = message((1, b"dtype"), (2, message((6, 1))))
    value = message((1, b"value"), (2, message((8, tensor))))
    return message((1, message((1, name.encode()), (2, b"Const"), (5, kind), (5, value))))


def frozen_graph(left_out=""):
    """Of every constant the graph has, with the sizes 2 x 3 x 4 x 5 instead of its own."""
    sys.path.insert(0, str(tools))
    sys.dont_write_bytecode = True
    from frozen_graph import convolutions
    scopes = convolutions()
    expect(len(scopes) == 94 and len(set(scopes.values())) == 94, f"{len(scopes)} convolutions")
    graph = message((1, message((1, b"Mul"), (2, b"Mul"), (3, b"x"))))
    for scope in scopes:
        if scope == left_out:
            continue
        graph += constant(f"{scope}/conv2d_params", (2, 3, 4, 5), range(120))
        for i, part in enumerate(("beta", "gamma", "moving_mean", "moving_variance")):
            graph += constant(f"{scope}/batchnorm/{part}", (5,), [i + n / 8 for n in range(5)])
    return graph + constant("softmax/weights", (2, 3), range(6)) + constant("softmax/biases", (3,), (1, 2, 3))


def check_frozen_graph():
    graph = here / "graph.pb"
    graph.write_bytes(frozen_graph())
    done = convert("", graph, tool="convert_inception")
    expect(done.returncode == 0, done.stderr)
    metadata, weights = converted()
    expect(metadata["network"] == "inception" and len(weights) == 94 * 5 + 2, f"{len(weights)} tensors")
    # [height, width, in, out] -> [out, in, height, width]
    transposed = [float(60 * h + 20 * w + 5 * i + o)
              for o in range(5) for i in range(4) for h in range(2) for w in range(3)]
    for name in ("Conv2d_1a_3x3", "Mixed_6a.branch3x3dbl_3", "Mixed_7c.branch3x3dbl_3b"):
        expect(weights[f"{name}.conv.weight"] == ([5, 4, 2, 3], transposed), f"{name}: {weights.get(name)}")
    expect(weights["Mixed_5b.branch_pool.bn.weight"][1] == [1 + n / 8 for n in range(5)], "gamma")
    expect(weights["Mixed_5b.branch_pool.bn.running_var"][1] == [3 + n / 8 for n in range(5)], "variance")
    expect(weights["fc.weight"] == ([3, 2], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]), f"{weights['fc.weight']}")
    graph.write_bytes(frozen_graph(left_out="mixed_7/tower_1/conv_4"))
    expect_refused("inception", graph, "no constant mixed_7/tower_1/conv_4/conv2d_params")
    graph.write_bytes(frozen_graph()[:-10])
    expect_refused("inception", graph, "ends early")
    graph.write_bytes(b"\xff" * 100)
    expect_refused("inception", graph, "no frozen graph")


check_files_of_torch()
check_vision_transformers()
check_descriptions()
check_files_of_python_2()
check_code_is_never_run()
check_frozen_graph()
finish()
