"""tools/experiments/least_error against closed forms, and as a command on images that the program drew."""

import importlib.machinery

from harness import *

tool = root / "tools" / "experiments" / "least_error"
theory = importlib.machinery.SourceFileLoader("least_error", str(tool)).load_module()

# Independent frames add their SNRs; on a chain the cleanest tells all, in a window two do.
bars = (0.3, 0.25, 0.2)
snr = [bar / (1 - bar) for bar in bars]
found = {(topology, seen): theory.information(topology, seen, bars) for topology in theory.TOPOLOGIES for seen in (1, 2, 3)}
for seen in (1, 2, 3):
    check(abs(found["star", seen] - sum(snr[:seen])) < 1e-12, f"star: {found}")
    check(abs(found["chain", seen] - snr[0]) < 1e-12, f"chain: {found}")
check(found["window", 1] < found["window", 2] and abs(found["window", 3] - found["window", 2]) < 1e-12, f"{found}")
values = theory.eigenvalues([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
check(all(abs(a - b) < 1e-9 for a, b in zip(sorted(values), (2 - 2**0.5, 2, 2 + 2**0.5))), f"{values}")
check(theory.least_error([1e-9], 1) < 1e-9 < 0.1 < theory.least_error([1e9], 1) < 1, "least error of nothing, of all")

output("build", *with_sets(["source.generated.count=60", "source.size=8", "source.channels=1", "recipe.frames=1"]),
       "--out", here / "images")
output("export", here / "images", "--npy", here / "images.npy")
told = execute([sys.executable, tool, here / "images.npy"])
rows = {line.split("|")[1].strip(): [float(cell) for cell in line.split("|")[2:5]] for line in told.splitlines()[2:]}
check(rows["chain"][0] == rows["chain"][2] == rows["star"][0] > rows["star"][1] > rows["star"][2] > 0, told)
execute([sys.executable, tool, here / "config.pbtxt"], status=1, contains="no .npy file")
