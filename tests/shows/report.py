"""The report in headless Chromium, light and dark, laptop and phone: nothing missing, nothing from outside, no sideways scroll; pictures.

report.py [FOLDER]: the pictures go into FOLDER, else into the build folder; report.py --write: the three of docs/report instead, of
the benchmark model. Needs chromium
(Debian: apt-get install chromium); playwright, which drives it, is installed into the build folder from PyPI."""
import itertools
import os
import shutil
import subprocess
import sys

from common import BUILD, MODELS, ROOT, ZOO, compile_model, pt2, scratch, table
from peer_export import peer_model


def look():
    """Playwright, from a virtual environment of its own."""
    venv = os.path.join(BUILD, "lookvenv")
    if not os.path.exists(os.path.join(venv, ".ready")):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([os.path.join(venv, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "playwright==1.65.2"], check=True)
        open(os.path.join(venv, ".ready"), "w").close()
    if os.path.realpath(sys.prefix) != os.path.realpath(venv):
        os.execv(os.path.join(venv, "bin", "python"), [os.path.join(venv, "bin", "python"), *sys.argv])


def reports():
    """Name and file of each report looked at."""
    large = pt2("llama3-8b", ZOO).replace("llama3-8b/llama3-8b", "llama3-8b")
    wanted = [("llama", pt2("llama", MODELS), 2, 64, ["--optimizer", "adamw", "--clip-norm", 1])]
    if os.path.exists(large):
        wanted.append(("llama3-8b", large, 8, 131072, ["--batch", 1, "--optimizer", "adamw", "--clip-norm", 1, "--memory-budget", "160GiB"]))
    for name, model, ranks, seq_len, more in wanted:
        page = os.path.join(scratch("report"), name + ".html")
        compile_model(model, os.path.join(scratch("report"), name), ranks, seq_len, *more, "--report", page)
        yield name, page


# Of the figure's canvas: how many colours it shows. A blank one shows one.
COLOURS = """id => { const c = document.querySelector('#' + id + ' canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const seen = new Set(); for (let i = 0; i < d.length; i += 4 * 97) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return seen.size; }"""


def check(page, wide):
    """What is wrong with the page as it is open."""
    wrong = []
    if page.evaluate("document.documentElement.scrollWidth") > wide:
        wrong.append("scrolls sideways")
    for figure in page.eval_on_selector_all("figure", "all => all.map(f => f.id)"):
        if page.evaluate(COLOURS, figure) < 4:
            wrong.append(f"{figure} is blank")
        plot, readout = page.locator(f"#{figure} .plot"), page.locator(f"#{figure} .readout")
        plot.scroll_into_view_if_needed()
        before, box = readout.inner_text(), plot.bounding_box()
        for across, down in itertools.product(range(5, 100, 5), repeat=2):  # somewhere there is a buffer or a candidate
            page.mouse.move(box["x"] + across / 100 * box["width"], box["y"] + down / 100 * box["height"])
            if readout.inner_text() != before:
                break
        else:
            wrong.append(f"{figure} says nothing where it is pointed at")
        plot.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
    page.mouse.move(1, 1)
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(400)
    return wrong


def clip(page, first, last):
    """From above the one element to below the other, over the page's whole width."""
    top, end = page.locator(first).bounding_box(), page.locator(last).bounding_box()
    return {"x": 0, "y": top["y"] - 24, "width": page.viewport_size["width"], "height": end["y"] + end["height"] - top["y"] + 48}


def document(playwright, chromium):
    """The pictures of docs/report: benchmark model, S = 8,192, 2 ranks, a budget of 400 MiB."""
    path, folder = os.path.join(scratch("report"), "peer.html"), os.path.join(ROOT, "docs", "report")
    compile_model(peer_model()[0], os.path.join(scratch("report"), "peer"), 2, 8192, "--optimizer", "adamw", "--clip-norm", 1,
                  "--memory-budget", "400MiB", "--report", path)
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for name, scheme, wide, first, last in (("memory-light", "light", 1248, "h1", "#memory"),
                                            ("arena-and-curve-dark", "dark", 1248, "#h-arena", "#curve"),
                                            ("phone-dark", "dark", 390, "#h-memory", "#memory")):
        page = browser.new_context(viewport={"width": wide, "height": 900}, color_scheme=scheme, is_mobile=wide < 600,
                                   device_scale_factor=1.5 if wide < 600 else 1).new_page()
        page.goto("file://" + os.path.abspath(path))
        page.wait_for_timeout(500)
        page.screenshot(path=os.path.join(folder, name + ".png"), full_page=True, clip=clip(page, first, last))
        print(os.path.join(folder, name + ".png"))
    browser.close()
    return 0


def main():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        print("skipped: chromium is not here")
        return 0
    look()
    from playwright.sync_api import sync_playwright
    if "--write" in sys.argv:
        with sync_playwright() as playwright:
            return document(playwright, chromium)
    folder = sys.argv[1] if len(sys.argv) > 1 else scratch("report")
    os.makedirs(folder, exist_ok=True)
    rows, failed = [], False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path in reports():
            for scheme in ("light", "dark"):
                for wide, high in ((1440, 900), (390, 844)):
                    wrong = []
                    phone = wide < 600
                    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme, is_mobile=phone,
                                                  has_touch=phone, device_scale_factor=2 if phone else 1)
                    page = context.new_page()
                    page.on("pageerror", lambda error: wrong.append(str(error)))
                    page.on("console", lambda message: wrong.append(message.text))
                    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
                    page.goto("file://" + os.path.abspath(path))
                    page.wait_for_timeout(500)
                    wrong += check(page, wide)
                    picture = os.path.join(folder, f"{name}-{scheme}-{wide}.png")
                    page.screenshot(path=picture, full_page=True)
                    rows.append([name, scheme, wide, f"{os.path.getsize(path) / 1024:.0f} KiB", "; ".join(wrong) or "well"])
                    failed |= bool(wrong)
                    context.close()
        browser.close()
    table("The report", ["model", "colours", "width", "size", "is"], rows)
    print(f"pictures: {folder}")
    return int(failed)


sys.exit(main())
