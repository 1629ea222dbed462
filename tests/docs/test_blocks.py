"""Every block of the guide is run, or says why not; and commands name what there is."""

import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pipelines.cli.main import app
from pipelines.config import describe
from tests.docs.blocks import (
    ELSEWHERE,
    OTHERS,
    REASONS,
    ROOT,
    RUN,
    Block,
    all_blocks,
    blocks,
    commands,
    pages,
    script,
    section,
)

OUTSIDE = ("CONTRIBUTING.md", "benchmarks/README.md", "cluster/README.md", "cluster/CAPACITY.md")
"""Pages whose blocks are not run, but whose commands must name what there is."""

SHOWN = [*all_blocks(), *(block for page in OUTSIDE for block in blocks(page))]
SHELL = [block for block in SHOWN if block.language == "sh"]
PYTHON = [block for block in SHOWN if block.language == "python"]


def test_the_language_of_each_block_says_whether_it_can_be_run() -> None:
    unknown = [b.name for b in SHOWN if b.language not in (*RUN, *OTHERS)]
    assert not unknown, f"blocks of other languages than {RUN} and {OTHERS}: {unknown}"
    odd = [block.name for block in SHOWN if block.language in OTHERS and block.reason is not None]
    assert not odd, f"said to be not run, which nobody would: {odd}"


def test_what_is_not_run_has_a_reason_that_is_one() -> None:
    for block in all_blocks():
        if block.reason is None:
            continue
        test = block.reason.removeprefix(ELSEWHERE)
        if test == block.reason:
            assert block.reason in REASONS, f"{block.name}: {block.reason!r} is none of {REASONS}"
        else:
            assert (ROOT / test).exists(), f"{block.name}: there is no {test}"
            assert _names(ROOT / test, block.page), f"{test} never reads {block.page}"


def _names(test: Any, page: str) -> bool:
    files = [test] if test.is_file() else test.rglob("*.py")
    return any(page in file.read_text("utf-8") for file in files)


def test_how_many_blocks_are_not_run() -> None:
    """Whoever marks one more changes a number here: no test keeps what such a block promises."""
    found = Counter(
        "runs in other tests" if block.reason.startswith(ELSEWHERE) else block.reason
        for block in all_blocks()
        if block.reason is not None
    )
    assert dict(found) == {
        "installs packages": 2,
        "needs a GPU": 1,
        "needs the data set": 5,
        "runs in other tests": 5,
        "takes minutes": 8,
    }


def test_each_page_is_looked_at() -> None:
    assert pages()[0] == "README.md"
    assert {"docs/index.md", "docs/start.md", "docs/catalogue.md"} <= set(pages())


# --- what a block names ------------------------------------------------------------------

GROUP: Any = get_command(app)
KEYS = {name for name, _, _ in describe()}
TARGETS = {
    name
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines()
    if line.startswith(".PHONY:")
    for name in line.split()[1:]
}


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_the_shell_can_read_it(block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
    assert done.returncode == 0, (block.name, done.stderr)


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_its_commands_options_keys_and_targets_exist(block) -> None:
    for line in commands(block):
        wrong = unknown(line)
        assert not wrong, f"{block.name}: {line}: there is no {wrong}"


def test_what_does_not_exist_is_noticed() -> None:
    assert unknown("fusionrec tarin --config my.yaml") == "command tarin"
    assert unknown("fusionrec --debug run --confg=my.yaml") == "option --confg of run"
    assert unknown("fusionrec run --set train.etta=1") == "key train.etta"
    assert unknown("A=1 .venv/bin/fusionrec submit -- run --all") == "option --all of run"
    assert unknown("fusionrec run && make dmeo") == "target dmeo"
    assert unknown("fusionrec --log-format json run --json | tee run.jsonl") is None
    assert unknown("make gpu DEVICE=cpu    # two minutes") is None


def unknown(line: str) -> str | None:
    """What a line of shell names of the command or of make, and they do not have."""
    for part in re.split(r"\s(?:&&|\|\||[|;])\s", line):
        words = shlex.split(part, comments=True)
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):
            words = words[1:]
        if not words:
            continue
        name, *rest = words
        if name == "make":
            targets = [word for word in rest if "=" not in word and not word.startswith("-")]
            wrong = next((f"target {word}" for word in targets if word not in TARGETS), None)
        elif name.rpartition("/")[2] == "fusionrec":
            wrong = _unknown(rest)
        else:
            wrong = None
        if wrong:
            return wrong
    return None


