"""The frame of a page: style sheet, what it may do, head and foot."""

from __future__ import annotations

import pathlib

from p2p_sac_jax.report.elements import text
from p2p_sac_jax.report.theme import variables

_STYLE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,
-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 1.1rem}
header{padding-top:2.2rem}
h1{font-size:clamp(1.6rem,4.5vw,2.3rem);line-height:1.15;margin:0 0 .3rem;
letter-spacing:-.02em}
h2{font-size:1.35rem;margin:2.8rem 0 .8rem;letter-spacing:-.01em}
h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.5rem 0 1rem}
.sub,.caption,figcaption,footer{color:var(--muted);font-size:.9rem}
.lede{font-size:1.12rem;max-width:62ch}
.caption{max-width:80ch;margin-top:.9rem}
figcaption b,.caption b{color:var(--ink);font-weight:600}
.badge{display:inline-block;background:var(--badge);color:var(--badge-text);
border:1px solid var(--badge-edge);border-radius:1rem;padding:.1rem .7rem;
font-size:.85rem;font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:1rem 0 0;padding:.7rem 0;
border-top:1px solid var(--rule);border-bottom:1px solid var(--rule);font-size:.9rem}
a{color:var(--blue-text);text-decoration:none}a:hover,a:focus{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,
minmax(min(100%,200px),1fr));gap:1rem;
margin:1.2rem 0}
.tile,figure,.card,.scroll,details{background:var(--paper);border:1px solid var(--rule);
border-radius:10px}
.tile{padding:1rem 1.1rem;border-top:4px solid var(--blue)}
.tile b{display:block;font-size:2rem;line-height:1.15;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.92rem}
.tile small{display:block;margin-top:.5rem;color:var(--muted);font-size:.82rem;
line-height:1.45;font-variant-numeric:tabular-nums}
.pair,.three{display:grid;gap:1rem;align-items:start}
.pair{grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))}
.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
figure,.card{margin:0;padding:1rem 1.1rem;min-width:0}
figcaption{margin-top:.6rem;padding-top:.6rem;border-top:1px solid var(--rule)}
svg{display:block;width:100%;height:auto;max-width:560px;margin:0 auto}
#network svg{max-width:340px}
svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,
sans-serif}
svg *{stroke-linejoin:round}
.scroll{overflow-x:auto;margin:1rem 0}
.card .scroll,details .scroll{border:0;margin:0 0 1rem}
table{border-collapse:collapse;width:100%;font-size:.92rem;
font-variant-numeric:tabular-nums}
th,td{padding:.42rem .8rem;text-align:right;border-bottom:1px solid var(--rule);
white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--muted);font-weight:600;font-size:.84rem;vertical-align:bottom}
tbody th{font-weight:600;position:sticky;left:0;background:var(--paper)}
th:first-child,.words th,.words td{text-align:left}
.words th,.words td{white-space:normal;overflow-wrap:anywhere;vertical-align:top}
.words tbody th{font-weight:400;color:var(--muted);min-width:7.5rem}
details{padding:.7rem 1.1rem;margin:1rem 0}
.card details{border:0;padding:0}
summary{cursor:pointer;font-weight:600;font-size:.95rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.2rem;
margin:.8rem 0 .3rem;font-size:.94rem}
dt{font-weight:600}dd{margin:0;color:var(--ink)}
.wide{grid-column:1/-1}
.switch{position:relative;display:flex;flex-wrap:wrap;gap:.5rem}
.switch>input{position:absolute;opacity:0}
.switch>label{cursor:pointer;padding:.3rem .9rem;border:1px solid var(--edge);
border-radius:1rem;background:var(--paper);font-size:.9rem}
.switch>input:checked+label{background:var(--blue-text);border-color:var(--blue-text);
color:var(--paper);font-weight:600}
.switch>input:focus-visible+label{outline:3px solid var(--sky);outline-offset:2px}
.switch>.pane{display:none;order:1;width:100%;min-width:0}
.switch>input:checked+label+.pane{display:block}
li{margin:.35rem 0;max-width:80ch}
footer{padding:2rem 1.1rem 3rem}
@media(max-width:560px){dl{grid-template-columns:1fr}dd{margin-bottom:.5rem}
figure,.card{padding:.8rem .6rem}.tile b{font-size:1.7rem}
th,td{padding:.4rem .5rem}table{font-size:.86rem}
main,header,footer{padding-left:.7rem;padding-right:.7rem}h2{margin-top:2.2rem}}
@media print{body{background:var(--paper)}figure,.tile,tr{break-inside:avoid}
nav{display:none}}
"""

# Nothing may be fetched, whatever a later change might put on the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, header: str, body: str, footer: str) -> str:
    """A whole page; everything but the title is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{variables()}{_STYLE}</style></head>\n"
        f"<body>{header}\n<main>{body}</main>\n"
        f"<footer>{footer} One file, no scripts, no network.</footer></body></html>\n"
    )


def header(
    title: str, facts: list[str], badges: list[str], links: dict[str, str]
) -> str:
    """Title, a line of facts with badges, and links to the sections.

    Args:
      title: of the page.
      facts: short words, the empty ones are left out.
      badges: what a reader must not miss.
      links: identifier of a section to its name.
    """
    line = " · ".join(text(fact) for fact in facts if fact)
    marks = " ".join(f'<span class="badge">{text(badge)}</span>' for badge in badges)
    inner = "".join(f'<a href="#{name}">{text(to)}</a>' for name, to in links.items())
    return (
        f"<header><h1>{text(title)}</h1>"
        f'<p class="sub">{line} &nbsp;{marks}</p>'
        f'<nav aria-label="Sections">{inner}</nav></header>'
    )


def save(page: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes ``report.html``; a reader never meets half a page."""
    path = folder / "report.html"
    draft = folder / "report.html.part"
    draft.write_text(page, "utf-8")
    draft.replace(path)
    return path
