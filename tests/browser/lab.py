"""JupyterLab as `make lab` starts it, and one notebook in it, seen and used through Chromium.

The server works on a copy of the notebooks, so that its autosave never writes to the checkout.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "dist" / "browser"

PANEL = "jupyterapp.shell.currentWidget"
BARS = ".widget-html, .widget-hprogress"  # of tqdm, which a reader cannot move
CONTROL = f".jp-OutputArea .widget-inline-hbox:not({BARS})"

LOOK = """control => jupyterapp.shell.currentWidget.content.widgets.map(cell => {
    const all = selector => [...cell.node.querySelectorAll(selector)];
    const seen = image => image.complete && image.naturalWidth > 0;
    const lost = /(Loading|Error displaying) widget/;
    return {
        count: cell.model.type == 'code' ? cell.model.executionCount : null,
        errors: all('[data-mime-type$="stderr"]').map(e => e.textContent),
        figures: all('.jp-OutputArea-output img').filter(seen).length,
        broken: all('img').filter(image => !seen(image)).map(image => image.alt),
        controls: all(control).length,
        lost: all('.jp-OutputArea').some(e => lost.test(e.textContent)),
    };
})"""

# The parts of the controls of a cell and its other outputs; a reader must see all of each.
OVERLAPS = """cell => {
    const parts = [...cell.querySelectorAll(
        '.jupyter-widgets :is(.widget-label, .slider-container, .widget-readout, select, input),'
        + '.jp-OutputArea-output:not(.jupyter-widgets, :has(.jupyter-widgets))')];
    const name = part => part.textContent.trim().slice(0, 30) || part.className || part.tagName;
    const box = part => part.getBoundingClientRect();
    const right = box(cell).right, found = [];
    parts.forEach((one, i) => {
        const a = box(one);
        if (a.width && a.right > right + 1) found.push(`${name(one)} is wider than its cell`);
        if (one.matches('.widget-label, .widget-readout') && one.scrollWidth > one.clientWidth + 1)
            found.push(`${name(one)} is cut off`);
        parts.slice(i + 1).filter(two => !one.contains(two) && !two.contains(one)).forEach(two => {
            const b = box(two);
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (wide > 1 && high > 1) found.push(`${name(one)} overlaps ${name(two)}`);
        });
    });
    return found;
}"""

# Everything that a cell shows but its controls: a figure, a table or text.
SHOWN = """cell => [...cell.querySelectorAll('.jp-OutputArea-output')]
    .filter(e => !e.matches('.jupyter-widgets') && !e.querySelector('.jupyter-widgets'))
    .map(e => e.innerHTML).join()"""

IN_VIEW = """name => {
    const named = document.querySelectorAll(`[data-jupyter-id="${CSS.escape(name)}"]`);
    const tops = [...named].map(heading => heading.getBoundingClientRect().top);
    return tops.some(top => 0 < top && top < innerHeight);
}"""


class Lab:
    """A server whose root holds a copy of the notebooks and links to the rest of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        for entry in ROOT.iterdir():
            if entry.name == "notebooks":
                shutil.copytree(entry, self.root / entry.name)
            elif not entry.name.startswith("."):
                (self.root / entry.name).symlink_to(entry)
        self.log = folder / "server.log"
        self.token = secrets.token_hex(16)
        # A person's own settings, open tabs and data sets stay out of it.
        kinds = "JUPYTER_CONFIG JUPYTER_DATA JUPYTERLAB_SETTINGS JUPYTERLAB_WORKSPACES".split()
        self.environment = os.environ | {f"{kind}_DIR": str(folder / kind) for kind in kinds}
        self.environment["SS4REC_DATA"] = str(folder / "data")
        self.environment.pop("TQDM_DISABLE", None)  # a reader sees the bars; CI turns them off
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, more: str = "") -> None:
        """Start the server, with more arguments than `make lab` gives; wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        more += f" --no-browser --ServerApp.port={self.port} --ServerApp.port_retries=0"
        more += f" --IdentityProvider.token={self.token} --LabApp.expose_app_in_browser=True"
        printed = subprocess.run(
            ["make", "-n", "lab", f"LAB_ARGS={more}"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (line,) = (line for line in printed.stdout.splitlines() if " -m jupyterlab " in line)
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, *shlex.split(line)[1:]],
                cwd=self.root, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        if not until(self._answers, 120):
            raise RuntimeError(f"no JupyterLab after two minutes: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()  # shuts the kernels down, too
            self._server.wait(60)
            self._server = None

    def restart(self, more: str = "") -> None:
        self.stop()
        self.start(more)

    def url(self, path: str, option: str = "reset", place: str = "lab/tree") -> str:
        return f"http://127.0.0.1:{self.port}/{place}/{path}?{option}&token={self.token}"

    def _answers(self) -> bool:
        if self._server is not None and self._server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended: {self.log.read_text()[-2000:]}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


class Notebook:
    """A notebook, opened in a tab of its own."""

    def __init__(self, browser: Any, lab: Lab, path: str) -> None:
        self.lab, self.path, self.stem = lab, path, Path(path).stem
        self.console: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.on("console", lambda line: line.type == "error" and self._logged(line.text))
        self.page.on("pageerror", lambda error: self._logged(str(error)))
        self.page.on("request", self._requested)
        self.page.goto(lab.url(path))
        ready = (
            f"globalThis.jupyterapp && {PANEL}?.content?.widgets?.length > 1"
            f" && {PANEL}.content.widgets.every(cell => cell.isAttached)"
            f" && {PANEL}.sessionContext.session?.kernel?.status == 'idle'"
        )
        self.page.wait_for_function(ready, timeout=120_000)
        self.cells = self.page.locator(".jp-Notebook .jp-Cell")

    def _logged(self, text: str) -> None:
        self.console.append(f"console: {text[:300]}")

    def _requested(self, request: Any) -> None:
        if request.url.startswith("http") and f"//127.0.0.1:{self.lab.port}/" not in request.url:
            self.console.append(f"request to another machine: {request.url}")

    def look(self) -> list[dict[str, Any]]:
        """Return what each cell shows."""
        return self.page.evaluate(LOOK, CONTROL)

    def run_all(self, seconds: float) -> None:
        for name in ("Run", "Run All Cells"):
            self.page.get_by_role("menuitem", name=name, exact=True).click()
        states = f"{PANEL}.content.widgets.map(cell => cell.model.executionState)"
        self.page.wait_for_function(f"{states}.includes('running')")
        self.page.wait_for_function(f"!{states}.includes('running')", timeout=1000 * seconds)
        self.settle(self.cells.last)

    def settle(self, cell: Any) -> str:
        """Return what a cell shows once it no longer changes: a kernel may be behind a slider."""
        idle, shown = f"{PANEL}.sessionContext.session.kernel.status == 'idle'", None
        while shown != (shown := cell.evaluate(SHOWN)):
            self.page.wait_for_timeout(500)
            self.page.wait_for_function(idle, timeout=60_000)
        return shown

    def save(self) -> None:
        self.page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name=save]").click()
        self.page.wait_for_function(f"!{PANEL}.context.model.dirty")

    def photograph(self, what: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{self.stem}_{what}.png")

    def photograph_all(self) -> None:
        """Keep pictures of the whole notebook, from top to bottom."""
        outer = self.page.locator(".jp-Notebook .jp-WindowedPanel-outer")
        height, shown = outer.evaluate("e => [e.scrollHeight, e.clientHeight]")
        for number in range(-(-height // shown)):
            outer.evaluate("(e, top) => { e.scrollTop = top; }", number * shown)
            self.page.wait_for_timeout(200)
            self.photograph(f"page{number + 1:02d}")

    def dead_links(self) -> Iterator[str]:
        """Follow links inside the notebook by clicking; ask the server for linked files."""
        links = self.page.locator(".jp-MarkdownOutput a:not(.jp-InternalAnchorLink)")
        for link in links.all():
            target = link.get_attribute("href") or ""
            if target.startswith("#"):
                link.click()
                if not until(lambda to=target: self.page.evaluate(IN_VIEW, to[1:]), 3, self.page):
                    yield f"the link {target} leads to no heading"
            elif f"//127.0.0.1:{self.lab.port}/files/" in target:
                path = target.partition("/files/")[2].partition("?")[0]
                answer = self.page.request.get(self.lab.url(path, "content=0", "api/contents"))
                if not answer.ok:
                    yield f"the link {path} leads nowhere"
            elif not target.startswith("http"):
                yield f"the link {target!r} leads nowhere"

    def use_controls(self) -> Iterator[str]:
        """Move every control of every cell from one end to the other."""
        for number, cell in enumerate(self.cells.all()):
            controls = cell.locator(CONTROL).all()
            if controls:
                controls[-1].scroll_into_view_if_needed()
            hidden = [f"cell {number}: {problem}" for problem in cell.evaluate(OVERLAPS)]
            yield from hidden
            for place, control in enumerate([] if hidden else controls, start=1):
                name = f"cell {number}, {control.locator('label').first.text_content()}"
                control.scroll_into_view_if_needed()
                for step, move in enumerate(_moves(control), start=1):
                    before = cell.evaluate(SHOWN)
                    move()
                    if not until(lambda b=before, c=cell: c.evaluate(SHOWN) != b, 10, self.page):
                        yield f"{name}: move {step} changed nothing"
                    if "This cannot be drawn" in (shown := self.settle(cell)):
                        yield f"{name}: {shown}"
                    self.photograph(f"cell{number:02d}_control{place}_move{step}")

    def close(self) -> None:
        self.page.close()


def _moves(control: Any) -> Iterator[Callable[[], None]]:
    """Yield the movements of a slider, a list of choices or a box to tick."""
    if control.locator(".noUi-handle").count():
        track, handle = control.locator(".noUi-base"), control.locator(".noUi-handle")
        at, middle = handle.bounding_box()["x"], track.bounding_box()
        far_right = at < middle["x"] + middle["width"] / 2
        yield from (lambda to=end: _drag(handle, track, to) for end in (far_right, not far_right))
    elif control.locator("select").count():
        chosen = control.locator("select")
        for option in range(chosen.locator("option").count()):
            if not chosen.locator("option").nth(option).evaluate("o => o.selected"):
                yield lambda to=option: chosen.select_option(index=to)
    elif control.locator("input[type=checkbox]").count():
        for _ in range(2):
            yield control.locator("input[type=checkbox]").click
    else:
        raise NotImplementedError(f"a control that nobody moves: {control.inner_html()}")


def _drag(handle: Any, track: Any, to_the_right: bool) -> None:
    start, along, mouse = handle.bounding_box(), track.bounding_box(), handle.page.mouse
    mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    mouse.down()
    end = along["x"] + (along["width"] if to_the_right else 0)
    mouse.move(end, start["y"] + start["height"] / 2, steps=4)
    mouse.up()


def until(condition: Callable[[], bool], seconds: float, page: Any = None) -> bool:
    """Return whether the condition becomes true within some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        page.wait_for_timeout(100) if page else time.sleep(0.1)
    return True
