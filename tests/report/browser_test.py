"""Reports in Chromium without a window: no error on its console, nothing wider than a phone, pictures and
plots that are not empty, and switches that switch. Sizes of parts are compared, never pixels."""

import html
import re

from pages import *

chromium = shutil.which("chromium") or shutil.which("chromium-browser")
if chromium is None:
    skip("there is no Chromium; ./tests/run browser installs it where it can")

# Appended to a copy of the page: measures it and posts the numbers to the page around it.
MEASURE = """<script>
const errors = [];
window.alert = text => errors.push('alert ' + text);
window.addEventListener('error', event => errors.push(event.message));
window.addEventListener('load', () => setTimeout(() => {
  const size = one => { const box = one.getBoundingClientRect();
    return [Math.round(box.left), Math.round(box.right), Math.round(box.width), Math.round(box.height)]; };
  const colours = image => { const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);
    return new Set(new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size; };
  const all = of => [...document.querySelectorAll(of)];
  const seen = one => one.getClientRects().length > 0;
  const found = { width: innerWidth, wide: document.documentElement.scrollWidth, errors,
    images: all('img').map(one => [one.naturalWidth, one.naturalHeight, one.complete && one.naturalWidth ? colours(one) : 0]),
    plots: all('svg').filter(seen).map(size), headings: all('h1, h2').map(size),
    tables: all('.wide').filter(seen).map(size), shown: all('section').filter(seen).length,
    tick: Math.min(...all('.tick').filter(seen).map(one => one.getBoundingClientRect().height)),
    paper: getComputedStyle(document.body).backgroundColor };
  const slider = document.querySelector('.slider input'), first = document.querySelector('.previews > figure');
  if (slider) { const before = first.querySelector('img').src, words = first.textContent;
    slider.value = 0; slider.dispatchEvent(new Event('input'));
    found.slides = before !== first.querySelector('img').src && words !== first.textContent; }
  const by_time = document.querySelector('input.time');
  if (by_time) { by_time.checked = true;
    found.switches = all('.by-time').some(seen) && !all('.by-images').some(seen); }
  parent.postMessage(JSON.stringify(found), '*');
}, 50));
</script></body>"""
# A window is at least 500 wide; a frame in it is as wide as one likes.
AROUND = """<!doctype html><body style="margin: 0"><pre id="found"></pre><script>
addEventListener('message', event => { document.getElementById('found').textContent = event.data; });
</script><iframe src="copy.html" width="%d" height="900" style="border: 0"></iframe></body>"""


def opened(page, width=360, dark=False):
    """What the page measures in a window of that width; its console must stay silent."""
    (here / "copy.html").write_text(page.read_text().replace("</body>", MEASURE))
    (here / "around.html").write_text(AROUND % width)
    done = run(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--enable-logging=stderr", f"--user-data-dir={here}/profile", "--virtual-time-budget=3000",
               f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1300,1000",
               "--dump-dom", f"file://{here}/around.html", seconds=120)
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    check(not said, f"{page}: {said}")
    match = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.S)
    check(match, f"{page} was not measured: {done.stdout[-300:]} {done.stderr[-600:]}")
    return json.loads(html.unescape(match.group(1)))


def check_page(page, plots, images, dark=False):
    for width in (360, 1200):
        found = opened(page, width, dark)
        check(found["width"] == width, f"the page is {found['width']} wide, asked for {width}")
        check(not found["errors"], f"{page}: {found['errors']}")
        check(found["wide"] <= width, f"{page} is {found['wide']} wide in a window of {width}")
        check(len(found["images"]) == images and all(w >= 8 and h >= 8 and colours > 4
                                                     for w, h, colours in found["images"]),
              f"{page}: pictures {found['images']}, expected {images}")
        check(len(found["plots"]) >= plots, f"{page}: {len(found['plots'])} plots are seen")
        for left, right, wide, high in found["plots"]:
            check(left >= 0 and right <= width and wide >= 100 and high >= 8, f"{page}: plot {left} {right} {high}")
        for left, right, wide, high in found["tables"] + found["headings"]:
            check(left >= 0 and right <= width and high >= 15, f"{page}: part at {left} to {right}, {high} high")
        check(found["shown"] >= 2 and found["tick"] >= 9, f"{page}: {found['shown']} sections, ticks {found['tick']}")
    return found


runs = trained("runs")
found = check_page(runs / "report.html", plots=4, images=6)
check(found["slides"] and found["switches"], "the slider or the switch to time does nothing")
light = found["paper"]
check(check_page(runs / "report.html", 4, 6, dark=True)["paper"] != light, "there is no dark page")

live = here / "live"
process = start(live, sets=["train.images=1200000", "train.preview_images=120"])
wait_until(lambda: (live / "report.html").exists() and "After 120" in (live / "report.html").read_text(),
           "a page with a preview")
shutil.copy(live / "report.html", here / "running.html")
for pid in rank_processes(live):
    os.kill(pid, 10)
process.wait(timeout=60)
check("data-reloads" in (here / "running.html").read_text(), "the page of a run in progress does not reload")
opened(here / "running.html")

small = sweep("small", [1, 2, 4, 8, 16])
report("small.html", small)
check_page(here / "small.html", plots=3, images=12)
report("board.html", small, words=["--board"])
check_page(here / "board.html", plots=5, images=12)
report("both.html", runs, live, small)
check_page(here / "both.html", plots=8, images=len(opened(here / "both.html")["images"]))
print("all passed")
