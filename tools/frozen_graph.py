"""Reads the Inception of TensorFlow's 2015-12-05 (classify_image_graph_def.pb, a frozen GraphDef)
without TensorFlow: the fields of protobuf that hold constants, and which constant is which
convolution. Needs only Python. Imported by convert_weights.
"""

from plain_pickle import Refused

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DT_FLOAT = 1


def fields(data):
    """(number, value) of a protobuf message; texts and messages as memoryviews."""
    at, end = 0, len(data)

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise Refused("it is damaged, or no frozen graph of TensorFlow")
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < end:
        key = varint()
        wire = key & 7
        if wire == VARINT:
            yield key >> 3, varint()
            continue
        if wire not in (FIXED64, BYTES, FIXED32):
            raise Refused("it is damaged, or no frozen graph of TensorFlow")
        size = {FIXED64: 8, FIXED32: 4}.get(wire) or (varint() if wire == BYTES else 0)
        if size > end - at:
            raise Refused("it ends early; use another copy of it")
        yield key >> 3, data[at:at + size]
        at += size


def constant(tensor):
    """(shape, bytes of float32) of a TensorProto, None for another type."""
    shape, content, kind = [], b"", 0
    for number, value in fields(tensor):
        if number == 1:
            kind = value
        elif number == 2:
            for field, dimension in fields(value):
                if field == 2:
                    shape.append(dict(fields(dimension)).get(1, 0))
        elif number == 4:
            content = value
    if kind != DT_FLOAT:
        return None
    count = 1
    for extent in shape:
        count *= extent
    return (shape, bytes(content)) if len(content) == 4 * count else None


def constants(path):
    found = {}
    with open(path, "rb") as file:
        graph = memoryview(file.read())
    for number, node in fields(graph):
        if number != 1:  # NodeDef
            continue
        name = operation = tensor = None
        for field, value in fields(node):
            if field == 1:
                name = bytes(value).decode("utf-8", "replace")
            elif field == 2:
                operation = bytes(value)
            elif field == 5:
                entry = dict(fields(value))
                if bytes(entry.get(1, b"")) == b"value":
                    tensor = dict(fields(entry.get(2, b""))).get(8)
        if operation == b"Const" and name and tensor is not None:
            value = constant(tensor)
            if value is not None:
                found[name] = value
    return found


def convolutions():
    """The graph's scope of each convolution -> its name in PyTorch."""
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    pairs = {numbered("conv", i): name for i, name in enumerate(stem)}
    one, pool = {"conv": "branch1x1"}, {"tower_2/conv": "branch_pool"}
    block_a = one | pool | tower("tower", "branch5x5", 2) | tower("tower_1", "branch3x3dbl", 3)
    block_b = {"conv": "branch3x3"} | tower("tower", "branch3x3dbl", 3)
    block_c = one | pool | tower("tower", "branch7x7", 3) | tower("tower_1", "branch7x7dbl", 5)
    block_d = tower("tower", "branch3x3", 2) | tower("tower_1", "branch7x7x3", 4)
    block_e = one | pool | tower("tower", "branch3x3", 1) | tower("tower_1", "branch3x3dbl", 2) | {
        "tower/mixed/conv": "branch3x3_2a", "tower/mixed/conv_1": "branch3x3_2b",
        "tower_1/mixed/conv": "branch3x3dbl_3a", "tower_1/mixed/conv_1": "branch3x3dbl_3b"}
    blocks = [("5b", block_a), ("5c", block_a), ("5d", block_a), ("6a", block_b), ("6b", block_c),
              ("6c", block_c), ("6d", block_c), ("6e", block_c), ("7a", block_d), ("7b", block_e),
              ("7c", block_e)]
    for i, (block, branches) in enumerate(blocks):
        for scope, branch in branches.items():
            pairs[f"{numbered('mixed', i)}/{scope}"] = f"Mixed_{block}.{branch}"
    return pairs


def numbered(name, i):
    return name if i == 0 else f"{name}_{i}"


def tower(scope, branch, count):
    return {f"{scope}/{numbered('conv', i)}": f"{branch}_{i + 1}" for i in range(count)}


def reordered(shape, data, order):
    """The tensor with its axes in another order: (shape, bytes)."""
    numbers = memoryview(data).cast("I")
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape))):
        strides[axis] = step
        step *= shape[axis]
    # The innermost of the new axes is taken by slices, the others one by one.
    starts = [0]
    for axis in order[:-1]:
        starts = [start + i * strides[axis] for start in starts for i in range(shape[axis])]
    step, count = strides[order[-1]], shape[order[-1]]
    out = b"".join(numbers[start:start + (count - 1) * step + 1:step].tobytes() for start in starts)
    return [shape[axis] for axis in order], out


def inception_of(path):
    """name -> (shape, bytes of float32), named as pytorch-fid does."""
    found = constants(path)

    def take(name):
        if name not in found:
            raise Refused(f"the graph has no constant {name}; is it classify_image_graph_def.pb of "
                          "inception-2015-12-05.tgz?")
        return found[name]

    weights = {}
    for scope, name in convolutions().items():
        weights[f"{name}.conv.weight"] = reordered(*take(f"{scope}/conv2d_params"), (3, 2, 0, 1))
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                             ("running_var", "moving_variance")):
            weights[f"{name}.bn.{ours}"] = take(f"{scope}/batchnorm/{theirs}")
    weights["fc.weight"] = reordered(*take("softmax/weights"), (1, 0))
    weights["fc.bias"] = take("softmax/biases")
    return weights
