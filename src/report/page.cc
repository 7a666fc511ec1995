#include "report/page.h"

namespace lf {
namespace {

constexpr char kStyle[] = R"css(
:root { color-scheme: light dark; --paper: #faf9f7; --card: #fff; --ink: #1f2328; --soft: #666d76;
  --line: #e4e2dd; --grid: #eceae5; --good: #2f7d58; --live: #2f68ad; --bad: #b3363f; --warn: #8a5a00;
  --warn-paper: #fdf5e2; --accent: #2f68ad;
  --c0: #2f68ad; --c1: #c8642d; --c2: #2f8560; --c3: #8a55a5; --c4: #b8485c; --c5: #80742f;
  --c6: #23889a; --c7: #6d7480; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --card: #1b1e23; --ink: #e4e6ea;
  --soft: #9aa1ab; --line: #2e3238; --grid: #282c32; --good: #6cc397; --live: #7eaef0; --bad: #f0868d;
  --warn: #e5b75f; --warn-paper: #2a2418; --accent: #7eaef0;
  --c0: #7eaef0; --c1: #f0a06b; --c2: #6cc397; --c3: #c596e0; --c4: #ee8d9e; --c5: #cbbd6a;
  --c6: #66c3d3; --c7: #a3aab5; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 3rem; }
article + article { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); }
section { margin-top: 2.5rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0; font-weight: 650;
  letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; font-weight: 620; }
p { margin: 0 0 .75rem; max-width: 46rem; overflow-wrap: anywhere; }
.kind { text-transform: uppercase; letter-spacing: .09em; font-size: .72rem; font-weight: 600;
  color: var(--soft); margin: 0 0 .25rem; }
.note { color: var(--soft); font-size: .88rem; }
header .note { margin-top: .4rem; }
.lead { font-size: 1.1rem; margin: .6rem 0 .8rem; }
.state { display: inline-block; vertical-align: middle; font-size: .8rem; font-weight: 600;
  letter-spacing: 0; padding: .15rem .6rem; border-radius: 1rem; border: 1px solid currentColor;
  color: var(--soft); margin-left: .4rem; }
.good { color: var(--good); } .live { color: var(--live); } .bad { color: var(--bad); }
.live::before { content: ""; display: inline-block; width: .5em; height: .5em; border-radius: 50%;
  background: currentColor; margin-right: .45em; vertical-align: .08em; }
.tiles { display: grid; gap: 1px; margin-top: 1.25rem; background: var(--card);
  grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr));
  border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
.tiles div { box-shadow: 0 0 0 1px var(--line); padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.3rem; font-weight: 620; font-variant-numeric: tabular-nums;
  letter-spacing: -.01em; overflow-wrap: anywhere; }
.tiles span { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
progress { width: 100%; height: .35rem; margin-top: .6rem; accent-color: var(--live); display: block; }
aside { margin-top: 1.5rem; padding: .8rem 1rem; border-radius: .6rem; font-size: .92rem;
  background: var(--card); border: 1px solid var(--line); border-left: .25rem solid var(--soft); }
aside.warning { background: var(--warn-paper); border-left-color: var(--warn); }
aside ul { margin: .3rem 0 0; padding-left: 1.1rem; } aside li { overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; } figure + dl { margin-top: 1rem; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .4rem; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); }
.more { grid-column: 1 / -1; } .more .plots { margin-top: .8rem; }
.plot { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem .7rem; max-width: 36rem; }
.plot figcaption { margin: 0 0 .5rem; } .plot figcaption b { color: var(--ink); font-weight: 600;
  font-size: .95rem; overflow-wrap: anywhere; }
.plot svg { display: block; width: 100%; height: auto; }
.plot .note { margin: .4rem 0 0; }
.grid { stroke: var(--grid); fill: none; }
.tick, .label, .name { font-size: 11.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.name { fill: var(--ink); font-size: 11px; }
path.mark { stroke: var(--soft); stroke-dasharray: 3 3; fill: none; }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.dashes { fill: none; stroke: var(--c); stroke-width: 1.5; stroke-dasharray: 5 4; }
.spread { stroke: var(--c); stroke-width: 1.5; opacity: .55; }
.dot { fill: var(--c); stroke: var(--card); stroke-width: 1; }
.hit { fill: transparent; } .hit:hover, .dot:hover { fill: var(--c); stroke: var(--c); stroke-width: 3; }
.hit:hover { stroke-width: 0; fill-opacity: .5; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .35rem 0 0; font-size: .82rem;
  color: var(--soft); }
.key::before { content: ""; display: inline-block; width: .9em; height: .18em; border-radius: .1em;
  background: var(--c); vertical-align: .28em; margin-right: .4em; }
.key.mark::before { background: none; height: .9em; width: 0; border-left: 2px dashed var(--soft);
  vertical-align: -.1em; }
.bars table { width: 100%; } .bars td:nth-child(2) { width: 55%; }
.bars th, .bars td { border: 0; padding: .15rem .4rem; } .bars svg { height: .75rem; }
.bar { fill: var(--accent); }
.wide { overflow-x: auto; max-width: 100%; border-radius: .3rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 550; font-size: .8rem; white-space: normal;
  vertical-align: bottom; }
tbody th { font-weight: 550; } th small { display: block; color: var(--soft); font-weight: 400; } .n { text-align: right; white-space: nowrap; }
tbody th, td { max-width: 28rem; overflow-wrap: break-word; }
.long { min-width: 18rem; } th.long { min-width: 11rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.2rem; margin: 0 0 1rem;
  font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: .6rem; } summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
summary:hover { color: var(--ink); }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem; font-size: .8rem; line-height: 1.45; max-height: 30rem; }
img { max-width: 100%; height: auto; display: block; border-radius: .35rem; }
img.pixels { image-rendering: pixelated; width: 100%; border-radius: .15rem; }
.previews { display: grid; gap: .75rem; } .previews details figure { margin: .75rem 0; }
.making { display: grid; gap: 1.25rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.slider { display: flex; align-items: center; gap: .8rem; font-size: .85rem; color: var(--soft); }
.slider input { flex: 1; max-width: 30rem; accent-color: var(--accent); }
.strips { display: grid; gap: .55rem 1rem; grid-template-columns: minmax(5rem, max-content) minmax(0, 44rem);
  align-items: center; } .strips p { margin: 0; font-size: .88rem; max-width: 13rem; }
.curves > input { position: absolute; opacity: 0; }
.curves > label { display: inline-block; font-size: .85rem; padding: .2rem .75rem; margin: 0 .3rem .9rem 0;
  border: 1px solid var(--line); border-radius: 1rem; cursor: pointer; color: var(--soft); }
.curves > input:checked + label { background: var(--card); color: var(--ink); border-color: var(--soft); }
.curves > input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
.curves > .by-time { display: none; }
.curves > input.time:checked ~ .by-time { display: grid; }
.curves > input.time:checked ~ .by-images { display: none; }
.verdicts { display: grid; gap: .6rem; margin: 1.25rem 0 0; padding: 0; list-style: none; max-width: 52rem; }
.verdicts li { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem 1rem; } .verdicts b { font-weight: 620; }
footer { margin-top: 3.5rem; color: var(--soft); font-size: .8rem; }
@media (max-width: 40rem) { .strips { grid-template-columns: minmax(0, 1fr); gap: .15rem; }
  .tick, .label, .name { font-size: 14px; } .strips p { max-width: none; margin-top: .5rem; } dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; } .plot { padding: .7rem .7rem .5rem; }
  .bars tr { display: grid; grid-template-columns: minmax(0, 1fr) auto; }
  .bars td:nth-child(2) { grid-row: 2; grid-column: 1 / -1; width: auto; } }
@media print { :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --grid: #e5e5e5; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; } .slider, .curves > label { display: none; }
  .plots { grid-template-columns: 1fr 1fr; } .plot, figure, tr, aside { break-inside: avoid; }
  h2 { break-after: avoid; } details:not([open]) { display: none; } pre { max-height: none; white-space: pre-wrap; }
  .wide { overflow: visible; } }
)css";

