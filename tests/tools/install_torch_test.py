"""The component `torch` of `cmake --install` makes the tree need no torch elsewhere. Arguments:
cmake, build tree."""

import os
import pathlib

from harness import arguments, expect, finish, here, run

cmake, build = arguments
wheels = ("libtorch_cpu.so", "libc10.so", "libcudart.so", "libcupti.so", "libgomp")

for component in ([], ["--component", "torch"]):
    result = run(cmake, "--install", build, "--prefix", here / "first", *component, seconds=110)
    expect(result.returncode == 0,
           f"cmake --install ended with {result.returncode}: {result.stderr[-500:]}")
os.rename(here / "first", here / "moved")
linked = run("ldd", here / "moved/bin/lastframe").stdout
expect("not found" not in linked, f"libraries are missing:\n{linked}")
for line in linked.splitlines():
    name, _, path = line.strip().partition(" => ")
    if name.startswith(wheels) and path:
        where = pathlib.Path(path.rsplit(" (", 1)[0]).resolve()
        expect((here / "moved").resolve() in where.parents, f"{name} comes from {where}, not from the tree")
version = run(here / "moved/bin/lastframe", "--version")
expect(version.stdout.startswith("lastframe "), f"the program does not start: {version.stderr}")
finish()
