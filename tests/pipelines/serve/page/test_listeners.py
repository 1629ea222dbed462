"""Listeners: users of the run, and those that are built of songs."""

from __future__ import annotations

import pytest

from tests.pipelines.serve.page.browsing import NEEDED, go, listed, named, press, texts, until

pytestmark = NEEDED

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


def test_a_listener_is_built_of_songs_and_the_list_changes(page, app) -> None:
    go(page, app, "listener")
    field = page.find_elements("css selector", "[role=combobox]")[1]
    lists = []
    for row in (7, 30):
        song = named(app, row)
        field.send_keys(f"{song['artist']} {song['title']}")
        until(page, "return document.querySelectorAll('[role=option]').length > 0")
        field.send_keys(Keys.ENTER)
        until(
            page,
            "return document.querySelectorAll('.chip').length === arguments[0]",
            len(lists) + 1,
        )
        before = lists[-1] if lists else []
        until(
            page,
            "const ids = [...document.querySelectorAll('li.song')].map((e) => e.dataset.song);"
            "return ids.length && JSON.stringify(ids) !== JSON.stringify(arguments[0])",
            before,
        )
        lists.append(listed(page))
        assert song["song_id"] not in lists[-1]
    assert lists[0] != lists[1]
    address = page.execute_script("return location.hash")
    assert texts(page, ".about .chart .num")  # what the listener is mixed of
    go(page, app, "run")
    go(page, app, address[1:])  # an address is enough to see it again
    assert listed(page) == lists[1]
    page.find_element("css selector", ".chip .away").click()
    until(page, "return document.querySelectorAll('.chip').length === 1")


def test_the_keyboard_stays_at_a_listener_s_songs(page, app) -> None:
    first, second = (named(app, row)["song_id"] for row in (7, 30))
    go(page, app, f"plays={first}*1,{second}*1")
    label = "return document.activeElement.ariaLabel"
    _all_buttons = "document.querySelectorAll('.chip button')"
    page.execute_script(f"{_all_buttons}[1].focus()")
    more = page.execute_script(label)
    press(page, Keys.ENTER)
    until(page, "return location.hash.includes(arguments[0])", f"{first}*2")
    assert page.execute_script(label) == more
    page.execute_script(f"{_all_buttons}[2].focus()")
    press(page, Keys.ENTER)
    until(page, "return document.querySelectorAll('.chip').length === 1")
    assert named(app, 30)["title"] in page.execute_script(label)
    for _ in range(3):  # the last chip goes: on with the search
        press(page, Keys.TAB)
        if "away" in page.switch_to.active_element.get_attribute("class"):
            break
    page.execute_script(f"{_all_buttons}[2].focus()")
    press(page, Keys.ENTER)
    until(page, "return document.querySelectorAll('.chip').length === 0")
    assert page.switch_to.active_element.get_attribute("role") == "combobox"


def test_a_song_that_the_catalogue_does_not_have_is_on_its_listener(page, app) -> None:
    known = named(app, 7)["song_id"]
    go(page, app, f"plays=SONOWHERE*2,{known}*1")
    assert texts(page, ".chip a") == ["(SONOWHERE)", named(app, 7)["title"]]
    text = page.execute_script("return document.querySelector('.about').innerText")
    assert "Of 1 of the songs the model knows nothing" in text


def test_a_mixture_of_many_classes_is_drawn_to_scale(page) -> None:
    drawn = page.execute_async_script(
        """
        const done = arguments[0];
        import('/page/genres.js').then(({ strip, chart }) => {
          const even = Array(64).fill(1 / 64);
          const widths = [...chart([], [0.5, 0.1, ...Array(8).fill(0.05)]).querySelectorAll('li')]
            .map((line) => [line.textContent, line.querySelector('.bar i')?.style.width]);
          done([strip([], even).querySelectorAll('.strip i').length, widths]);
        });
        """
    )
    assert drawn[0] == 2  # the most probable one, and the rest
    lines = [("class 0", 50), ("class 1", 10), *((f"class {n}", 5) for n in range(2, 6))]
    assert drawn[1] == [
        *([f"{name}{share} %", f"{share}%"] for name, share in lines),
        ["others20 %", None],
    ]


def test_a_user_has_the_stored_list_and_its_shares(page, app) -> None:
    go(page, app, "listener")
    page.find_element("css selector", "[role=combobox]").click()
    until(page, "return document.querySelectorAll('[role=option]').length > 0")
    press(page, Keys.ARROW_DOWN, Keys.ENTER)
    until(page, "return document.querySelectorAll('li.song').length")
    (user,) = texts(page, "h1.user")
    expected = app.state.engine.snapshot.user_list(user, 20)
    rows = app.state.engine.snapshot.numbered(expected.rows)
    assert listed(page) == [song["song_id"] for song in rows]
    strips = "return [...document.querySelectorAll('li.song .strip')].map((e) => e.ariaLabel)"
    said = page.execute_script(strips)
    assert len(said) == 2 * len(rows)  # genres and modalities of each
    assert all(text.startswith(("Genres: ", "Shares of modalities: ")) for text in said)