// The slider over previews, the age of what is shown, and reloading that keeps the reader's place.
constexpr char kScript[] = R"js(
'use strict';
for (const box of document.querySelectorAll('.previews')) {
  const newest = box.querySelector(':scope > figure'), folded = box.querySelector('details');
  if (!newest || !folded) continue;
  const shots = [...folded.querySelectorAll('figure'), newest].map(figure => ({
    src: figure.querySelector('img').src, words: figure.querySelector('figcaption').textContent }));
  const row = document.createElement('label'), slider = document.createElement('input');
  row.className = 'slider';
  slider.type = 'range'; slider.min = 0; slider.max = shots.length - 1; slider.value = shots.length - 1;
  slider.setAttribute('aria-label', 'position in the run');
  slider.addEventListener('input', () => {
    newest.querySelector('img').src = shots[slider.value].src;
    newest.querySelector('figcaption').textContent = shots[slider.value].words;
  });
  row.append('start', slider, 'now');
  box.insertBefore(row, folded);
}
for (const time of document.querySelectorAll('time[data-unix]')) {
  const minutes = Math.floor((Date.now() / 1000 - time.dataset.unix) / 60);
  if (minutes < 1 || minutes > 2 * 24 * 60) continue;
  time.append(minutes < 120 ? `, ${minutes} min ago` : `, ${Math.floor(minutes / 60)} h ago`);
}
if (document.body.dataset.reloads) {
  const key = 'lastframe ' + location.pathname;
  const parts = () => [...document.querySelectorAll('details')];
  try {
    const held = JSON.parse(sessionStorage.getItem(key) || 'null');
    if (held) {
      parts().forEach((part, i) => { part.open = held.open.includes(i); });
      for (const id of held.chosen) { const one = document.getElementById(id); if (one) one.checked = true; }
      requestAnimationFrame(() => scrollTo(0, held.y));
    }
  } catch (error) { /* no storage here: the page begins at its top */ }
  setTimeout(() => {
    try {
      sessionStorage.setItem(key, JSON.stringify({ y: scrollY,
        open: parts().flatMap((part, i) => part.open ? [i] : []),
        chosen: [...document.querySelectorAll('input:checked')].map(one => one.id) }));
    } catch (error) { /* as above */ }
    location.reload();
  }, 30000);
}
)js";

}  // namespace

std::string page_of(const std::string& title, const Html& body, bool reloads) {
  Html page;
  page.constant("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
  page.constant("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
  // Nothing is fetched, whatever the page holds.
  page.constant(
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">");
  if (reloads) {
    page.constant("<noscript><meta http-equiv=\"refresh\" content=\"30\"></noscript>");
  }
  page.element("title", {}, title);
  page.constant("<style>").constant(kStyle).constant("</style></head>\n");
  page.element("body", reloads ? Html::Attributes{{"data-reloads", "1"}} : Html::Attributes{}, [&] {
    page.element("main", {}, [&] { page.append(body); });
    page.constant("<script>").constant(kScript).constant("</script>");
  });
  return page.constant("</html>\n").html();
}

}  // namespace lf
