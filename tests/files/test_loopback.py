"""Connections to this machine ignore the proxies of the environment."""

import os

import openai
import pytest
from fault_server import FaultServer
from judge_asking import claude, judge_all

from p2r.engines import Request, Sampling, load_engine
from p2r.errors import UserError
from p2r.files.loopback import client_options, is_local_url, is_loopback, without_proxies
from p2r.records import Question
from p2r.runs.recipe import load_recipe

pytest_plugins = ["judge_fixtures"]
# Nothing listens on port 9, and the package that SOCKS needs is optional.
PROXIES = ["http://127.0.0.1:9", "socks5://127.0.0.1:9"]


@pytest.fixture(params=PROXIES)
def proxy(request, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, request.param)
        monkeypatch.setenv(name.upper(), request.param)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("LOCALHOST.", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
     ("localhost.example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_hosts(host, local):
    assert is_loopback(host) is local


def test_local_urls():
    assert is_local_url("http://[::1]:8000/v1") and is_local_url("http://0.0.0.0:8000")
    assert not is_local_url("https://api.example.org/127.0.0.1") and not is_local_url("")


def test_judges_on_this_machine_use_no_proxy(server, proxy):
    for spec in ("claude", f"messages:{server.url}#m", f"server:{server.url}#m"):
        verdicts = judge_all(claude(spec=spec, retries=0), [f"red {spec}"])
        assert verdicts[0].sufficient is True, verdicts


def test_engines_on_this_machine_use_no_proxy(proxy):
    question = Question(id="q", problem="<a>?", problem_type="free-form")
    with FaultServer({"<a>": []}) as server:
        settings = ["generate.engine=server", f"server.base_url={server.base_url}"]
        recipe = load_recipe("tiny", [*settings, "server.media=images", "server.attempts=1"])
        engine = load_engine(recipe, "some/model")
        (completion,) = engine.generate([Request("a", question, None)], Sampling())
    assert completion.text == "fine"


def test_another_machine_is_reached_by_the_proxy_or_the_error_names_the_address(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    try:
        import socksio  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"example.org: .*SOCKS.* unset the proxy variables"):
            client_options(openai.DefaultAsyncHttpxClient, "https://example.org")
    else:
        assert client_options(openai.DefaultAsyncHttpxClient, "https://example.org")


def test_the_environment_is_as_before_after_a_block_without_proxies(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)
    with without_proxies():
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "*"
    assert os.environ["NO_PROXY"] == "example.org" and "no_proxy" not in os.environ
