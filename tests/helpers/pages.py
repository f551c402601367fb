"""Pages of reports: a reader of HTML, and what holds of every page."""

from __future__ import annotations

import html.parser
import pathlib
import re


class Page(html.parser.HTMLParser):
    """Collects what the tests ask about; complains about unbalanced tags."""

    VOID = frozenset({"meta", "br", "input"})

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.tags, self.open, self.text, self.tips = [], [], [], []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-2:] == ["circle", "title"]:
            self.tips.append(data)
        elif "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def attributes(self, tag, name):
        return [attrs.get(name) for found, attrs in self.tags if found == tag]


def check_page(path):
    """What holds of every page, whatever the run."""
    raw = path.read_text("utf-8")
    page = Page(path)
    assert "http://" not in raw
    assert "https://" not in raw
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    roles = page.attributes("svg", "role")
    assert roles
    assert set(roles) == {"img"}
    assert all(len(label or "") > 20 for label in page.attributes("svg", "aria-label"))
    assert len(page.attributes("figure", "class")) == len(roles)
    assert page.tips
    assert all(":" in tip for tip in page.tips)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', raw)) <= set(ids)
    body = re.sub(r"(fill|stroke): none", "", raw.split("</style>")[1])
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None)\b", body)  # "none": a choice
    return page
