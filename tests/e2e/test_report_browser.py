"""The report in a real browser (headless Chromium): no errors, sorting, filtering, light and dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lowwatt.evaluate.quant_page import write_quant_html
from lowwatt.evaluate.report import write_html
from quant_page_data import quant_record
from report_data import realistic_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000"),
]


def browse(page: Path, *flags: str) -> tuple[str, list[str]]:
    """What Chromium prints, and the lines of the page's console."""
    profile = page.parent / "profile"
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def order(dom: str) -> list[int]:
    """Indices of the layers in the order the table shows them, hidden ones left out."""
    rows = re.findall(r'<tr id="layer-(\d+)"([^>]*)>', dom)
    return [int(index) for index, attributes in rows if "hidden" not in attributes]


def acting(page: Path, script: str) -> Path:
    """A copy of the page that acts on itself; the policy would refuse the added script, so it goes."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    copy = page.with_name("acting.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_html(realistic_report(90), tmp_path / "report.html")
    return tmp_path / "report.html"


def test_page_loads_without_a_word_in_the_console(page):
    dom, console = browse(page, "--dump-dom")
    assert console == []
    assert order(dom) == list(range(90))
    assert re.search(r"90 of 90 layers, [\d.]+ ms", dom), "the page's own script did not run"


def test_a_foreign_script_is_refused(page):
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    dom, console = browse(page, "--dump-dom")
    assert "<title>taken" not in dom
    assert "Content Security Policy" in console[0]


def test_clicks_sort_the_table(page):
    layers = realistic_report(90).layers
    click = "for (const b of document.querySelectorAll('th button')) if (b.textContent === '{}') b.click();"
    dom, _ = browse(acting(page, click.format("ms")), "--dump-dom")
    assert order(dom) == sorted(range(90), key=lambda n: -layers[n].ms)
    dom, _ = browse(acting(page, 2 * click.format("ms")), "--dump-dom")
    assert order(dom) == sorted(range(90), key=lambda n: layers[n].ms)
    dom, _ = browse(acting(page, click.format("ms") + click.format("#")), "--dump-dom")
    assert order(dom) == list(range(90))


def test_filter_keeps_the_rows_with_every_word(page):
    layers = realistic_report(90).layers
    typed = "filter.value = 'ADD dark2'; filter.dispatchEvent(new Event('input'));"
    dom, _ = browse(acting(page, typed), "--dump-dom")
    expected = [n for n, row in enumerate(layers) if row.op == "add" and "dark2" in row.name]
    assert expected
    assert order(dom) == expected
    assert f"{len(expected)} of 90 layers" in dom


def test_a_time_line_tells_of_a_layer_and_looks_closer(page):
    act = """
      const svg = document.querySelector(".timeline svg"), box = svg.getBoundingClientRect();
      const say = (kind, share, target) => target.dispatchEvent(new PointerEvent(kind, {
        clientX: box.left + share * box.width, clientY: box.top + 5, bubbles: true}));
      svg.querySelector("a[href='#layer-3'] .hit").dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
      say("pointerdown", 0.25, svg); say("pointermove", 0.5, window); say("pointerup", 0.5, window);
    """
    again = "document.querySelector('.timeline button').click();"
    row = realistic_report(90).layers[3]
    dom, console = browse(acting(page, act), "--dump-dom")
    assert console == []
    assert re.search(rf'class="readout"[^>]*>{re.escape(row.name)} ', dom)
    first, width = re.search(
        r'<svg viewBox="([\d.]+) 0 ([\d.]+) 200"', dom[dom.index('class="chart timeline"') :]
    ).groups()
    assert (float(first), float(width)) == (pytest.approx(250, abs=2), pytest.approx(250, abs=3))
    dom, _ = browse(acting(page, act + again), "--dump-dom")
    assert 'viewBox="0 0 1000 200"' in dom[dom.index('class="chart timeline"') :][:200]


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)])
def test_page_follows_light_and_dark_and_fills_the_width(page, scheme, dark):
    import cv2

    picture = page.with_name("page.png")
    browse(page, f"--blink-settings=preferredColorScheme={scheme}", "--window-size=900,700", f"--screenshot={picture}")
    image = cv2.imread(str(picture))
    assert (image[4, 4].mean() < 60) == dark
    assert abs(int(image[:, 60:840].max()) - int(image[:, 60:840].min())) > 150, "nothing is drawn"


@pytest.fixture
def quant_page(tmp_path: Path) -> Path:
    write_quant_html(quant_record(60), tmp_path / "quant.html")
    return tmp_path / "quant.html"


def test_the_page_of_a_quantization_loads_and_sorts(quant_page):
    click = "for (const b of document.querySelectorAll('th button')) if (b.textContent === '16 bits gain') b.click();"
    dom, console = browse(quant_page, "--dump-dom")
    assert console == [] and order(dom) == list(range(60)) and "60 of 60 layers<" in dom
    dom, _ = browse(acting(quant_page, click), "--dump-dom")
    assert order(dom) == sorted(range(60), key=lambda n: -quant_record(60).layers[n].gain)


@pytest.mark.parametrize("kind", ["page", "quant_page"])
def test_a_narrow_page_does_not_scroll_sideways(kind, request):
    page = request.getfixturevalue(kind)
    measure = "document.title = document.documentElement.scrollWidth + ' of ' + document.documentElement.clientWidth;"
    dom, _ = browse(acting(page, measure), "--window-size=500,900", "--dump-dom")
    assert re.search(r"<title>(\d+) of \1</title>", dom)
