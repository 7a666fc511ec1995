"""The installed program works wherever its tree is moved. Arguments: cmake, build tree, torch.

Only the program and the plugin are installed here; a whole `cmake --install` copies torch, too.
"""

import json
import os
import pathlib

from harness import arguments, expect, finish, here, run

cmake, build, torch = arguments


def library(program, name):
    report = run(program, "doctor", "--json")
    expect(report.returncode == 0, f"doctor ended with {report.returncode}: {report.stderr[-300:]}")
    found = [entry["path"] for rank in json.loads(report.stdout)["ranks"] for entry in rank["libraries"]
             if entry["name"] == name]
    return found[0] if found else None


for part in ("launch", "src/cuda"):
    if pathlib.Path(build, part, "cmake_install.cmake").exists():
        result = run(cmake, "--install", f"{build}/{part}", "--prefix", here / "first")
        expect(result.returncode == 0, f"installing {part} ended with {result.returncode}: {result.stderr[-500:]}")
os.rename(here / "first", here / "moved")
program = here / "moved/bin/lastframe"
expect(run(program, "--version").stdout.startswith("lastframe "), "the moved program does not start")
expect(pathlib.Path(library(program, "libtorch_cpu")).samefile(f"{torch}/lib/libtorch_cpu.so"),
       "the moved program does not find torch where it was configured")
# PREFIX/lib/torch comes first: how a tree is carried to where torch lies elsewhere.
libraries = here / "elsewhere/torch/lib"
libraries.mkdir(parents=True)
for file in pathlib.Path(torch, "lib").iterdir():
    (libraries / file.name).symlink_to(file)
os.symlink(pathlib.Path(torch).parent / "nvidia", here / "elsewhere/nvidia")
(here / "moved/lib").mkdir(exist_ok=True)
os.symlink(here / "elsewhere/torch", here / "moved/lib/torch")
linked = run("ldd", program).stdout
expect("moved/bin/../lib/torch/lib/libtorch_cpu.so" in linked, f"PREFIX/lib/torch is not used:\n{linked}")
expect(run(program, "list").returncode == 0, "the program does not start with PREFIX/lib/torch")
finish()
