"""Python's half of the torch that the program is built with. Its libraries load those of CUDA, most of which a machine
without a GPU has not; for them stand libraries of the same names, made here, whose functions nobody calls on a CPU.
Not a test.
"""
import ctypes
import os
import pathlib
import re
import subprocess
import sys

from harness import here, root, skip

sys.path.insert(0, str(root / "tools" / "python"))

NAMES = re.compile(r" U ((?:cublas|cudnn|cuFile|cufft|cusolver|cusparse|nvjitlink|nvrtc|nvshmem)\w*)", re.IGNORECASE)


def stand_in(name, functions=()):
    """Loads a library of this name that has these functions, if that may be called one."""
    source = ".data\n" + "".join(f".globl {function}\n{function}:\n" for function in functions) + ".quad 0\n"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-x", "assembler", "-", "-o", here / name,
                    f"-Wl,-soname,{name},-z,noexecstack"], input=source, text=True, check=True)
    ctypes.CDLL(str(here / name), ctypes.RTLD_GLOBAL)


def import_torch(folder):
    """The module, from the folder of the build's torch, or another that is installed. Skips the test without one."""
    library = pathlib.Path(folder) / "lib" / "libtorch_python.so"
    if library.exists() and (pathlib.Path(folder) / "__init__.py").exists():
        sys.path.insert(1, str(pathlib.Path(folder).parent))
        made = []
        while len(made) < 20:
            try:
                ctypes.CDLL(str(library))
                break
            except OSError as error:
                missing = re.match(r"(lib\w+\.so\.\d+): cannot open", str(error))
                if not missing:
                    skip(f"{library} cannot be loaded: {error}")
            if not made:  # in one of another name: the loader wants the versions of symbols of those it knows
                libraries = sorted(library.parent.glob("*.so"))
                listed = subprocess.run(["nm", "-D", "--undefined-only", *libraries], capture_output=True, text=True)
                stand_in("libstand_in.so", sorted(set(NAMES.findall(listed.stdout))))
            made.append(missing[1])
            stand_in(missing[1])
    try:
        import torch
    except ImportError as missing:
        skip(f"{missing}; pip install torch")
    torch.set_num_threads(1)
    return torch
