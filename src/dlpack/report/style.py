"""The style sheet of reports: light and dark, for desktops, phones and paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --dim: #5f6670; --line: #e3e6ea; --box: #f6f7f9;
  --accent: #3b6fd4; --soft: #dfe7f5; --ok: #11703c; --bad: #b3261e; --peak: #c2410c; --edge: #9aa3ae;
  --c0: #7aa2e3; --c1: #7fc4b2; --c2: #e3b56b; --c3: #c79bd8; --c4: #e39a9a; --c5: #a3b86c; --on: #10151c; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #17191c; --ink: #e4e6e9; --dim: #9aa2ac;
  --line: #33373d; --box: #1f2226; --accent: #7ea6ff; --soft: #2a3240; --ok: #5fd08f; --bad: #ff8a80;
  --peak: #ff9d5c; --edge: #6b7480; --c0: #44689f; --c1: #3d7a6c; --c2: #8a6a30; --c3: #76528a; --c4: #8f5151;
  --c5: #5f6f35; --on: #f2f4f7; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
p.sub, figcaption { color: var(--dim); margin: .2rem 0 .6rem; } figure { margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; } td.n { white-space: nowrap; } code { font-size: .92em; }
.ok { color: var(--ok); } .bad { color: var(--bad); } th { overflow-wrap: normal; }
.ok, .bad { white-space: nowrap; } nav a { display: inline-block; color: var(--accent); margin-right: 1rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); }
.scroll { overflow: auto; position: relative; max-height: 46rem; border: 1px solid var(--line); border-radius: .4rem;
  padding: .5rem; background: var(--box); }
/* what is wider than the box is seen around the marker at first, and then moves freely */
.scroll { scroll-snap-type: x mandatory; } .scroll > i { position: absolute; top: 0; width: 2px; height: 2px;
  animation: at-first .3s; }
@keyframes at-first { from, to { scroll-snap-align: center; } }
.wide { overflow-x: auto; }
.bar { background: var(--soft); height: .55rem; border-radius: .2rem; min-width: 4rem; margin-top: .45rem; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: .2rem; }
/* arena */
.map { display: grid; grid-template-columns: auto 1fr; gap: .2rem .5rem; }
.map .ys { display: flex; flex-direction: column; justify-content: space-between; text-align: right; }
.map .xs { grid-column: 2; display: flex; justify-content: space-between; } .map .ys, .map .xs { font-size: .75rem;
  color: var(--dim); }
.map .plot { position: relative; height: 24rem; background: var(--box); overflow: hidden; }
.map svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.map .plot > div { position: absolute; font-size: .7rem; line-height: 1.15; overflow: hidden; pointer-events: none;
  padding: 1px 3px; color: var(--on); }
/* a name and a size in a rectangle: as many of the two lines as it has room for */
.map .plot > div, .treemap div { container-type: size; }
.name, .size { display: none; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
@container (min-width: 2.6rem) and (min-height: .8rem) { .name { display: block; } }
@container (min-width: 2.6rem) and (min-height: 1.65rem) { .size { display: block; } }
.c0 { fill: var(--c0); background: var(--c0); } .c1 { fill: var(--c1); background: var(--c1); }
.c2 { fill: var(--c2); background: var(--c2); } .c3 { fill: var(--c3); background: var(--c3); }
.c4 { fill: var(--c4); background: var(--c4); } .c5 { fill: var(--c5); background: var(--c5); }
.map rect.value { stroke: var(--paper); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.map rect.value:hover, .network g.block:hover rect.frame { stroke: var(--ink); stroke-width: 2px; }
.map rect.peak { fill: none; stroke: var(--peak); stroke-width: 2px; vector-effect: non-scaling-stroke;
  pointer-events: none; }
.key { display: inline-block; width: .6rem; height: .8rem; border: 2px solid var(--peak); vertical-align: -.1rem; }
.key.tick { width: 3px; border: 0; background: var(--peak); }
td code { white-space: nowrap; }
/* network */
.network { display: block; margin: 0 auto; font: 12px system-ui, sans-serif; } .network text { fill: var(--ink); }
.network rect.frame { fill: var(--paper); stroke: var(--edge); } .network .heavy rect.frame { stroke: var(--accent);
  stroke-width: 1.6; } .network .view rect.frame { stroke-dasharray: 4 3; } .network .end rect.frame {
  fill: var(--soft); stroke: none; } .network text.small { fill: var(--dim); font-size: 10px; }
.network text.first { font-weight: 600; } .network rect.share { fill: var(--accent); }
.network path { fill: none; stroke: var(--edge); stroke-width: 1.2; }
/* treemap */
.treemap { position: relative; overflow: hidden; height: 20rem; background: var(--box); }
.treemap div { position: absolute; overflow: hidden; border: 1px solid var(--paper); padding: 1px 4px;
  font-size: .72rem; line-height: 1.25; color: var(--on); }
.treemap div.bare { padding: 0; border-width: 0 1px 1px 0; }
/* bars */
.bars { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr max-content; gap: .15rem .7rem;
  align-items: center; font-size: .88rem; font-variant-numeric: tabular-nums; }
.bars .track { position: relative; height: .9rem; background: var(--soft); border-radius: .2rem; }
.bars .track i { position: absolute; inset: 0 auto 0 0; background: var(--accent); border-radius: .2rem; }
.bars .track i.beyond { background: var(--bad); }
.bars .track b { position: absolute; top: -.15rem; bottom: -.15rem; width: 3px; background: var(--peak); }
.roofline { width: 100%; max-width: 46rem; font: 13px system-ui, sans-serif; } .roofline text { fill: var(--dim); }
.roofline path { fill: none; stroke: var(--peak); stroke-width: 2; } .roofline circle { fill: var(--accent);
  fill-opacity: .65; } .roofline line { stroke: var(--line); }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .7rem; font-size: 14px; } .map .plot { height: 18rem; }
  .treemap { height: 24rem; } th, td { padding-right: .45rem; } .bars { grid-template-columns: minmax(3rem, 9rem) 1fr
  max-content; gap: .15rem .4rem; font-size: .78rem; }
  table.stack, table.stack tbody, table.stack tr, table.stack td { display: block; width: 100%; }
  table.stack tr { padding: .4rem 0; border-bottom: 1px solid var(--line); } table.stack th { display: none; }
  td code { white-space: normal; } table.stack td { border: 0; padding: 0; text-align: left; }
  table.stack td[data-head]:not(:empty)::before {
  content: attr(data-head) ": "; color: var(--dim); } }
@media print { html { font-size: 11px; } body { margin: 0; max-width: none; font-size: 1rem; } nav { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { max-height: none; overflow: visible; border: 0; padding: 0; } .network { max-width: 100%; height: auto; }
  figure, tr { break-inside: avoid; } figure.long { break-inside: auto; } .map .plot { height: 22rem; }
  h2, h3, p.sub { break-after: avoid; } }
"""
