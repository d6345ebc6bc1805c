"""The layers of the house, the map of modules and the documentation stay true."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from documented_commands import command_line

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "p2r").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMED_FILE = re.compile(r"`((?:p2r|tests|docs|configs|benchmarks|notebooks|apps)/[\w./-]+)`")


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    command = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {command}", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )


# ---- the map


def test_the_map_is_up_to_date():
    generator = load_generator()
    assert generator.MAP.read_text(encoding="utf-8") == generator.module_map(), "run make map"


def test_every_module_has_one_line_in_the_map():
    text = load_generator().MAP.read_text(encoding="utf-8")
    for module in MODULES:
        rows = re.findall(rf"^\| `{re.escape(str(module))}` \| (.+) \|$", text, re.MULTILINE)
        assert len(rows) == 1 and len(rows[0].split()) >= 3, module


# ---- the layers


def test_there_are_at_most_8_layers_and_30_packages():
    ground, *layers = load_generator().read_layers()
    assert ground == ["errors"] and len(layers) <= 8
    assert sum(map(len, layers)) <= 30


def test_imports_go_down_the_layers_and_not_in_circles():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


FORBIDDEN = [  # module, import, message: upwards, to the side, inside a function, in a circle
    ("records", "import p2r.cli", "p2r.records is not allowed to import p2r.cli"),
    ("rewards", "import p2r.template", "p2r.rewards is not allowed to import p2r.template"),
    (
        "template/__init__",
        "def late():\n    import p2r.stages",
        "p2r.template is not allowed to import p2r.stages",
    ),
    ("files/jsonlines", "import p2r.files.journal", "No cycles are allowed in p2r.files"),
]


def test_the_contract_refuses_forbidden_imports(tmp_path):
    for name in ("p2r", "apps"):
        keep = shutil.ignore_patterns("models", "static", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=keep)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, forbidden, _ in FORBIDDEN:
        file = tmp_path / "p2r" / f"{module}.py"
        file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{forbidden}\n", encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    for _, _, message in FORBIDDEN:
        assert message in done.stdout, done.stdout + done.stderr


# ---- files


def test_git_ignores_no_module():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    names = "\n".join(map(str, MODULES))
    done = subprocess.run(command, cwd=ROOT, input=names, capture_output=True, text=True)
    assert done.stdout == ""


def test_folders_of_tests_mirror_the_packages():
    packages = {name for layer in load_generator().read_layers() for name in layer}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= packages | {"fuzz"}  # fuzzing tries several packages


def test_every_marker_of_the_quick_tests_is_registered():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    markers = {line.split(":")[0] for line in settings["ini_options"]["markers"]}
    quick = re.search(r"^QUICK := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert set(quick.replace("not ", "").split(" and ")) == markers


# ---- the documentation


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    for name in NAMED_FILE.findall(page.read_text(encoding="utf-8")):
        if "NAME" not in name:
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def written_commands(page: Path) -> set[str]:
    """Return the `p2r` commands of a page: lines of code blocks, and code inside sentences."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^    (p2r [a-z].*)$", text, re.MULTILINE)
    inline = [" ".join(code.split()) for code in re.findall(r"`(p2r\s[a-z][^`]*)`", text)]
    commands = [part for line in (*lines, *inline) for part in line.split("#")[0].split("&&")]
    return {command.strip() for command in commands if command.strip().startswith("p2r ")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_shows_have_these_verbs_and_options(page):
    for text in written_commands(page):
        command, words = command_line(), text.split()[1:]
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert words[:1] == [] or command.name != "p2r", f"{page.name}: unknown verb in {text!r}"
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        given = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert given <= known, f"{page.name}: {given - known} in {text!r}"


def test_the_readme_fits_on_one_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 90
    pictures = re.findall(r"!\[[^\]]+\]\((docs/images/[\w.-]+)\)", readme)
    assert len(pictures) == 2
    for name in pictures:
        assert (ROOT / name).stat().st_size <= 200_000


def test_the_reference_lists_every_verb_and_every_recipe_key():
    from p2r.runs.recipe import Recipe

    generator = load_generator()
    cli, recipes = generator.cli_reference(), generator.recipe_reference()
    for verb in ("demo", "generate", "filter", "sft", "rl", "app", "data check", "study"):
        assert f"## `p2r {verb}`" in cli
    assert "`--credit <str>`" in cli
    for section, values in Recipe(name="x", models={"base": "a", "teacher": "b"}):
        for key in getattr(type(values), "model_fields", {}):
            assert f"`{section}.{key}" in recipes
    assert "| `rl.beta` | `float` | `0.04` |" in recipes


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(https?:)?//|<link[^>]+href=\"https?://")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))]
