"""The guide builds, links to what there is, has a page for all that is public, and asks no host."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from pipelines.config import describe
from tests.docs.blocks import ROOT
from tests.pipelines.serve.page.browsing import NEEDED, until

PAGES = (
    *("*.md", "mkdocs.yml", "docs"),
    *("cluster", "benchmarks", "examples", "fusionrec", "pipelines"),
)
"""What the guide is made of."""


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            "NO_MKDOCS_2_WARNING": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built guide."""
    out = tmp_path_factory.mktemp("guide") / "site"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


class Page(HTMLParser):
    """What a page loads by itself, its ids, and its text without code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self._code = 0
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        self._code += tag in ("code", "pre", "script", "style")
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(given["href"])
        elif tag != "a":
            self.loads += [given[name] for name in ("src", "srcset", "data") if name in given]

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text += data


@pytest.fixture(scope="module")
def every(site) -> dict[str, Page]:
    """All pages by their place on the site."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_nothing_is_asked_of_another_host(site, every) -> None:
    hosts = re.compile(r"^(?:[a-z]+:)?//")
    for name, page in every.items():
        assert page.loads, name
        assert not [url for url in page.loads if hosts.match(url)], name
        # The theme's script fetches one that draws diagrams, where a page has any.
        assert "mermaid" not in (site / name).read_text("utf-8"), name
    for path in site.rglob("*.css"):
        found = re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", path.read_text("utf-8"))
        assert not found, path


def test_what_pages_load_is_there(site, every) -> None:
    for name, page in every.items():
        for url in page.loads:
            path = url.partition("?")[0].partition("#")[0]
            if path and not path.startswith("data:") and name != "404.html":
                assert (site / name).parent.joinpath(path).exists(), (name, url)


def test_every_public_module_has_a_page(site, every) -> None:
    modules = set()
    for path in (ROOT / "fusionrec").rglob("*.py"):
        names = [*path.relative_to(ROOT).with_suffix("").parts]
        if names[-1] == "__init__":
            names.pop()
        if not any(name.startswith("_") for name in names):
            modules.add(".".join(names))
    assert len(modules) > 150
    pages = [page for name, page in every.items() if name.startswith("reference/")]
    found = {name for page in pages for name in page.ids}
    assert modules - found == set()
    assert {
        "pipelines.opened.recommender.Recommender.recommend",
        "pipelines.opened.reasons.Reason",
        "fusionrec.formats.hdf5.reader.read_tracks",
        "fusionrec.models.network.FusionNetwork",
        "fusionrec.ranking.topk.rank_users",
    } <= found
    # In the navigation beside the page, and in a list on the package's.
    links = (site / "reference/api/fusionrec/search/index.html").read_text("utf-8")
    assert len(re.findall('href="(?:index_|edits|words).html', links)) >= 3


def test_every_key_and_command_is_described(every) -> None:
    keys = every["reference/config.html"]
    assert {name for name, _, _ in describe()} <= keys.ids
    commands = every["reference/cli.html"]
    assert {"fusionrec-run", "fusionrec-recommend", "fusionrec-serve"} <= commands.ids


def test_docstrings_show_no_markup(every) -> None:
    for name, page in every.items():
        if name.startswith("reference/"):
            found = re.findall(r".{0,40}(?::[a-z]+:`|``|\]\[|::$).{0,40}", page.text, re.MULTILINE)
            assert not found, (name, found)


def test_files_of_the_repository_are_pages(site) -> None:
    for name, link in {
        "cluster/guide.html": 'href="capacity.html',
        "cluster/capacity.html": "",
        "benchmarks.html": 'href="cluster/capacity.html#a-rehearsal-at-a-tenth-of-the-size"',
        "contributing.html": "",
        "changelog.html": "",
        "notebooks/recommender.html": "",
        "notebooks/method.html": "",
    }.items():
        assert link in (site / name).read_text("utf-8"), name


def test_the_readmes_links_lead_somewhere(every) -> None:
    """It is no page of the site, so that the build does not look at it."""
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^()\s]+)\)", text)
    inside = [link for link in links if not re.match(r"[a-z]+:", link)]
    headings = [slugify(title, "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    assert len(inside) > 10
    for link in inside:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor and not path:
            assert anchor in headings, link
        elif anchor:
            page = path.removeprefix("docs/").replace(".md", ".html")
            assert anchor in every[page].ids, link


def test_what_makes_the_pages_is_none(site) -> None:
    assert not list(site.rglob("*.py"))


@pytest.fixture
def copy(tmp_path) -> Path:
    """What the guide is made of, to be changed."""
    place = tmp_path / "copy"
    place.mkdir()
    for pattern in PAGES:
        for path in ROOT.glob(pattern):
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, place / path.name, ignore=ignored)
            else:
                shutil.copy(path, place)
    return place


@pytest.mark.slow
def test_what_is_broken_fails_the_build(copy) -> None:
    """Each fault is named, and nothing else is."""

    def append(name: str, text: str) -> None:
        path = copy / name
        path.write_text(path.read_text("utf-8") + text, "utf-8")

    append("docs/start.md", "\n[no page](nowhere.md), [no place](quality.md#nowhere)\n")
    append("docs/quality.md", "\n[no file](../examples/nowhere.py) ![](images/nowhere.png)\n")
    append("docs/paper.md", "\n[no key](reference/config.md#train.nowhere)\n")
    append("cluster/README.md", "\n[no place](CAPACITY.md#nowhere)\n")
    append(
        "fusionrec/errors.py", '\n\ndef broken() -> None:\n    """See [x][fusionrec.nowhere]."""\n'
    )
    (copy / "docs/unlisted.md").write_text("# In no navigation\n")
    done = build(copy, copy / "site")
    assert done.returncode != 0
    faults = (
        "'nowhere.md'",
        "'quality.md#nowhere'",
        "../examples/nowhere.py, which does not exist",
        "'images/nowhere.png'",
        "'reference/config.md#train.nowhere'",
        "'capacity.md#nowhere'",
        "'fusionrec.nowhere'",
        "unlisted.md",
    )
    for fault in faults:
        assert fault in done.stderr, (fault, done.stderr)
    names = [*faults, "nowhere", "not included in the"]
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert [line for line in warnings if not any(name in line for name in names)] == []


@pytest.mark.slow
class TestInABrowser:
    pytestmark = NEEDED

    def test_it_is_searched_as_files(self, site, tmp_path) -> None:
        """Without a server, and without a network."""
        from selenium import webdriver

        from tests.pipelines.serve.page.browsing import CHROMIUM, DRIVER

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            driver.get((site / "index.html").as_uri())
            until(driver, "return document.querySelector('input.md-search__input')")
            driver.execute_script("document.querySelector('#__search').click()")
            field = driver.find_element("css selector", "input.md-search__input")
            until(driver, "return arguments[0].getBoundingClientRect().width > 0", field)
            field.send_keys("train.eta_batch")
            found = until(
                driver,
                "return [...document.querySelectorAll('a.md-search-result__link')].map(a => a.href)"
                ".find(a => /reference.config\\.html\\?.*#train\\.eta_batch$/.test(a))",
            )
            assert found
            asked = [
                message["params"]["request"]["url"]
                for entry in driver.get_log("performance")
                if (message := json.loads(entry["message"])["message"])["method"]
                == "Network.requestWillBeSent"
            ]
            assert asked
            assert not [url for url in asked if url.startswith(("http:", "https:"))]
        finally:
            driver.quit()
