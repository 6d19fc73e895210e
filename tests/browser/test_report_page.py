"""The report in a browser: the explorer shows the numbers of the table, its views can be linked and copied, and the page
works from disk without the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from report_cases import DIMS, INTERVAL, LAYERS, SETS, mean, results

from matryobench.report.page import write_report

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    plan, root = results(tmp_path_factory.mktemp("page"))
    write_report(plan, root, root / "report.html")
    return (root / "report.html").resolve().as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, freshly opened; afterwards nothing may have gone wrong in it, nor have been asked for outside."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get("about:blank")
    browser.get(address)
    yield browser
    assert browser.get_log("browser") == []
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"].split(":")[0])
    assert asked <= {"file", "data", "about", "chrome"}  # the browser's own first page may come late


def choose(page: Any, **values: str) -> None:
    """Chooses by value, as a reader does."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    for name, value in values.items():
        Select(page.find_element(By.NAME, name)).select_by_value(value)


def options(page: Any, name: str) -> list[str]:
    from selenium.webdriver.common.by import By

    return [one.get_attribute("value") for one in page.find_elements(By.CSS_SELECTOR, f"select[name={name}] option")]


def cell(page: Any, layer: int, dim: int) -> Any:
    from selenium.webdriver.common.by import By

    return page.find_element(By.CSS_SELECTOR, f'#grid td[data-layer="{layer}"][data-dim="{dim}"]')


def text(page: Any, element_id: str) -> str:
    from selenium.webdriver.common.by import By

    return str(page.find_element(By.ID, element_id).text)


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)


