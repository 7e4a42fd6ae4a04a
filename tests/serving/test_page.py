"""A person's path through the page, in headless Chromium: nothing complains, and nothing leaves this machine."""

import threading
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
import uvicorn
from browser import Tab

from sasrec.commands import serve
from sasrec.evaluation import rank_table
from sasrec.serving.recommender import Recommender
from sasrec.serving.web import app

HOSTILE = "<img src=x onerror=alert(1)> \u202e"
WIDTHS = [390, 1400]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here to open the page in"),
]


@pytest.fixture(scope="module")
def address(finished: Path) -> Iterator[str]:
    """The address of the small run's model; each title would be HTML, and turn text round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        known = Recommender.load("models")
        titles = {id_: f"{HOSTILE} Volume {id_}" for id_ in known.model.books.ids.to_pylist()}
        known = Recommender(known.model, titles)
        served = app.create(known, serve.read_run(Path("models"), known), serve.LOOPBACK)
    server = uvicorn.Server(uvicorn.Config(served, log_level="warning"))
    with serve.listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield serve.address(listener)
        server.should_exit = True
        thread.join()


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, address: str, tmp_path: Path) -> Iterator[Tab]:
    """The page, opened; after the test, what it asked for and said is looked at."""
    with browser.tab(tmp_path) as opened:
        opened.open(address, width=request.param)
        opened.wait(f"{HITS}.length > 2 && {BOOKS}.length === 10 && document.querySelector('#model').textContent")
        yield opened
        assert opened.run("document.documentElement.scrollWidth") <= request.param
        assert opened.run("document.images.length") == 0  # no title became HTML
        assert {url[: len(address)] for url in opened.requests} == {address}
        assert opened.complaints == []


HITS, READ, BOOKS = (f"document.querySelectorAll('#{name} > li')" for name in ("hits", "history", "books"))
STATUS = "document.querySelector('#status').textContent"


def texts(tab: Tab, found: str) -> list[str]:
    return tab.run(f"[...{found}].map((each) => each.querySelector('bdi').textContent)")


def read_two(tab: Tab) -> list[str]:
    """Click on the first two books found; return them, the latest first."""
    tab.run(f"{HITS}[0].querySelector('button').click(); {HITS}[1].querySelector('button').click()")
    tab.wait(f"{STATUS}.includes('by the network') && document.querySelectorAll('#history .bar').length === 2")
    return texts(tab, READ)


def test_a_search_finds_a_book_by_its_title(tab: Tab) -> None:
    wanted = texts(tab, HITS)[2]
    tab.run("document.querySelector('#search').focus()")
    tab.send("Input.insertText", text="volume " + wanted.rpartition(" ")[2])
    tab.wait(f"{HITS}.length === 1")
    assert texts(tab, HITS) == [wanted]


def test_clicked_books_are_read_and_others_are_recommended_with_a_reason(tab: Tab) -> None:
    found = texts(tab, HITS)[:2]
    assert read_two(tab) == found[::-1]
    assert not set(found) & set(texts(tab, BOOKS))
    assert "score" in tab.run(f"{BOOKS}[0].textContent")
    assert set(texts(tab, "document.querySelectorAll('#books .why')")) <= set(found)


def test_the_keyboard_reorders_and_removes_books_and_keeps_the_focus(tab: Tab) -> None:
    latest, earlier = read_two(tab)
    tab.run(f"{READ}[0].querySelector('button:enabled').focus()")
    tab.press("ArrowDown")
    assert texts(tab, READ) == [earlier, latest]
    assert tab.run("document.activeElement.closest('li').querySelector('bdi').textContent") == latest
    tab.press("Delete")
    assert texts(tab, READ) == [earlier]
    assert tab.run("document.activeElement.closest('#history') !== null")


def test_the_order_of_the_history_changes_what_is_recommended(tab: Tab) -> None:
    read_two(tab)
    before = tab.run("document.querySelector('#books').textContent")
    tab.run(f"{READ}[0].querySelector('button:enabled').click()")
    tab.wait(f"document.querySelector('#books').textContent !== {before!r}")


def test_similar_books_are_listed_in_two_senses_on_demand(tab: Tab) -> None:
    tab.run(f"{BOOKS}[0].querySelectorAll('.tools button')[1].click()")
    tab.wait(f"{BOOKS}[0].querySelectorAll('.near ol').length === 2")
    assert len(tab.run(f"[...{BOOKS}[0].querySelectorAll('.near ol')[0].children].map(String)")) == 5


def test_a_hidden_book_comes_back_when_asked_for(tab: Tab) -> None:
    first = texts(tab, BOOKS)[0]
    tab.run(f"{BOOKS}[0].querySelectorAll('.tools button')[2].click()")
    tab.wait(f"{BOOKS}[0].querySelector('bdi').textContent !== {first!r}")
    tab.run("document.querySelector('#unhide').click()")
    tab.wait(f"{BOOKS}[0].querySelector('bdi').textContent === {first!r}")


def test_a_held_out_reader_s_next_book_is_marked_where_it_is_recommended(tab: Tab, finished: Path) -> None:
    table = rank_table.read(finished / serve.RANKS)
    user_id, true_book_id = next(
        ids
        for *ids, rank in zip(
            table.user_ids.to_pylist(), table.true_book_ids.to_pylist(), table.ranks["hybrid"].full, strict=True
        )
        if rank < 5
    )
    tab.run(f"document.querySelector('#reader-id').value = {user_id!r}")
    tab.run("document.querySelector('#reader-form button').click()")
    tab.wait("document.querySelector('#books > .true')")
    (marked,) = texts(tab, "document.querySelectorAll('#books > .true')")
    assert marked.endswith(f" Volume {true_book_id}")
    assert tab.run("document.querySelector('#reader strong').textContent") == marked


def test_any_reader_is_one_of_the_held_out_ones(tab: Tab, finished: Path) -> None:
    tab.run("document.querySelector('#any-reader').click()")
    tab.wait("document.querySelector('#reader strong')")
    shown = tab.run("document.querySelector('#reader bdi').textContent")
    assert shown in rank_table.read(finished / serve.RANKS).user_ids.to_pylist()


def test_the_model_card_and_the_metrics_are_shown(tab: Tab) -> None:
    tab.run("document.querySelector('#card summary').click()")
    assert tab.run("document.querySelector('#card pre').innerText").startswith("# SASRec, a next-book recommender")
    rows = tab.run("[...document.querySelectorAll('#metrics tbody th')].map((each) => each.textContent)")
    assert rows[:2] == ["SASRec", "hybrid"]
