"""Reads the tensors in a file that torch.save() wrote, without ever unpickling: opcodes are read by
pickletools, which runs nothing, and followed here for the few that plain tensors need. A pickle that
asks for anything else (a class, a function, code) is refused by name. Knows the zip files of
PyTorch 1.6 and later and the files of before. Needs only Python. Imported by convert_weights.
"""

import io
import pickletools
import struct
import zipfile

MOST_PICKLE_BYTES = 64 << 20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

# Storage class -> safetensors' type and bytes of an element.
STORAGES = {"DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2),
            "BFloat16Storage": ("BF16", 2), "LongStorage": ("I64", 8), "IntStorage": ("I32", 4),
            "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1), "ByteStorage": ("U8", 1),
            "BoolStorage": ("BOOL", 1)}
FUNCTIONS = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
             ("torch._utils", "_rebuild_parameter")}


class Refused(Exception):
    """What is wrong with a file, as one sentence without its name."""


class Name:
    """A global that a pickle mentions and that we know; never the thing itself."""

    def __init__(self, module, name):
        self.key = (module, name)
        if module == "torch" and name in STORAGES:
            return
        if self.key not in FUNCTIONS:
            raise Refused(f"it is a pickle that asks for {module}.{name}, which is code and not a plain "
                          "tensor; nothing of it was run. Use a file of tensors alone (a state_dict)")


class Storage:
    def __init__(self, kind, key, count):
        self.type, self.item_bytes = STORAGES[kind]
        self.key, self.count = str(key), count
        self.bytes = None  # filled when the file's data is read


class Tensor:
    """A view of a storage; offset, shape and strides in elements."""

    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        plain = (isinstance(storage, Storage) and isinstance(offset, int) and offset >= 0 and
                 isinstance(shape, tuple) and isinstance(strides, tuple) and
                 len(shape) == len(strides) and
                 all(isinstance(n, int) and n >= 0 for n in shape + strides))
        if not plain:
            raise Refused("a tensor in it has no plain shape; use another copy of it")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
        if 0 not in shape and last >= storage.count:
            raise Refused("a tensor in it reaches beyond its data; use another copy of it")

    def to_bytes(self):
        """Row-major."""
        size, data = self.storage.item_bytes, self.storage.bytes
        expected, count = [], 1
        for extent in reversed(self.shape):
            expected.insert(0, count)
            count *= extent
        if all(s == e or n == 1 for s, e, n in zip(self.strides, expected, self.shape)):
            return data[self.offset * size:(self.offset + count) * size]
        parts = []

        def gather(axis, at):
            if axis == len(self.shape):
                parts.append(data[at * size:(at + 1) * size])
                return
            for i in range(self.shape[axis]):
                gather(axis + 1, at + i * self.strides[axis])

        gather(0, self.offset)
        return b"".join(parts)


MARK = object()


def call(function, arguments):
    if not isinstance(function, Name):
        raise Refused("it is a pickle that calls what it should not; nothing of it was run")
    if function.key[1] == "OrderedDict" and isinstance(arguments, tuple) and len(arguments) <= 1:
        # Python 2 wrote its pairs, [key, value], as the argument.
        pairs = arguments[0] if arguments else []
        if isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs):
            return dict(pairs)
    if function.key[1] == "_rebuild_tensor_v2" and len(arguments) >= 4:
        return Tensor(*arguments[:4])
    if function.key[1] == "_rebuild_parameter" and arguments and isinstance(arguments[0], Tensor):
        return arguments[0]
    raise Refused(f"it is a pickle that calls {'.'.join(function.key)} in a way we do not know")


def build_storage(saved):
    """What a persistent id names: ('storage', class, key, device, count[, no view])."""
    plain = (isinstance(saved, tuple) and len(saved) in (5, 6) and saved[0] == "storage" and
             isinstance(saved[1], Name) and saved[1].key[0] == "torch" and
             isinstance(saved[4], int) and saved[4] >= 0 and saved[5:] in ((), (None,)))
    if not plain:
        raise Refused("it is a pickle whose storages we do not know; save it again with a newer PyTorch")
    return Storage(saved[1].key[1], saved[2], saved[4])


