"""What a machine with a device lacks, as one small folder to carry there: libraries of the Debian packages that
launch/setup would install, and either their headers, to build against, or the programs of a build, stripped."""

import pathlib
import re
import shutil
import subprocess
import tempfile

# A machine with a device has these, or programs started there do without; FFmpeg, with which a hundred other
# libraries come, is optional.
LEFT_OUT = {"cmake", "ninja-build", "ccache", "lld", "openmpi-bin", "libavformat-dev", "libavcodec-dev",
            "libavutil-dev"}
# Needed by those of the list, and not found below as libraries of theirs.
MORE = ["libgtest-dev", "libjpeg62-turbo-dev", "libgflags-dev", "zlib1g"]
# The machine's own: its compiler's programs need them as new as they are there.
OWN = re.compile(r"(libc|libgcc|libstdc\+\+|libcrypt|libgfortran|libquadmath)[0-9.-].*|.*-dev")
LIBRARIES = ["libmpi", "libhdf5_serial", "libprotobuf", "libglog", "libgflags", "libjpeg", "libpng16", "libwebp",
             "libz"]
# What find_library() looks for, where it is no library's own name.
NAMES = {"libhdf5_serial": "libhdf5", "libpng16": "libpng"}
LIST = "packages.txt"
PROGRAMS = ["lastframe", "liblastframe_cuda.so", "gpu_tests"]


def output(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def dependencies(packages):
    """The packages that these need; of alternatives the first."""
    found, alternative = [], False
    for line in output("apt-cache", "depends", "--important", *packages).splitlines():
        match = re.match(r" *(\|?)(?:Pre)?Depends: (\S+)", line)
        if match:
            if not alternative and not match.group(2).startswith("<"):
                found.append(match.group(2))
            alternative = match.group(1) == "|"
    return found


def packages(setup):
    """launch/setup's list and GoogleTest, and the libraries that they need, the machine's own left out."""
    text = re.search(r"^packages=\((.*?)\)", setup.read_text(), re.M | re.S).group(1)
    found = [name for name in text.split() if name not in LEFT_OUT] + MORE
    new = found
    while new:
        new = sorted({name for name in dependencies(new)
                      if name.startswith("lib") and name not in found and not OWN.fullmatch(name)})
        found = found + new
    return found


def needed_by(library):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", library))


def copy_libraries(unpacked, prefix):
    """Our libraries, and those that they load as far as the packages have them, under their sonames."""
    there = {path.name: path for path in unpacked.rglob("*.so*") if "fortran" not in path.parts}
    wanted = []
    for stem in LIBRARIES + ["libprotoc"]:
        name = min((name for name in there if name.startswith(stem + ".so.")), key=len)
        wanted.append(name)
        if stem in LIBRARIES:
            (prefix / "lib" / f"{NAMES.get(stem, stem)}.so").symlink_to(name)
    for name in wanted:
        shutil.copy(there[name].resolve(), prefix / "lib" / name)
        wanted += [other for other in needed_by(prefix / "lib" / name) if other in there and other not in wanted]


def copy_headers(unpacked, machine, folder):
    """What compiling takes: headers, GoogleTest, protoc."""
    include, libraries = unpacked / "usr/include", unpacked / "usr/lib" / machine
    for part in (include, include / machine, include / "hdf5/serial", libraries / "openmpi/include"):
        shutil.copytree(part, folder / "include", dirs_exist_ok=True)
    for surplus in (machine, "hdf5", "openmpi", "openshmem"):  # copied already, or for Open MPI's own parts
        shutil.rmtree(folder / "include" / surplus, ignore_errors=True)
    for name in ("libgtest.a", "libgtest_main.a"):
        shutil.copy(libraries / name, folder / "lib")
    (folder / "bin").mkdir()
    shutil.copy((unpacked / "usr/bin/protoc").resolve(), folder / "bin")


def pack(root, folder, build=None):
    """Makes `folder` anew, with the programs of a build or with what compiling them takes; returns the number of
    packages."""
    names = packages(root / "launch/setup")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lib").mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="lf-packages-") as temporary:
        unpacked = pathlib.Path(temporary) / "unpacked"
        output("apt-get", "-q", "-o", "APT::Sandbox::User=", "download", *names, cwd=temporary)
        files = sorted(pathlib.Path(temporary).glob("*.deb"))
        (folder / LIST).write_text("".join(f"{file.name}\n" for file in files))
        for file in files:
            output("dpkg-deb", "-x", file, unpacked)
        copy_libraries(unpacked, folder)
        if not build:
            copy_headers(unpacked, output("gcc", "-print-multiarch").strip(), folder)
    if build:
        (folder / "programs").mkdir()
        for name in PROGRAMS:
            output("strip", "-o", folder / "programs" / name, build / name)
    return len(names)
