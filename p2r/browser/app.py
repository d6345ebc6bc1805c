"""Builds and serves the case browser, which shows the cases of one or several runs.

`launch` serves it on this machine. The server renders a page from the query of its address
(`p2r.browser.address`, `p2r.browser.pages`), and the page fetches its parts. The store filters,
sorts and pages lists, so the page holds one page of a list and one case.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr
from gradio.utils import ipython_check
from markupsafe import Markup
from starlette.middleware import Middleware

from p2r.browser.ask_view import build_ask
from p2r.browser.desk import MAX_UPLOAD
from p2r.browser.exposure import check_host, check_root_path
from p2r.browser.guard import ANY_HOST, Guard
from p2r.browser.library import Library
from p2r.browser.served import allowed_hosts, hub_path, show_in_cell
from p2r.browser.theme import HEAD, SHELL, make_theme
from p2r.browser.waiting import free_port
from p2r.cases.store import CaseStore
from p2r.errors import UserError
from p2r.files.loopback import is_loopback, without_proxies

USER = "p2r"
# Every hour, uploads that are a day old are deleted. (Seconds; a kept case has its own copy.)
CLEANING = (3600, 86400)


def launch(
    runs: Sequence[str | Path] | CaseStore,
    media_root: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
    block: bool = True,
    password: str | None = None,
    root_path: str = "",
    *,
    read_only: bool = False,
    allow_hosts: Sequence[str] = (),
    task: Sequence[str] = (),
) -> gr.Blocks:
    """Serve the case browser over run folders, Parquet files or an opened store until Ctrl+C.

    `media_root` is the media folder of all runs. By default each run has its own
    (`find_media_root`). `port` None takes the first free port from 7860. A `host` that other
    machines can reach needs a `password`; visitors sign in as "p2r". With `block=False` the call
    returns at once: `.local_url` of the result is the address, and `.close()` stops the server. In
    a notebook the output of the cell shows the browser, and the call returns at once too.
    `root_path` is the path below which a reverse proxy serves the browser, for example
    "/user/jo/proxy/7860". In a notebook on JupyterHub, p2r finds it.

    `read_only`: visitors can neither label nor ask, and no password is needed. `allow_hosts`: names
    under which a proxy serves the browser ("*" for any). `task`: the ids of the cases to label,
    instead of a sample.

    Raises `StoreError` for runs without cases, `UserError` for an unsafe host or password or a
    browser that does not start, and `OSError` for an address that cannot be served.
    """
    check_host(host, password, read_only)
    check_address(host, port)
    in_hub = ipython_check() and hub_path(0) and not root_path
    if in_hub:
        port = port or free_port()
        root_path = hub_path(port)
    root_path = check_root_path(root_path)
    app, routes = _build(runs, media_root, read_only, task)
    # A password is asked of everybody, so a foreign name of this machine gives nothing away.
    hosts = allowed_hosts(root_path, [*allow_hosts, *([ANY_HOST] if password else [])])
    hosts = (*hosts, *([ANY_HOST] if read_only and not is_loopback(host) else []))
    try:
        with without_proxies():  # Gradio asks its own server whether it is ready
            app.launch(
                server_name=f"[{host.strip('[]')}]" if ":" in host else host,
                server_port=port,
                root_path=root_path,
                inline=False if in_hub else None,
                inbrowser=open_browser,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=True,
                auth=None if password is None else _make_check(password),
                auth_message="Sign in as user p2r with the password of this browser.",
                theme=make_theme(),
                head=HEAD,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                max_file_size=MAX_UPLOAD,
                height=900,
                app_kwargs={
                    "routes": routes,
                    "middleware": [Middleware(Guard, hosts=hosts, read_only=read_only)],
                },
            )
    except Exception as error:
        app.close(verbose=False)
        raise UserError(
            f"the case browser does not start on {host}: {type(error).__name__}: {error}"
        ) from error
    if in_hub:
        show_in_cell(root_path)
    if block and not ipython_check():
        below = f", behind a proxy below {root_path}" if root_path else ""
        print(f"case browser: {app.local_url}{below} (Ctrl+C stops it)", flush=True)
        app.block_thread()
    return app


def check_address(host: str, port: int | None) -> None:
    """Raise `OSError` if this machine cannot serve on the host and port; None is any free port."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except OSError as error:
        where = host if port is None else f"{host}, port {port}"
        raise OSError(
            f"cannot serve on {where} ({error.strerror}): give another --port or --host"
        ) from error


def _make_check(password: str) -> Callable[[str, str], bool]:
    """Return the check of a sign-in. It takes the same time for every wrong password."""

    def check(user: str, given: str) -> bool:
        same = hmac.compare_digest(given.encode("utf-8", "replace"), password.encode())
        return same and user == USER

    return check


def _build(
    runs: Sequence[str | Path] | CaseStore,
    media_root: str | Path | None,
    read_only: bool = False,
    task: Sequence[str] = (),
) -> tuple[gr.Blocks, list]:
    from p2r.browser.routes import Routes

    store = runs if isinstance(runs, CaseStore) else CaseStore(runs)
    library = Library(store, media_root, read_only, task)
    with gr.Blocks(
        title="p2r cases", analytics_enabled=False, fill_width=True, delete_cache=CLEANING
    ) as app:
        gr.HTML(Markup(SHELL), elem_id="shell", apply_default_css=False, js_on_load="p2r.start();")
        if not read_only:
            build_ask(library, app)
    return app, Routes(library).all()
