"""The report's style: light and dark, from a wide screen down to a phone."""

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5c6675; --line: #dfe3e9;
  --good: #1a7f4b; --bad: #c0303f; --open: #8a6100;
  --c0: #2f6fde; --c1: #11967f; --c2: #d9820a; --c3: #c2417c; --c4: #7657d0; --c5: #78828f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #11151b; --card: #1a2029; --ink: #e8ecf2; --soft: #9aa5b4; --line: #2d3542;
    --good: #4cc98a; --bad: #ff7583; --open: #e0b04d;
    --c0: #6ea3ff; --c1: #3fc9b0; --c2: #f2a84b; --c3: #f07bb0; --c4: #a98ff5; --c5: #98a3b1;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
p { margin: .25rem 0; }
small, .soft { color: var(--soft); }
section, header { background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.1rem 1.25rem; margin-bottom: 1rem; min-width: 0; }
header { border-left: .4rem solid var(--open); }
header.good { border-left-color: var(--good); }
header.bad { border-left-color: var(--bad); }
.good strong, td.good { color: var(--good); }
.bad strong, td.bad { color: var(--bad); }
td.open { color: var(--open); }
.pair { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th:first-child, td:first-child, .words, .facts td { text-align: left; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); white-space: nowrap; vertical-align: top; }
.row { display: grid; grid-template-columns: 13rem 1fr 6rem; gap: .75rem; align-items: center;
  padding: .2rem 0; }
.row b { font-weight: 500; overflow-wrap: anywhere; }
.row em { font-style: normal; text-align: right; font-variant-numeric: tabular-nums; }
.row svg { display: block; width: 100%; height: 2rem; }
.row svg.strip { height: 2.2rem; }
.row > div { min-width: 0; }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .8rem;
  border-top: 1px solid var(--line); }
.bar { display: flex; height: 1.4rem; background: var(--line); border-radius: .25rem;
  overflow: hidden; }
.bar i { height: 100%; }
.plot svg { display: block; width: 100%; max-width: 36rem; margin: 0 auto; }
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--soft); }
text.title { fill: var(--ink); }
.grid { stroke: var(--line); }
.line { fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linejoin: round; }
.line.again { stroke-dasharray: 5 4; }
.dot { fill: currentColor; stroke: var(--card); stroke-width: 1.5; }
.dot.again { stroke: var(--ink); }
.tick { fill: var(--c0); opacity: .28; }
.band { fill: var(--c0); opacity: .35; }
.middle { fill: var(--ink); }
.cell { fill: var(--c1); }
.mark { fill: var(--bad); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin-top: .5rem; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: .2em;
  margin-right: .35em; }
i.again { outline: 2px solid var(--ink); outline-offset: -2px; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
i.c0 { background: var(--c0); } i.c1 { background: var(--c1); } i.c2 { background: var(--c2); }
i.c3 { background: var(--c3); } i.c4 { background: var(--c4); } i.c5 { background: var(--c5); }
figure { margin: .5rem 0 0; }
figure img { width: 100%; border-radius: .4rem; display: block; }
figcaption { font-size: .85rem; color: var(--soft); }
@media (max-width: 40rem) {
  body { padding: .6rem .5rem 2rem; font-size: 15px; }
  section, header { padding: .8rem .75rem; }
  .pair { grid-template-columns: minmax(0, 1fr); }
  .row { grid-template-columns: 1fr auto; gap: .1rem .75rem; padding: .35rem 0; }
  .row > div { grid-column: 1 / -1; grid-row: 2; }
}
"""
