"""The report's appearance: one style sheet, light and dark."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1c2330;--dim:#667085;--line:#e2e6ec;--accent:#2563eb;
--soft:#dbe7ff;--warm:#ea7317;--warn:#fff4e0;--warnink:#7a4a00}
@media(prefers-color-scheme:dark){:root{--bg:#0f131a;--card:#181e28;--ink:#e6eaf2;--dim:#93a0b4;--line:#2a3341;
--accent:#6ea0ff;--soft:#21365f;--warm:#ff9d4d;--warn:#33270f;--warnink:#ffd591}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;margin:0}
h2{font-size:17px;margin:0 0 12px}
h2.model{font-size:22px;margin:40px 0 0}
.sub{color:var(--dim);margin:2px 0 8px}
header p{margin:4px 0;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px;margin:20px 0;min-width:0}
.warning{background:var(--warn);color:var(--warnink);border-radius:8px;padding:8px 14px}
section.warning{border:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:26px;line-height:1.2;font-variant-numeric:tabular-nums}
small{display:block;color:var(--dim);font-size:12.5px}
.note{color:var(--dim);font-size:13.5px;margin:10px 0 0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:20px}
.pair section{margin:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--line);font-weight:400;
vertical-align:middle}
tr:first-child th{color:var(--dim);font-size:13px}
td.n{text-align:right;padding-right:24px}
.best th{font-weight:600}
.scroll{overflow-x:auto}
.bar{display:inline-block;width:110px;height:8px;border-radius:4px;background:var(--line);margin-right:10px;
overflow:hidden}
.bar i{display:block;height:100%;border-radius:4px;background:var(--accent)}
.cards{margin-top:16px;display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:18px}
figure{margin:0;min-width:0}
.cards.pictures{grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}
figcaption{font-size:14px;overflow-wrap:anywhere}
.pictures figcaption{margin-top:6px;line-height:1.35}
.pictures img,.gone{width:100%;aspect-ratio:1;object-fit:cover;border-radius:8px;background:var(--line);display:block}
.gone{display:grid;place-items:center;color:var(--dim)}
svg{width:100%;height:auto;display:block;font:11px system-ui,sans-serif}
svg text{fill:var(--dim)}
svg .on{fill:var(--ink)}
svg .inverse{fill:var(--card)}
.grid{stroke:var(--line);stroke-width:1}
.precision{stroke:var(--accent);background:var(--accent)}
.recall{stroke:var(--warm);background:var(--warm)}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.mark{stroke:var(--dim);stroke-dasharray:3 3;background:var(--dim)}
.fill{fill:var(--accent)}
.wrong{fill:var(--warm)}
.ideal{stroke:var(--dim);stroke-dasharray:4 4}
.key{display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;margin-right:4px}
footer{color:var(--dim);font-size:13px;margin-top:32px}
summary{cursor:pointer}
"""
