"""`lastframe report`, and the page that a run keeps: what they hold, that nothing of what they read can
become more than text, that they ask no other host, and what they say of folders that are damaged."""

import base64
import re
import signal

from pages import *

# --- a run keeps its page, finished or not ----------------------------------------------------------
run = trained("runs")
page = Page(run / "report.html")
for said in ("finished", HOSTILE, "psnr", "After 120 images", "3 before it", "The same clips moving",
             "validation", "recipe", "train.batch", "img-000000000120", "against time"):
    check(said in page.text, f"report.html does not say '{said}'")
check(page.count("svg") >= 8 and page.count("img") == 6, f"{page.count('svg')} plots, {page.count('img')} pictures")
check("data-reloads" not in page.source.split("<main>")[0], "the page of a finished run reloads itself")
moving = [address for address in page.addresses
          if b"acTL" in base64.b64decode(address.removeprefix("data:image/png;base64,"))]
check(len(moving) == 1, f"{len(moving)} pictures move")

live = here / "live"
process = start(live, sets=["train.images=1200000", "train.preview_images=120"])
wait_until(lambda: (live / "report.html").exists(), "the page of a run that trains")
Page(live / "report.html")
check("data-reloads" in (live / "report.html").read_text(), "the page of a run that trains does not reload")
for pid in rank_processes(live):
    os.kill(pid, signal.SIGUSR1)
check(process.wait(timeout=60) == 75, "the run was not interrupted")
page = Page(live / "report.html")
check("interrupted" in page.text, "the page of an interrupted run does not say so")
check("<body>" in page.source, "the page of an interrupted run reloads itself")

# --- the command: only reads, and compares ----------------------------------------------------------
before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
page = report("one.html", run)
after = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
check(before == after, "report changes the run")
page = report("two.html", run, live)
check("2 runs beside each other" in page.text and "Where the options differ" in page.text, page.text[:500])
check("train.images" in page.text, "the options that differ are not named")

# The store may be gone, and anything may be damaged: the page says what is missing.
hurt = here / "hurt"
shutil.copytree(run, hurt)
for path in store().glob("shards/*"):
    path.rename(path.with_suffix(".gone"))
(hurt / "status.json").write_bytes(b"\xff\xfe{")
with (hurt / "metrics.jsonl").open("ab") as file:
    file.write(b'{"images":130,"loss":NaN}\n{"images":1e999,"loss":1}\n{"images":132,"<script>":1e300,"lo')
    file.truncate(file.tell() + (600 << 20))  # a line of zeros without an end
(hurt / "samples" / "img-000000000036.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
(hurt / "evaluations" / "x.json").write_text("[" * 100000)
page = report("hurt.html", hurt)
for said in ("status.json is no JSON", "lines of metrics.jsonl cannot be read", "img-000000000036.png",
             "evaluations/x.json", "No clip can be shown", "unknown"):
    check(said in page.text, f"the page of a damaged run does not say '{said}'")
check(page.count("svg") >= 8, "the curves of a damaged run are gone")
nothing = here / "nothing"
(nothing / "lives").mkdir(parents=True)
check("There is no metrics.jsonl" in report("nothing.html", nothing).text, "an empty run is not said to be")

# --- sweeps and the board ---------------------------------------------------------------------------
small = sweep("small", [1, 2, 4, 8])
page = report("small.html", small)
for said in ("Do two frames help?", "won", "V8", "± 0.01", "frontier", "recipe.frames", HOSTILE,
             "The same held-out images through every arm", "Moving, frame by frame", "mean"):
    check(said in page.text, f"the page of a sweep does not say '{said}'")
check(page.count("img") == 10, f"{page.count('img')} pictures of 4 arms and the held-out ones, one of clips")
page = report("board.html", small, words=["--board"])
ranks_of = re.findall(r"<tr><th[^>]*>(V\d)<small>[^<]*</small></th><td[^>]*>([^<]*)</td>",
                      page.source.split("Beside each other")[0])
check(ranks_of == [("V2", "1"), ("V4", "2"), ("V8", "3"), ("V1", "–")], f"{ranks_of}")
check("what the plain image (V1) reaches" in page.text, "the target is not said")
page = report("reach.html", small, words=["--board", "--target", "0.5"])
check("never reaches it" in page.text, "arms that never reach the target are not said to")
check(small.name in report("both.html", small, run).text, "a sweep and a run are not on one page")

large = sweep("large", [1 + i % 50 for i in range(100)], points=40)
began = time.time()
page = report("large.html", large)
check(time.time() - began < 10, f"a sweep of 300 runs took {time.time() - began:.1f} s")
check(len(page.source) < 20 << 20, f"a sweep of 300 runs has {len(page.source)} bytes")

(small / "results.json").write_text((small / "results.json").read_text()[:3000])
check("results.json is no JSON object" in report("cut.html", small).text, "a torn results.json is not said to be")

# --- bad input: one sentence -------------------------------------------------------------------------


def refused(status, words, *said, limit=None):
    done = run_limited([program, "report", *words], limit)
    expect(done.returncode == status and is_one_sentence(done.stderr) and
           all(word in done.stderr for word in said), f"{words}: {done.returncode} {done.stderr}")


def run_limited(words, limit):
    def at_most():
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True,
                          preexec_fn=at_most)


out = here / "bad.html"
refused(2, [here / "absent", "--out", out], "absent is not there", "metrics.jsonl")
refused(2, [store(), "--out", out], "neither a run nor a sweep")
refused(2, [run, "--board", "--out", out], "is a run", "results.json")
refused(2, [run], "--out")
refused(2, [run, "--out", here / "bad.png"], ".html")
refused(2, [run, "--out", here / "no" / "bad.html"], "no folder")
refused(2, [run, "--out", out, "--target", "3"], "--board")
refused(7, [run, "--out", out], "File too large", limit=4096)
expect(not list(here.glob("bad*")), "a refused report leaves a file")
finish()