def _unknown(words: list[str]) -> str | None:
    given = iter(words)
    command = next((w for w in given if not w.startswith("-") and w not in ("json", "text")), None)
    if command is None:
        return None
    if command not in GROUP.commands:
        return f"command {command}"
    options = {"--help"}
    for parameter in (*GROUP.params, *GROUP.commands[command].params):
        options |= {*parameter.opts, *parameter.secondary_opts}
    before = words[: words.index(command)]
    for word in (*before, *given):
        if word == "--":
            return _unknown(words[words.index("--") + 1 :])
        option, _, value = word.partition("=")
        if option.startswith("-") and not option.lstrip("-").isdigit() and option not in options:
            return f"option {option} of {command}"
        if "." in option and value and re.fullmatch(r"[a-z_.]+", option) and not _is_key(option):
            return f"key {option}"
    return None


def _is_key(name: str) -> bool:
    """Keys, and what lies in one that is a mapping, as `source.tables.plays.paths` does."""
    return any(name == key or name.startswith(f"{key}.") for key in KEYS)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_can_read_it(block) -> None:
    compile(block.text, block.name, "exec")


@pytest.mark.parametrize("name", [*pages(), *OUTSIDE])
def test_keys_and_files_that_sentences_name_exist(name) -> None:
    assert wrong_names((ROOT / name).read_text("utf-8")) == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    """Beside what is no key, and what a page has the reader write."""
    text = """`train.etta`, `--set recommend.tops=20` and `pipelines/nowhere.py`, not `train.eta`,
`train.py` `blend/weights.csv` `source.tables.features.clap` or `pipelines/configs/msd.yaml`

| `pipelines/mine.py` | new: a stage |

```sh
fusionrec run --set train.nothing=1
```
"""
    assert wrong_names(text) == ["train.etta", "recommend.tops", "pipelines/nowhere.py"]


def wrong_names(text: str) -> list[str]:
    """Keys and files of the repository that there are not, in code within a page's sentences.

    What a table calls new is written by the reader, and so is its test.
    """
    sections = {key.partition(".")[0] for key in KEYS if "." in key}
    new = re.findall(r"^\| `[\w/]+/(\w+)\.py` \| new: ", text, re.MULTILINE)
    written = {*new, *(f"test_{name}" for name in new)}
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for code in re.findall(r"`([^`]+)`", outside):
        for word in re.findall(r"(?<![\w/.-])[a-z_]+(?:\.[a-z_]+)+", code):
            section, _, last = word.rpartition(".")
            named = any(key.startswith(f"{word}.") for key in KEYS) or _is_key(word)
            if section.partition(".")[0] in sections and last not in FILES and not named:
                found.append(word)
        paths = re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*", code)
        missing = (path for path in paths if not (ROOT / path).exists())
        found += [path for path in missing if Path(path).stem not in written]
    return found


FILES = ("py", "json", "csv", "png", "yaml", "md", "parquet", "npy")
FOLDERS = ("fusionrec", "pipelines", "tests", "examples", "cluster", "benchmarks")


def test_the_bounds_that_the_paper_page_shows_are_those_that_it_computes(capsys) -> None:
    (code,) = section("docs/paper.md", "### What k classes can tell", "python")
    (shown,) = section("docs/paper.md", "### What k classes can tell", "text")
    exec(compile(code.text, code.name, "exec"), {})
    assert capsys.readouterr().out == shown.text


# --- the helper itself -------------------------------------------------------------------


def page(tmp_path: Any, text: str) -> list[Block]:
    (tmp_path / "page.md").write_text(text)
    return blocks("page.md", tmp_path)


def test_blocks_are_found_where_readers_see_them(tmp_path) -> None:
    text = """# Page

- in a list:

    ```sh
    echo a \\
        b
    ```

<!-- not run: needs a cluster -->

```python
print("```")
```

````text
```sh
no block
```
````
"""
    first, second, third = page(tmp_path, text)
    assert (first.line, first.language, first.reason) == (6, "sh", None)
    assert first.text == "echo a \\\n    b\n"
    assert commands(first) == ["echo a      b"]
    assert (second.language, second.reason, second.is_run) == ("python", "needs a cluster", False)
    assert (third.language, third.text) == ("text", "```sh\nno block\n```\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```sh\necho\n", "does not end"),
        ("<!-- not run: takes minutes -->\n\nText.\n\n```sh\necho\n```\n", "before no block"),
        ("<!-- not run: takes minutes -->\n", "before no block"),
    ],
)
def test_a_page_that_cannot_be_read_is_refused(tmp_path, text, said) -> None:
    with pytest.raises(ValueError, match=said):
        page(tmp_path, text)


def test_a_page_runs_in_order_as_one_session(tmp_path, monkeypatch) -> None:
    text = """
```python
x = 2
```
```sh
echo a > made
echo USER_ID | cat
```
```python
print(open("made").read().strip() * x)
```
```sh
false | true
echo never
```
"""
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr("tests.docs.blocks.blocks", lambda _: blocks("page.md", tmp_path))
    program = script("page.md", {"USER_ID": "somebody"})
    done = subprocess.run(
        ["python", "-c", program], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.stdout.splitlines() == ["somebody", "aa"]
    assert done.stderr.splitlines()[-1] == "page.md:13: ended with 1"
