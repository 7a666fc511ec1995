"""The plugin without a GPU: it links against nothing that will not be there.

A module's undefined symbols show only when it is opened, which needs a GPU; here each is looked up
in the libraries the plugin names. Arguments: the plugin, torch's lib folder, further libraries.
"""

import pathlib
import re

from harness import arguments, expect, finish, run

plugin, torch_folder, *more = arguments


def symbols(path, *flags):
    """Dynamic symbols without their version."""
    lines = run("nm", "-D", "--format=posix", *flags, path).stdout.splitlines()
    return {(line.split()[0].split("@")[0], line.split()[1]) for line in lines if line.split()[1:]}


needed = re.findall(r"NEEDED.*\[(.+)\]", run("readelf", "-d", plugin).stdout)
expect("libtorch_cuda.so" in needed, f"the plugin needs {needed}, not libtorch_cuda.so")
expect("libtorch.so" not in needed and "libtorch_python.so" not in needed, f"the plugin needs {needed}")
libraries = [path for name in needed for path in [pathlib.Path(torch_folder) / name] if path.exists()]
libraries += [pathlib.Path(path) for path in more]
for line in run("ldd", plugin).stdout.splitlines():
    match = re.search(r"=> (/\S*/(libc|libm|libstdc\+\+|libgcc_s|ld-linux\S*|libglog)\.so\S*)", line)
    if match:
        libraries.append(pathlib.Path(match.group(1)))
offered = set()
for library in libraries:
    offered |= {name for name, _ in symbols(library, "--defined-only")}
wanted = {name for name, kind in symbols(plugin, "--undefined-only") if kind == "U"}
expect(len(wanted) > 50, f"only {len(wanted)} undefined symbols seen; is {plugin} the plugin?")
for name in sorted(wanted - offered):
    expect(False, f"{name} is in none of {', '.join(path.name for path in libraries)}")
exported = {name for name, kind in symbols(plugin, "--defined-only") if kind == "T" and name.startswith("lf_")}
expect(exported == {"lf_device", "lf_device_backend"}, f"the plugin exports {sorted(exported)}")
print(f"{len(wanted)} symbols found in {len(libraries)} libraries")
finish()