class Machine:
    """Follows one pickle. Values are numbers, texts, tuples, lists, dicts, Names and Tensors."""

    def __init__(self):
        self.stack, self.memo, self.storages = [], {}, {}

    def to_mark(self):
        at = len(self.stack) - 1 - self.stack[::-1].index(MARK)
        items = self.stack[at + 1:]
        del self.stack[at:]
        return items

    def persistent(self):
        storage = build_storage(self.stack.pop())
        kept = self.storages.setdefault(storage.key, storage)
        if (kept.type, kept.count) != (storage.type, storage.count):
            raise Refused(f"its storage {storage.key} is described in two ways")
        self.stack.append(kept)

    def set_items(self, pairs):
        if not isinstance(self.stack[-1], dict):
            raise Refused("it is a pickle that fills what is no dictionary")
        for key, value in zip(pairs[::2], pairs[1::2]):
            self.stack[-1][key] = value

    def build(self):
        state = self.stack.pop()  # _metadata of a state_dict, which no one needs
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise Refused("it is a pickle that builds objects; nothing of it was run")

    def step(self, name, argument):
        stack = self.stack
        constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK}
        if name in constants:
            stack.append(constants[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT",
                      "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
                      "SHORT_BINSTRING", "BINSTRING", "STRING"):  # the last ones are Python 2's
            stack.append(argument)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST"):
            items = self.to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            items = self.to_mark()
            stack.append({})
            self.set_items(items)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self.to_mark()
            if not isinstance(stack[-1], list):
                raise Refused("it is a pickle that appends to what is no list")
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.to_mark()
            self.set_items(pairs)
        elif name == "GLOBAL":
            stack.append(Name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, attribute = stack.pop(-2), stack.pop()
            stack.append(Name(str(module), str(attribute)))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(call(stack.pop(), arguments))
        elif name == "BINPERSID":
            self.persistent()
        elif name == "BUILD":
            self.build()
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise Refused(f"it is a pickle with the instruction {name}, which plain tensors do not need; "
                          "nothing of it was run")

    def follow(self, file):
        try:
            for opcode, argument, _ in pickletools.genops(file):
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise Refused(f"its pickle is damaged ({error}); use another copy of it") from None
        if len(self.stack) != 1:
            raise Refused("its pickle is damaged; use another copy of it")
        return self.stack.pop()


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name[:-len("data.pkl")] for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refused("it is a zip without one data.pkl, so not of torch.save()")
        root = roots[0]
        if root + "constants.pkl" in names:
            raise Refused("it is TorchScript, which needs no conversion; give it to --extractor as it is")
        if root + "byteorder" in names and archive.getinfo(root + "byteorder").file_size < 16:
            if archive.read(root + "byteorder") != b"little":
                raise Refused("its numbers are big-endian; save it on a little-endian machine")
        if archive.getinfo(root + "data.pkl").file_size > MOST_PICKLE_BYTES:
            raise Refused("its pickle is larger than the names of any network's tensors")
        machine = Machine()
        value = machine.follow(io.BytesIO(archive.read(root + "data.pkl")))
        for key, storage in machine.storages.items():
            name = f"{root}data/{key}"
            size = storage.count * storage.item_bytes
            if name not in names or archive.getinfo(name).file_size != size:
                raise Refused(f"its storage {key} has not the {size} bytes it should; truncated?")
            storage.bytes = archive.read(name)
    return value


def read_legacy(path):
    with open(path, "rb") as file:
        if Machine().follow(file) != LEGACY_MAGIC or Machine().follow(file) != LEGACY_PROTOCOL:
            raise Refused("it is a pickle, but not one of torch.save()")
        Machine().follow(file)  # sizes and byte order of the machine that wrote it
        machine = Machine()
        value = machine.follow(file)
        for key in Machine().follow(file):
            storage = machine.storages.get(str(key))
            if storage is None:
                raise Refused(f"its storage {key} belongs to nothing")
            if struct.unpack("<q", file.read(8))[0] != storage.count:
                raise Refused(f"its storage {key} has another length than its tensors say")
            storage.bytes = file.read(storage.count * storage.item_bytes)
            if len(storage.bytes) != storage.count * storage.item_bytes:
                raise Refused("it ends early; use another copy of it")
    if any(storage.bytes is None for storage in machine.storages.values()):
        raise Refused("some of its data is missing; use another copy of it")
    return value


def tensors_of(path):
    """name -> Tensor of the state_dict in a file, or under its key 'state_dict'."""
    with open(path, "rb") as file:
        start = file.read(2)
    try:
        if start == b"PK":
            value = read_zip(path)
        elif start[:1] == b"\x80":
            value = read_legacy(path)
        else:
            raise Refused("it is no file of torch.save(): neither a zip nor a pickle")
    except (zipfile.BadZipFile, struct.error, EOFError, RecursionError) as error:
        raise Refused(f"it is damaged ({error}); use another copy of it") from None
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict):
        raise Refused("it holds no dictionary of tensors; use a file of tensors alone (a state_dict)")
    found = {name.removeprefix("module."): tensor for name, tensor in value.items()
             if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not found:
        raise Refused("it holds no tensors; use a file of tensors alone (a state_dict)")
    return found
