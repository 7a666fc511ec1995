"""What `lastframe build` says of a folder of pictures as people have them: several sizes are refused
before anything is written, a store that lacks too much ends with 3, and lines of progress are whole."""

from harness import *

pictures = here / "pictures"  # WebP needs a library that is optional
shutil.copytree(fixtures / "images", pictures, ignore=shutil.ignore_patterns("*.webp"))
source = ["--set", f"source.folder.path={pictures}"]
stores = here / "stores"

text = execute([program, "build", *source, "--out", stores / "a"], 2,
               "differ in size: of 35 looked at, 25 of 32x24, 5 of 24x32")
check("such as source.size=24 and source.width=32" in text, text)
execute([program, "plan", *source], 2, "differ in size")
check(not stores.exists(), "a refused build has written something")

words = [program, "build", *source, "--set", "source.size=8", "--set", "store.clips_per_shard=4"]
left_out = "8 of 38 items of the source (21%) could not be used"
text = execute([*words, "--out", stores / "a"], 3, left_out + " and were left out, more than --most-left-out 0.1")
check(f"{stores}/a/quarantine.txt lists them with the reasons, the first: huge.jpg: " in text, text)
check("is valid: 30 clips" in output("verify", stores / "a"), "a store that lacks much is not whole")
execute([*words, "--out", stores / "a"], 3, "--most-left-out")
text = execute([*words, "--out", stores / "a", "--most-left-out", "0.3"], 0, "warning: " + left_out)
check(f"wrote {stores}/a: store " in text, text)
check("\r" not in text and "build 100%  38/38 images\n" in text, f"nothing was made now, so no rate: {text}")
check(execute([*words, "--out", stores / "b", "--strict"], 3).count(" lists them") == 0, "--strict went on")

text = execute([program, "inspect", stores / "a", "--strip", here / "clip.png"])
check(f"wrote {here}/clip.png: clip 0 of {stores}/a\n" in text, text)
