"""Text from elsewhere is text: in HTML, markdown, LaTeX and Snakemake's captions none of it becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from matryobench.analysis.blocks import Block, to_latex, to_markdown
from matryobench.claims.evaluate import Verdict
from matryobench.claims.registry import load_claims
from matryobench.claims.tables import Side, to_md, to_page
from matryobench.paths import ROOT
from matryobench.report.embedding import as_json, markdown

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "<!--",
    "[a](javascript:alert(1))",
    "![a](http://example.org/x.png)",
    "a|b\n| c | d |",
    "\n\n<style>*{display:none}</style>",
)


class Elements(HTMLParser):
    """The tags of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def block(text: str) -> Block:
    return Block(text, ("method", text), ((text, "0.1"), ("plain", "0.2")), 1, 1, frozenset({(0, 0)}))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_markdown_table_keeps_its_cells_and_its_page_has_no_foreign_element(text: str) -> None:
    printed = to_markdown([block(text)])
    assert len(printed.splitlines()) == 6  # title, empty, header, rule, two rows
    page = Elements(markdown(printed, "a table"))
    assert set(page.tags) <= {"p", "strong", "div", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.tags.count("td") == 4
    assert page.attributes <= {"class", "tabindex", "role", "aria-label", "scope"}


def test_a_table_may_break_lines_and_say_less_than() -> None:
    printed = to_markdown([block("p < .05<br>FF->MRL")])
    assert "p < .05<br>FF->MRL" in printed


@pytest.mark.parametrize("text", [*HOSTILE, "x\n\\input{/etc/passwd}", "\\write18{touch canary}", "%", "a & b \\\\ c"])
def test_latex_has_no_command_of_a_text(text: str) -> None:
    lines = to_latex([block(text)]).splitlines()
    assert len(lines) == 10  # the comment, begin, rules and rows, end: nothing is broken off the comment
    assert lines[0].startswith("% ")
    for line in lines[1:]:
        rest = line.replace(r"\textbackslash{}", "")
        assert r"\input" not in rest and r"\write" not in rest
    assert [line.count("&") - line.count(r"\&") for line in lines if line.startswith((r"\textbf", "plain"))] == [1, 1]


def test_verdicts_are_text_in_the_page_of_claims() -> None:
    claims = load_claims()
    text = "".join(HOSTILE)
    one = Verdict("a", "partly", untested=(text,), dataset=text, matching=text, figure="sts-panels")
    side = Side(text, [one] * len(claims.claims), {"sts-panels": f'x.svg"{text}'})
    page = Elements(to_page(claims, [side]))
    assert not {"script", "img", "svg"} & set(page.tags) and page.tags.count("style") == 1
    assert page.attributes <= {"lang", "charset", "class", "id", "scope", "href"}
    assert "<script" not in to_md(claims, [side]) and "<img" not in to_md(claims, [side])


@pytest.mark.parametrize("text", HOSTILE)
def test_json_cannot_end_the_script_element_that_holds_it(text: str) -> None:
    page = Elements(f'<script type="application/json">{as_json([text, {text: 1}])}</script><p>after</p>')
    assert page.tags == ["script", "p"]


def test_the_notebooks_page_shows_outputs_as_text() -> None:
    import nbformat.v4

    from matryobench.notebook import _html

    text = "".join(HOSTILE)
    data = {"text/plain": text}
    outputs = [
        nbformat.v4.new_output("execute_result", data, execution_count=1),
        nbformat.v4.new_output("stream", text=text),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs, execution_count=1)])
    page, empty = Elements(_html(notebook, "n")), Elements(_html(nbformat.v4.new_notebook(), text))
    # Its own scripts and pictures, if any, are those of an empty notebook with a good name.
    plain = Elements(_html(nbformat.v4.new_notebook(), "n"))
    for tag in ("script", "img", "svg"):
        assert page.tags.count(tag) == empty.tags.count(tag) == plain.tags.count(tag)
    assert not {"onerror", "onload"} & (page.attributes | empty.attributes)


def test_a_table_of_pandas_shows_its_values_as_text() -> None:
    import pandas as pd

    page = Elements(pd.DataFrame({text: [text] for text in HOSTILE})._repr_html_())
    assert not {"script", "img", "svg"} & set(page.tags)


@pytest.mark.parametrize("text", [*HOSTILE, "x\n\n.. raw:: html\n\n   <script>alert(1)</script>\n"])
def test_a_description_is_text_in_snakemakes_report(text: str) -> None:
    import jinja2
    from docutils.core import publish_parts

    for name in ("workflow", "report", "claims", "figure", "table"):
        source = (ROOT / "workflow" / "report" / f"{name}.rst").read_text(encoding="utf-8")
        # What the rules' wildcards allow is all that a name can be.
        given = SimpleNamespace(
            config={"name": "tiny", "description": text}, wildcards=SimpleNamespace(name="sts-panels"),
            input=SimpleNamespace(cells="c"), output=SimpleNamespace(png="p", pdf="p", md="m", tex="t"),
        )  # fmt: skip
        page = Elements(publish_parts(jinja2.Template(source).render(snakemake=given), writer="html")["body"])
        assert not {"script", "img", "svg", "style"} & set(page.tags), name
        assert not {"onerror", "onload"} & page.attributes
