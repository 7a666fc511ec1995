"""`lastframe doctor` alone and under mpirun."""

import json
import os
import shutil
import tempfile

from harness import expect, finish, program, ranks, run


def check_report(result, world, folder):
    where = f"with {world} ranks"
    expect(result.returncode == 0, f"{where}: ended with {result.returncode}: {result.stderr[-500:]}")
    try:
        report = json.loads(result.stdout)
    except ValueError:
        expect(False, f"{where}: stdout is not one JSON object: {result.stdout[:300]!r}")
        return
    expect(report["world"] == world, f"{where}: world is {report['world']}")
    expect([rank["rank"] for rank in report["ranks"]] == list(range(world)), f"{where}: wrong ranks")
    expect(len({rank["pid"] for rank in report["ranks"]}) == world, f"{where}: pids are not distinct")
    expect(report["allreduce_ok"] is True, f"{where}: allreduce_ok is {report['allreduce_ok']}")
    expect(report["signals_ok"] is True, f"{where}: {report['troubles']}")
    expect(report["folder"]["ok"] is True, f"{where}: {report['folder']}, {report['troubles']}")
    bandwidth = report["allreduce"]["bus_bytes_per_s"]
    expect((bandwidth > 0) == (world > 1), f"{where}: bus bandwidth is {bandwidth}")
    expect(not os.listdir(folder), f"{where}: files are left over: {os.listdir(folder)}")
    for rank in report["ranks"]:
        libraries = {library["name"]: library for library in rank["libraries"]}
        for needed in ("libtorch_cpu", "libmpi", "libprotobuf", "libglog", "libgomp"):
            expect(needed in libraries, f"{where}: {needed} is not listed")
        for name, library in libraries.items():
            expect(os.path.isfile(library["path"]), f"{where}: {name} has no file {library['path']}")
        expect(libraries["libtorch_cpu"]["version"].count(".") == 2, f"{where}: torch has no version")
        expect("Open MPI" in libraries["libmpi"]["version"], f"{where}: MPI has no version")
        expect(rank["cores"] >= 1 and rank["threads"] >= 1, f"{where}: no cores or threads")
    expect(not any("two copies" in text for text in report["warnings"]), f"{where}: {report['warnings']}")


with tempfile.TemporaryDirectory() as folder:
    words = [program, "doctor", "--smoke", "--json", "--mib", "1", "--folder", folder]
    check_report(run(*words), 1, folder)
    for world in (2, 4):
        check_report(run(*ranks(world), *words), world, folder)
    broken = run(*ranks(2), program, "doctor", "--smoke", "--mib", "1", "--folder", folder + "/none")
    expect(broken.returncode == 7, f"a missing folder ended with {broken.returncode}, expected 7")
    expect("trouble: " in broken.stdout, f"a missing folder is not told: {broken.stdout[-300:]!r}")


def compile_library(path, source):
    """A shared library from a line of C; False, and said so, where there is no compiler."""
    result = run("cc", "-shared", "-fPIC", "-x", "c", "-o", path, "-", text_in=source) if shutil.which("cc") else None
    if result is None:
        print("SKIPPED: libraries that are not what they should be (no cc)")
    return result is not None and result.returncode == 0


def warnings_with(**extra):
    result = run(program, "doctor", "--json", extra=extra)
    expect(result.returncode == 0, f"{extra}: ended with {result.returncode}: {result.stderr[-300:]}")
    report = json.loads(result.stdout)
    return report, " / ".join(report["warnings"])


DRIVER = """
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { const char* s = getenv("FAKE_CUINIT"); return s ? atoi(s) : 0; }
int cuDriverGetVersion(int* v) { *v = 13020; return 0; }
int cuDeviceGetCount(int* n) { *n = 2; return 0; }
int cuDeviceGetName(char* s, int n, int d) { strncpy(s, d ? "Second" : "First", n); return 0; }
int cuDeviceTotalMem_v2(size_t* b, int d) { *b = (size_t)1 << 34; return 0; }
int cuDeviceGetAttribute(int* v, int a, int d) { *v = a == 75 ? 9 : 0; return 0; }
"""


def check_strange_libraries(folder):
    second = os.path.join(folder, "libgomp-2.so.1")
    if not compile_library(second, "int unused;"):
        return
    _, warnings = warnings_with(LD_PRELOAD=second)
    expect("two copies of OpenMP" in warnings and second in warnings, f"a second libgomp: {warnings!r}")
    if os.path.exists("/dev/nvidiactl"):
        print("SKIPPED: a driver that is a fake (there is a real one)")
        return
    compile_library(os.path.join(folder, "libcuda.so.1"), DRIVER)
    report, warnings = warnings_with(LD_LIBRARY_PATH=folder, FAKE_CUINIT="999")
    expect("driver does not start (error 999)" in warnings, f"a driver that fails: {warnings!r}")
    report, warnings = warnings_with(LD_LIBRARY_PATH=folder, FAKE_CUINIT="100")
    expect(warnings == "" and report["cuda_driver"] == "13.2", f"a driver without a GPU: {warnings!r}")
    report, warnings = warnings_with(LD_LIBRARY_PATH=folder)
    gpus = report["ranks"][0]["gpus"]
    expect([gpu["name"] for gpu in gpus] == ["First", "Second"], f"the fake driver's GPUs: {gpus}")
    expect(gpus[0]["compute_capability"] == "9.0" and gpus[0]["bytes"] == 1 << 34, f"{gpus}")
    # The plugin cannot work with this driver: it says so, and everything else works.
    expect("plugin" in warnings, f"GPUs without a working plugin: {warnings!r}")


with tempfile.TemporaryDirectory() as folder:
    check_strange_libraries(folder)
text = run(program, "doctor")
expect(text.returncode == 0 and "libtorch_cpu" in text.stdout, "doctor without options fails")
needed = run("ldd", program).stdout
for name in ("libcuda.so", "libtorch_cuda", "libnccl", "libc10_cuda"):
    expect(name not in needed, f"the program needs {name}")
finish()
