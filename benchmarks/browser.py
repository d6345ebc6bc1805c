"""Measures the case browser on a run as large as the paper's: start, page, filters, search, memory.

    python benchmarks/browser.py --json
    python benchmarks/browser.py --cases 5000 --rounds 20

The benchmark makes a synthetic run (`synthetic_run.py`), or takes an existing one (`--run FOLDER`),
serves it with `p2r app` and prints

- `start_s`: from the command to the first answer of the server. `start_cpu_s`: its CPU time.
- `start_page_s`: from the command to the example cases of the start page, in a Chromium that runs
  already and asks as soon as the server answers.
- `first_page_s`: in Chromium, from the address to the first case of the list on the page.
- `filter_p95_s`, `search_p95_s`: one client; the work of the server for a change of the filters, or
  for a new search: a page of 50, the number of cases, the 2 x 2 table, the failure kinds, all
  facets. 95th percentile.
- `open_case_s`: the work of the server to open a case far from the last one: the complete case, its
  neighbours in the list, its group. 95th percentile.
- `clients_filter_p95_s`, `clients_search_p95_s`: the same with `--clients` clients at once, each
  with a pause of `--think` seconds between two clicks.
- `heap_mb`: the JavaScript heap of the page after a garbage collection. `server_mb`: the resident
  memory of the server at the end. `server_peak_mb`: its maximum.
- `loaded_s`: from the start until all texts are loaded into the table of texts. Before, searches
  read the files, which takes `search_unloaded_s`.
- `filter_cpu_s`, `search_cpu_s`: median CPU time of the server in seconds. Other work on the
  machine changes it less. `busy`: the load of the machine per core.

The measured server is `p2r app` itself. Its process also listens on a second port, where the
benchmark calls the store that the app opened.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from common import free_port
from synthetic_run import MIX, PAPER_CASES, SOURCES, make_run

PATIENCE = 900  # s


# ---- in the server's process


def serve(run: Path, port: int, clock: int, app: list[str]) -> None:
    """Run `p2r app` with a second port, on which the benchmark calls its store."""
    from p2r.cases import store
    from p2r.cli import main

    opened: list[store.CaseStore] = []
    begin = store.CaseStore.__init__

    def remember(self: store.CaseStore, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        opened.append(self)

    store.CaseStore.__init__ = remember

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            began, busy = time.perf_counter(), time.process_time()
            found = ACTIONS[asked["action"]](opened[0], asked)
            spent = {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}
            content = json.dumps({"found": found, **spent}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    threading.Thread(
        target=ThreadingHTTPServer(("127.0.0.1", clock), Answer).serve_forever, daemon=True
    ).start()
    sys.argv = ["p2r", "app", str(run), "--port", str(port), *app]
    main()


def show_list(store: Any, asked: dict[str, Any]) -> int:
    """Do what the server does when the filters change."""
    from p2r.cases.selection import from_query

    filters = from_query((name, value) for name, value in asked["filters"])
    store.page(filters, sort=asked.get("sort"), descending=True)
    store.quadrants(filters)
    store.failures(filters)
    store.facets(filters)
    return store.count(filters)


def open_case(store: Any, asked: dict[str, Any]) -> str:
    """Do what the server does when a case is opened."""
    case_id = store.page(offset=asked["place"], limit=1, columns=["id"])[0]["id"]
    case = store.get(case_id)
    store.neighbours(case_id)
    trace = case.trace
    store.group(trace.question_id, trace.run, trace.stage, trace.step)
    return case_id


def some_words(store: Any, asked: dict[str, Any]) -> list[str]:
    """Return words of a case, to search for."""
    case = store.get(store.page(offset=asked["place"], limit=1, columns=["id"])[0]["id"])
    return (case.trace.think or "").split()


ACTIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "list": show_list,
    "open": open_case,
    "words": some_words,
    "count": lambda store, _: store.count(),
    "first": lambda store, _: store.page(limit=1)[0]["question.problem"],
    "loaded": lambda store, _: store.wait_for_texts(PATIENCE),
}


# ---- in the process of the benchmark


class Server:
    """The server of a run, called over HTTP."""

    def __init__(self, run: Path, app: list[str]) -> None:
        self.port, self.clock = free_port(), free_port()
        command = [sys.executable, __file__, "--serve", str(run), str(self.port), str(self.clock)]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (lives with the process)
        began = time.perf_counter()
        self.process = subprocess.Popen([*command, *app], stdout=self.log, stderr=self.log)
        self.began = began
        self._wait()
        self.start_s = time.perf_counter() - began
        spent = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        self.start_cpu_s = sum(map(int, spent[11:13])) / os.sysconf("SC_CLK_TCK")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.clock}/", json.dumps({"action": action, **more}).encode()
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def memory(self, name: str) -> float:
        """Return VmRSS or VmHWM of the server in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1000

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _wait(self) -> None:
        while time.perf_counter() - self.began < PATIENCE:
            if self.process.poll() is not None:
                self.log.seek(0)
                sys.exit(f"the server stopped: {self.log.read().decode()[-2000:]}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.address, timeout=PATIENCE).close()
                return
            time.sleep(0.02)
        sys.exit(f"the server did not answer within {PATIENCE} s")


def make_filters(chance: random.Random) -> list[tuple[str, str]]:
    """Return one to three filters that a visitor might set."""
    kinds: list[tuple[str, Callable[[], str]]] = [
        ("problem_type", lambda: chance.choice(MIX)[1]),
        ("data_type", lambda: chance.choice(["image", "video"])),
        ("source", lambda: chance.choice(SOURCES)),
        ("verdict", lambda: chance.choice(["yes", "no", "unknown"])),
        ("outcome", lambda: chance.choice(["right", "wrong"])),
        ("failure", lambda: chance.choice(["right by luck", "mismatch", "format"])),
        ("stage", lambda: chance.choice(["cot", "rl-pa_grpo"])),
        ("step", lambda: f"{chance.randrange(300, 900)}.."),
        ("length", lambda: f"..{chance.randrange(300, 800)}"),
        ("reasoning_reward", lambda: f"{chance.random():.3f}.."),
    ]
    return [(name, value()) for name, value in chance.sample(kinds, chance.randrange(1, 4))]


def make_searches(server: Server, cases: int, count: int, chance: random.Random) -> list[str]:
    """Return words, parts of words and phrases of the cases, and words that no case has."""
    searches = []
    for number in range(count):
        words = server.ask("words", place=chance.randrange(cases))["found"]
        place = chance.randrange(len(words) - 4)
        form = number % 5
        searches.append(
            words[place]
            if form == 0
            else " ".join(words[place : place + form + 1])
            if form < 3
            else words[place][1:] + " " + words[place + 1][:2]
            if form == 3
            else f"{words[place]}{number}q"
        )
    return searches


def measure_server(server: Server, options: argparse.Namespace, cases: int) -> dict[str, float]:
    chance = random.Random(options.seed)
    sorts = [None, None, "accuracy", "trace.completion_tokens", "reasoning_reward"]

    def filter_once(filters: list[tuple[str, str]]) -> dict[str, float]:
        return server.ask("list", filters=filters, sort=chance.choice(sorts))

    def search_once(text: str) -> dict[str, float]:
        return server.ask("list", filters=[("text", text)])

    first = make_searches(server, cases, 1, chance)[0]
    unloaded = search_once(first)["wall"]
    server.ask("loaded")
    loaded_s = time.perf_counter() - server.began
    filtered = [filter_once(make_filters(chance)) for _ in range(options.rounds)]
    searches = make_searches(server, cases, options.rounds, chance)
    searched = [search_once(text) for text in searches]
    opened = [
        server.ask("open", place=chance.randrange(cases))["wall"] for _ in range(options.rounds)
    ]
    each = max(1, options.rounds // 5)
    asked = make_searches(server, cases, each * options.clients, chance)

    def client(number: int) -> Iterator[tuple[str, float]]:
        mine = random.Random(number)
        for text in asked[number * each : (number + 1) * each]:
            time.sleep(mine.uniform(0, 2 * options.think))
            yield "filter", filter_once(make_filters(mine))["wall"]
            time.sleep(mine.uniform(0, 2 * options.think))
            yield "search", search_once(text)["wall"]

    with ThreadPoolExecutor(options.clients) as pool:
        spans = [
            span
            for found in pool.map(lambda number: list(client(number)), range(options.clients))
            for span in found
        ]
    return {
        "filter_p95_s": percentile([spent["wall"] for spent in filtered]),
        "search_p95_s": percentile([spent["wall"] for spent in searched]),
        "open_case_s": percentile(opened),
        "clients_filter_p95_s": percentile([span for kind, span in spans if kind == "filter"]),
        "clients_search_p95_s": percentile([span for kind, span in spans if kind == "search"]),
        "filter_cpu_s": statistics.median(spent["cpu"] for spent in filtered),
        "search_cpu_s": statistics.median(spent["cpu"] for spent in searched),
        "loaded_s": loaded_s,
        "search_unloaded_s": unloaded,
    }


@contextlib.contextmanager
def open_chromium() -> Iterator[Any]:
    """Yield a Chromium; None if Chromium or playwright is not installed."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _new_page(browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(1000 * PATIENCE)
    return page


def measure_start(run: Path, app: list[str]) -> dict[str, float | None]:
    """Measure how long a new server takes to show its start page; None without Chromium."""
    with open_chromium() as browser:
        if browser is None:
            return {"start_page_s": None}
        page = _new_page(browser)
        server = Server(run, app)
        try:
            page.goto(server.address)
            page.locator(".quad-card").first.wait_for()
            return {"start_page_s": time.perf_counter() - server.began}
        finally:
            server.close()


def measure_page(server: Server) -> dict[str, float | None]:
    """Measure the page in Chromium; None without Chromium."""
    with open_chromium() as browser:
        if browser is None:
            return {"first_page_s": None, "heap_mb": None}
        problem = " ".join(server.ask("first")["found"].split())[:40]
        page = _new_page(browser)
        spans = []
        for _ in range(3):  # the first time also fills the cache
            began = time.perf_counter()
            page.goto(f"{server.address}?tab=cases")
            page.get_by_text(problem).first.wait_for()
            spans.append(time.perf_counter() - began)
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.enable")
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    return {"first_page_s": statistics.median(spans), "heap_mb": heap}


def percentile(spans: list[float], share: float = 0.95) -> float:
    ordered = sorted(spans)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any]
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or make_run(Path(folder) / "synthetic", options.cases, options.seed)
        server = Server(run, options.app)
        try:
            cases = server.ask("count")["found"]
            found = {"cases": cases, "start_s": server.start_s, "start_cpu_s": server.start_cpu_s}
            if not options.no_page:
                found |= measure_page(server)
            found |= measure_server(server, options, cases)
            found |= {
                "server_mb": server.memory("VmRSS"),
                "server_peak_mb": server.memory("VmHWM"),
                "busy": os.getloadavg()[0] / (os.cpu_count() or 1),
            }
        finally:
            server.close()
        if not options.no_page:
            found |= measure_start(run, options.app)
    return found


def main() -> None:
    if "--serve" in sys.argv[1:2]:
        run, port, clock, *app = sys.argv[2:]
        serve(Path(run), int(port), int(clock), app)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--cases", type=int, default=PAPER_CASES)
    parser.add_argument("--run", type=Path, help="use this run folder, not a synthetic run")
    parser.add_argument(
        "--rounds", type=int, default=100, help="number of filters, searches and cases"
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument(
        "--think", type=float, default=2.0, help="mean pause of a client in seconds"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-page", action="store_true", help="do not measure the page in Chromium"
    )
    parser.add_argument("app", nargs="*", help="arguments for p2r app, after --")
    options = parser.parse_args()
    found = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in measure(options).items()
    }
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:<24}{value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
