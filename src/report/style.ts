/** Style sheet of the report: light or dark as the reader prefers, black on white in print, without external resources. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #595959; --paper: #ffffff; --card: #f4f5f7; --line: #c9ccd1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --quiet: #ababab; --paper: #15171a; --card: #1f2226; --line: #44484e; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 20px 48px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 40px 0 8px; }
p, figcaption { color: var(--quiet); margin: 4px 0 12px; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
dl.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
dl.facts dt { color: var(--quiet); font-size: 0.85rem; }
dl.facts dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; margin: 8px 0 16px; }
caption { text-align: left; color: var(--quiet); padding: 4px 0; }
th, td { text-align: left; vertical-align: top; padding: 5px 10px; border-bottom: 1px solid var(--line); }
td:last-child:not(.number) { overflow-wrap: anywhere; }
th.number { white-space: normal; }
th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere; }
a { color: inherit; }
@media print {
  :root { --ink: #000; --quiet: #333; --paper: #fff; --card: #fff; --line: #999; color-scheme: light; }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  figure, dl.facts, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
