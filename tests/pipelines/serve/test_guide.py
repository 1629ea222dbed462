"""The requests that the guide shows, and the answers that it shows of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipelines.serve.settings import LOOPBACK, Settings
from tests.pipelines.serve.conftest import client_of

PAGE = (Path(__file__).parents[3] / "docs/service.md").read_text("utf-8")
ASKED = re.findall(r"```sh\ncurl (.*?)\n```\n\n```json\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


def form(value: Any) -> Any:
    """What there is in an answer, without the values."""
    if isinstance(value, dict):
        return {name: form(each) for name, each in value.items()}
    if isinstance(value, list):
        return [form(each) for each in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def test_the_guide_has_requests_and_a_problem() -> None:
    assert len(ASKED) == PAGE.count("```sh\ncurl ") == 2
    assert PAGE.count("application/problem+json") == PAGE.count('"status": 404') == 1


@pytest.fixture(scope="module")
def client(places):
    with client_of(Settings(str(places["blend"]), hosts=LOOPBACK, poll_seconds=0)) as client:
        yield client


@pytest.mark.parametrize(("request_", "shown"), ASKED)
def test_an_answer_has_the_form_that_is_shown(client, request_, shown) -> None:
    found = client.get("/v1/search", params={"q": "love", "top": 1}).json()
    (song,) = found["songs"]
    address, *options = shlex.split(request_.replace("SONG_ID", song["song_id"]))
    assert address.startswith(ADDRESS)
    path = address.removeprefix(ADDRESS)
    if options:
        assert options[0] == "--json"
        answer = client.post(path, json=json.loads(options[1]))
    else:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert form(answer.json()) == form(json.loads(shown))


def test_a_problem_is_the_one_that_is_shown(client) -> None:
    (shown,) = re.findall(r'```json\n(\{"type".*?)```', PAGE, re.DOTALL)
    answer = client.get("/v1/lists", params={"user_id": "nobody"})
    assert answer.json() == json.loads(shown)
    assert answer.status_code == json.loads(shown)["status"]
    assert answer.headers["content-type"] in PAGE