def test_cells_show_the_difference_from_the_chosen_baseline(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for dataset in (SETS[1], SETS[0], "average"):
        choose(page, task="sts", set=dataset, metric="spearman_cosine", recipe="v1", line="v1~mse~v1~native")
        choose(page, base="v1~bert~paper~native")
        for layer in LAYERS:
            for dim in DIMS:
                shown = cell(page, layer, dim).text
                if (layer, dim) == (4, 8):  # which the baseline lacks
                    assert shown == "\N{EN DASH}"
                else:
                    expected = mean(dataset, "mse", "v1", layer, dim) - mean(dataset, "bert", "paper", layer, dim)
                    assert shown == signed(expected), (dataset, layer, dim)
    choose(page, set=SETS[0])
    ActionChains(page).move_to_element(cell(page, 2, 8)).perform()
    low, high = map(signed, INTERVAL)
    score, base = (mean(SETS[0], *line, 2, 8) for line in (("mse", "v1"), ("bert", "paper")))
    told = text(page, "grid-detail")
    assert told.startswith(f"Layer 2, dim 8: MSE (v1) {score:.4f} (sd ") and "over 2 seeds" in told
    assert f"BERT (paper) {base:.4f}" in told and f"difference {signed(score - base)}" in told
    assert f"95 % interval {low} to {high}, p = 0.0123 after Holm's correction, equivalent" in told
    # seen from the other side, the interval is turned
    choose(page, line="v1~bert~paper~native", base="v1~mse~v1~native")
    ActionChains(page).move_to_element(cell(page, 2, 8)).perform()
    low, high = (signed(-end) for end in reversed(INTERVAL))
    assert f"difference {signed(base - score)}, 95 % interval {low} to {high}" in text(page, "grid-detail")


def test_scores_of_single_seeds_and_without_a_baseline(page: Any) -> None:
    choose(page, line="v1~mse~v1~native", base="none")
    assert options(page, "show") == ["value"]
    assert cell(page, 4, 32).text == f"{mean('average', 'mse', 'v1', 4, 32):.4f}"
    choose(page, seed="1")
    from report_cases import score

    expected = sum(score("mse", "v1", 1, one, 4, 32) for one in SETS) / 2
    assert cell(page, 4, 32).text == f"{expected:.4f}"


def test_choices_list_only_what_there_is(page: Any) -> None:
    assert options(page, "task") == ["sts"] and options(page, "set") == ["average", *SETS]
    assert len(options(page, "line")) == 4
    choose(page, line="v1~mse~v1~native")
    assert "v1~mse~v1~native" not in options(page, "base")
    assert len(options(page, "base")) == 4 and options(page, "base")[0] == "none"


def test_the_address_of_a_view_opens_it_again(page: Any, address: str) -> None:
    choose(page, set=SETS[1], line="v1~2dmse-v1~released~native", base="v1~mse~v1~native", show="value", seed="2")
    shown, where = cell(page, 2, 32).text, page.current_url
    assert where.startswith(f"{address}#grid?") and SETS[1] in where
    page.get("about:blank")
    page.get(where)
    assert cell(page, 2, 32).text == shown and page.current_url == where
    from selenium.webdriver.common.by import By

    chosen = {
        one.get_attribute("name"): one.get_attribute("value")
        for one in page.find_elements(By.CSS_SELECTOR, "#grid-controls select")
    }
    assert (chosen["set"], chosen["base"], chosen["seed"]) == (SETS[1], "v1~mse~v1~native", "2")
    page.get("about:blank")
    page.get(f"{address}#grid?set=nowhere&line=%3Cscript%3E")  # what there is not is left out
    assert cell(page, 2, 32).text


def test_the_grid_is_copied_as_it_is_shown(page: Any) -> None:
    from selenium.webdriver.common.by import By

    # what is copied is taken before it reaches a clipboard, which a browser without a screen may not have
    page.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (t) => { window.copied = t; }}})"
    )
    choose(page, set=SETS[0], line="v1~mse~v1~native", base="v1~bert~paper~native")
    page.find_element(By.ID, "copy-tsv").click()
    lines = [line.split("\t") for line in str(page.execute_script("return window.copied")).splitlines()]
    assert lines[0] == ["layer", *map(str, DIMS)]
    for line, layer in zip(lines[1:], LAYERS, strict=True):
        assert line[0] == str(layer)
        for entry, dim in zip(line[1:], DIMS, strict=True):
            if (layer, dim) == (4, 8):
                assert entry == ""
            else:
                expected = mean(SETS[0], "mse", "v1", layer, dim) - mean(SETS[0], "bert", "paper", layer, dim)
                assert float(entry) == pytest.approx(expected, abs=1e-6)
    page.find_element(By.ID, "copy-csv").click()
    assert str(page.execute_script("return window.copied")).startswith("layer,8,32\n1,")
    page.find_element(By.ID, "copy-link").click()
    assert page.execute_script("return window.copied") == page.current_url
    assert text(page, "copied") == "Link copied."


def test_the_grid_is_walked_with_the_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    cell(page, 1, 8).send_keys(Keys.ARROW_DOWN)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert text(page, "grid-detail").startswith("Layer 2, dim 32: ")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)  # at the edge
    assert text(page, "grid-detail").startswith("Layer 2, dim 32: ")


def test_tables_are_sorted_and_verdicts_filtered(page: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    table = page.find_element(By.CSS_SELECTOR, "#table-sts-grid table")
    heading = table.find_elements(By.CSS_SELECTOR, "th button")[1]
    for expected in (["0.10", "0.2"], ["0.2", "0.10"]):
        page.execute_script("arguments[0].click()", heading)
        assert [one.text for one in table.find_elements(By.CSS_SELECTOR, "tbody td.number")] == expected
    Select(page.find_element(By.CSS_SELECTOR, "select[data-side='1']")).select_by_visible_text("partly")
    shown = [
        one.get_attribute("id") for one in page.find_elements(By.CSS_SELECTOR, ".claims tbody tr") if one.is_displayed()
    ]
    assert shown == ["claim-first"]
    assert page.find_element(By.CSS_SELECTOR, "#claims-filter output").text == "1 of 2 statements"


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_itself_never_scrolls_sideways(page: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
