"""Where the case browser is served: below a path of a proxy, IPv6, proxies in the environment."""

import socket
import urllib.request

import pytest
from playwright.sync_api import expect
from sub_proxy import serve_below

from p2r.browser.app import check_host, check_root_path, launch
from p2r.errors import UserError

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)


def open_directly(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url).status


@pytest.mark.parametrize("tell", [False, True])
def test_below_a_path_everything_works_with_the_sign_in(run, open_page, tell):
    path, password = "/user/jo/proxy/7860", "long enough"
    app = launch([run], password=password, root_path=path, port=None, block=False)
    with serve_below(path, app.server_port, tell=tell) as (address, missed):
        page = open_page(f"{address}/")
        page.get_by_label("username").fill("p2r")
        page.get_by_label("password").fill(password)
        page.get_by_role("button", name="Login").click()
        expect(page.locator(".quad-card")).to_have_count(4)
        page.locator("#bar [data-tab=cases]").click()
        expect(page.locator("#list .item")).to_have_count(50)
        page.locator("#list .item").nth(1).click()
        expect(page.locator(".strip button")).to_have_count(8)
        page.goto(f"{address}/?tab=ask&case=demo/sft/0/q001/0")
        question = page.locator("#ask").get_by_label("question", exact=True)
        expect(question).not_to_have_value("")  # the case of the address is taken
        page.locator("#ask-go").click()
        expect(page.locator("#ask .strip button")).to_have_count(8, timeout=240_000)
        assert missed == []
        page.close()  # a page that is still open logs that the server stopped
    app.close()


def test_a_notebook_on_a_hub_shows_the_address_of_the_hub(run, monkeypatch):
    shown = []
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/jo/")
    monkeypatch.setattr("p2r.browser.app.ipython_check", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda made: shown.append(made.data))
    app = launch([run])
    path = f"/user/jo/proxy/{app.server_port}"
    assert f'src="{path}/"' in shown[0]
    with serve_below(path, app.server_port, tell=True) as (address, missed):
        asked = urllib.request.Request(f"{address}/p2r/view", headers={"Host": "hub.example"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(asked).status == 200 and missed == []
    app.close()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_proxies_of_the_environment_do_not_matter(run, monkeypatch, proxy):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    app = launch([run], port=None, block=False)
    assert open_directly(app.local_url) == 200
    app.close()


def test_ipv6(run):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    app = launch([run], host="::1", port=None, block=False)
    assert app.local_url.startswith("http://[::1]:") and open_directly(app.local_url) == 200
    app.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_this_machine_does_not_have_is_one_line(run, host):
    with pytest.raises(OSError, match=rf"cannot serve on {host} \(.*\): give another") as caught:
        launch([run], host=host, password="long enough", block=False)
    assert "\n" not in str(caught.value)


def test_any_other_failure_of_the_start_is_one_line(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no frontend")

    monkeypatch.setattr("gradio.Blocks.launch", fail)
    with pytest.raises(UserError, match=r"does not start on 127.0.0.1: RuntimeError: no frontend"):
        launch([run], block=False)


def test_root_paths():
    assert check_root_path("user/jo/") == "/user/jo" and check_root_path("/") == ""
    assert check_root_path("https://hub.example.org/x/") == "https://hub.example.org/x"
    for wrong in ("/a?b", "/a/../b", '/"x', "/a b", "/a\\b"):
        with pytest.raises(UserError, match="is not a path"):
            check_root_path(wrong)


def test_other_loopback_addresses_need_no_password():
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"):
        check_host(host, None)
    with pytest.raises(UserError, match="P2R_APP_PASSWORD"):
        check_host("::", None)
