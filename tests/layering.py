"""Who may include whom (README, Layout), checked on every #include. Argument: the source root.

CMake's targets enforce the same at link; an include of a header alone would slip through there.
"""

import pathlib
import re

from harness import arguments, expect, finish

root = pathlib.Path(arguments[0])

# A folder may include itself, and these.
MAY_KNOW = {
    "src/base": set(),
    "src/config": {"base"},
    "data": {"base", "config"},
    "src/sweep": {"base", "config", "data"},
    "src/comm": {"base", "config"},
    "src/kernels": {"base", "config"},
    "src/checkpoint": {"base", "config"},
    "src/diffusion": {"base", "config", "kernels"},
    "src/model": {"base", "config", "kernels", "diffusion"},
    "src/run": {"base", "config", "kernels", "diffusion", "model", "comm", "checkpoint", "data"},
    "src/eval": {"base", "config", "kernels", "diffusion", "model", "comm", "checkpoint", "data", "run"},
    "src/train": {"base", "config", "kernels", "diffusion", "model", "comm", "checkpoint", "data", "run", "eval"},
    # Of the checkpoint's, the files that need no torch (lf_checkpoint_files).
    "src/report": {"base", "config", "data", "checkpoint"},
    # Implements interfaces of these; nobody includes it.
    "src/cuda": {"base", "comm", "kernels", "train"},
    "launch": {"base", "config", "kernels", "diffusion", "model", "comm", "checkpoint", "data", "run", "eval", "train", "report", "sweep"},
}
FOLDERS = {folder.split("/")[-1] for folder in MAY_KNOW}

# The rooms of a folder: which other rooms of it each may include. Recipes stand beside sources, so
# that neither is needed to make the other; only a store joins them.
ROOMS = {
    "data": {
        "formats": set(),
        "image": set(),
        "recipe": set(),
        "video": {"image"},
        "sources": {"formats", "image", "video"},
        "store": {"formats", "image", "recipe", "sources"},
        "loader": {"recipe", "sources", "store"},
    },
}

# Foreign headers that live in few files (tests aside): pattern -> the files that may include them.
FEW = {
    r"hdf5\.h|H5\w+\.h": {"data/store/hdf5_skeleton.cc"},
    r"mpi\.h": {"src/comm/mpi_process.cc", "src/comm/world.cc", "src/comm/mpi_backend.cc"},
    r"glog/.*": {"src/base/log.cc"},
    r"lib(av|sw)\w+/.*": {"data/video/ffmpeg.h"},
}
TORCH = re.compile(r"(torch|ATen|c10)/")
CUDA = re.compile(r"(cuda|nccl|cublas|cudnn|c10/cuda|ATen/cuda)[\w/]*\.h|.*ProcessGroupNCCL.*")
NO_TORCH = ("src/base", "src/config", "src/report", "src/sweep", "data", "launch/options", "src/cuda/attention_blocks",
            "src/cuda/launch", "src/cuda/linear_attention_tiles", "src/cuda/norm_rows",
            "src/cuda/tiles", "src/cuda/vectors", "src/kernels/gpu/device_operations")
# A header that needs torch's headers, in a room whose library stays free of torch.
TORCH_HEADERS = {"src/base/named_tensor.h"}
SUFFIXES = {".h", ".cc", ".cu"}


def folder_of(path):
    for folder in MAY_KNOW:
        if path.startswith(folder + "/"):
            return folder
    return None


def check_own(path, folder, header):
    first = header.split("/")[0]
    if first in FOLDERS and "/" in header:
        allowed = MAY_KNOW[folder] | {folder.split("/")[-1]}
        expect(first in allowed, f"{path} includes {header}, but {folder} may not know {first}")


def check_rooms(path, folder, header):
    rooms = ROOMS.get(folder)
    if rooms is None:
        return
    room = path.removeprefix(folder + "/").split("/")[0]
    expect(room in rooms, f"{path} is in no room of {folder}: {', '.join(sorted(rooms))}")
    parts = header.split("/")
    if room in rooms and parts[0] == folder.split("/")[-1] and len(parts) > 2:
        expect(parts[1] in rooms[room] | {room},
               f"{path} includes {header}, but {folder}/{room} may not know {parts[1]}")


def check_foreign(path, folder, header):
    for pattern, files in FEW.items():
        if re.fullmatch(pattern, header):
            expect(path in files, f"{path} includes {header}, allowed in {', '.join(sorted(files))}")
    if (path.startswith(NO_TORCH) or path.endswith(".cu")) and path not in TORCH_HEADERS:
        expect(not TORCH.match(header), f"{path} includes {header}, but is torch-free")
    if folder != "src/cuda":
        expect(not CUDA.fullmatch(header), f"{path} includes {header}, CUDA is for src/cuda only")


checked = 0
for top in ("src", "data", "launch"):
    for file in sorted((root / top).rglob("*")):
        path = file.relative_to(root).as_posix()
        folder = folder_of(path)
        if file.suffix not in SUFFIXES:
            continue
        expect(folder is not None, f"{path} lies in no folder of the house")
        if folder is None or path.startswith("src/cuda/opaque/"):
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if match:
                checked += 1
                check_own(path, folder, match.group(1))
                check_rooms(path, folder, match.group(1))
                check_foreign(path, folder, match.group(1))
        if file.suffix == ".h":
            expect("#pragma once" in file.read_text(), f"{path} has no #pragma once")
        # The header of the same name may say it instead.
        if not file.with_suffix(".h").exists() or file.suffix == ".h":
            expect(file.read_text().startswith("//"), f"{path} does not begin by saying what it is")
        lines = len(file.read_text().splitlines())
        expect(lines <= 550, f"{path} has {lines} lines, expected about 500 at most; split it")

expect(checked > 100, f"only {checked} includes seen; is {root} the source root?")
print(f"{checked} includes checked")
finish()
