"""The web page where it went wrong once: counts, days, errors, places in a dialogue."""

import json
import re

import pytest
import test_web
from service_process import record
from test_web import CARD, eventually, search

browser = test_web.browser
visit = test_web.visit
pytestmark = test_web.pytestmark

# Takes the place of the search: the events given, then those that `window.send` brings.
HELD_STREAM = """(events) => {
    const real = window.fetch;
    const bytes = (text) => new TextEncoder().encode(text);
    window.fetch = (path, options) => path !== "/v1/search/stream"
        ? real(path, options)
        : Promise.resolve(new Response(new ReadableStream({
            start(control) {
                window.send = (text) => { control.enqueue(bytes(text)); control.close(); };
                for (const event of events) control.enqueue(bytes(event));
            },
        })));
}"""


def cards(page):
    """Ids of the dialogues on screen, in their order."""
    return page.eval_on_selector_all(CARD, "all => all.map(node => node.dataset.dialogue)")


def failing(code, status, message="in English"):
    """An answer that is not 2xx."""
    body = json.dumps({"error": {"code": code, "message": message}})
    return lambda route: route.fulfill(status=status, body=body)


def event(name, **data):
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def found(name, score):
    """The event of a dialogue with one matching turn."""
    turn = {"turn_id": 0, "speaker": "Ann", "timestamp": None, "text": name, "images": []}
    turn |= {"matched": True, "confidence": score}
    whole = {"dialogue_id": name, "title": None, "score": score, "spans": [[0, 1]]}
    return event("dialogue", **whole, turns=[turn])


def test_more_than_ten_dialogues_are_counted_and_shown_on_demand(visit, a):
    query = {"query": "harbor lantern", "limit": 50}
    best = [d["dialogue_id"] for d in a.post("/v1/search", json=query).json()["dialogues"]]
    assert len(best) > 10
    page = visit("/?q=harbor+lantern")
    page.wait_for_selector(".more-results")
    assert cards(page) == best[:10]
    assert page.text_content("#status").startswith(f"The best 10 of {len(best)} conversations")
    page.click(".more-results")
    assert cards(page) == best
    assert page.evaluate("document.activeElement.dataset.dialogue") == best[10]
    assert page.text_content("#status").startswith(f"{len(best)} conversations")
    assert page.locator(".more-results").count() == 0


def test_the_cards_shown_while_waiting_are_the_best_and_stay(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    scores = {f"d{n:02d}": 0.3 + n / 50 for n in range(14)}
    best = sorted(scores, key=scores.get, reverse=True)
    page.evaluate(HELD_STREAM, [found(name, score) for name, score in scores.items()])
    page.fill("#query", "anything")
    page.press("#query", "Enter")
    assert eventually(lambda: cards(page) == best[:10])
    assert page.get_attribute("#results", "aria-busy") == "true"
    page.evaluate("document.querySelectorAll('.card').forEach(node => (node.mine = true))")
    done = event("done", query="anything", filters={}, partial=False, took_ms=5, order=best)
    page.evaluate("(text) => window.send(text)", done)
    page.wait_for_selector("#results[aria-busy=false]")
    assert cards(page) == best[:10]
    assert page.evaluate("[...document.querySelectorAll('.card')].every(node => node.mine)")


def test_a_service_for_fewer_dialogues_is_asked_for_ten(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    limits = []

    def refuse(route):
        limits.append(route.request.post_data_json["limit"])
        if limits[-1] > 10:
            failing("invalid", 422)(route)
        else:
            route.continue_()

    page.route("**/v1/search/stream", refuse)
    search(page, "harbor lantern")
    assert limits == [50, 10]
    assert len(cards(page)) == 10
    assert page.text_content("#status").startswith("The best 10 conversations")


def test_a_day_means_the_same_on_messages_and_in_the_filter(visit):
    """08:00 in UTC on 1 March is 22:00 the day before in Honolulu."""
    page = visit("/?q=sailing+boat", timezone_id="Pacific/Honolulu")
    boats = page.locator(".card[data-dialogue=boats]")
    boats.wait_for()
    assert "28 February 2025" in boats.locator(".about").text_content()
    assert boats.locator("time").first.text_content() == "22:00"
    for day, expected in (("2025-02-28", 1), ("2025-03-01", 0)):
        page.fill("#from", day)
        page.fill("#to", day)
        page.wait_for_url(f"**from={day}&to={day}")
        page.wait_for_selector("#results[aria-busy=false]", state="attached")
        assert eventually(lambda expected=expected: boats.count() == expected)
    page.goto(page.url.split("?")[0] + "?d=boats&t=0")
    page.wait_for_selector("#turn-0")
    assert page.locator(".day").all_text_contents() == ["Fri, 28 February 2025"]


@pytest.mark.parametrize(
    ("locale", "days"),
    [
        ("en-GB", ["Sat, 1 March 2025", "Sun, 2 March 2025"]),
        ("zh-CN", ["2025年3月1日周六", "2025年3月2日周日"]),
    ],
)
def test_a_card_says_where_the_day_changes(visit, locale, days):
    """07:50 in Tokyo on 2 March is 22:50 the day before in London, where the reader is."""
    turns = [
        {"turn_id": i, "speaker": "Ann", "timestamp": stamp, "text": text, "images": []}
        | {"matched": text == "found", "confidence": 0.9}
        for i, stamp, text in (
            (3, "2025-03-02T07:50:00+09:00", "before"),
            (4, "2025-03-02T08:00:00Z", "found"),
            (5, None, "after"),
            (9, "2025-03-02T08:05:00+00:00", "found"),
        )
    ]
    whole = {"dialogue_id": "two-days", "title": None, "score": 0.9, "spans": [[4, 5], [9, 10]]}
    page = visit(locale=locale, timezone_id="Europe/London")
    page.wait_for_selector(".welcome")
    same = {**whole, "dialogue_id": "one-day"}
    events = [event("dialogue", **whole, turns=turns), event("dialogue", **same, turns=turns[1:])]
    page.evaluate(HELD_STREAM, events)
    page.fill("#query", "anything")
    page.press("#query", "Enter")
    one, two = (page.locator(f".card[data-dialogue={name}]") for name in ("one-day", "two-days"))
    two.wait_for()
    assert days[1] in two.locator(".about").text_content()
    lines = two.locator(".day, .text").all_text_contents()
    assert lines == [days[0], "before", days[1], "found", "after", "found"]
    one.wait_for()
    assert one.locator(".day").count() == 0


def test_days_in_the_wrong_order_are_explained_and_swapped(visit):
    page = visit(locale="zh-CN")
    page.wait_for_selector(".welcome")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page.url + "?q=sailing+boat&from=2025-03-02&to=2025-03-01")
    page.wait_for_selector(".note.error")
    assert page.locator(".note.error h2").text_content() == "起始日期晚于结束日期"
    assert page.get_attribute("#from", "aria-invalid") == "true"
    assert not [url for url in asked if url.endswith("/v1/search/stream")]
    page.click(".note.error button")
    page.wait_for_url("**from=2025-03-01&to=2025-03-02")
    page.wait_for_selector(CARD)
    assert page.get_attribute("#from", "aria-invalid") == "false"


@pytest.mark.parametrize(
    ("code", "shown"), [("overloaded", "服务正忙"), ("a_new_code", "in English")]
)
def test_errors_speak_the_language_of_the_page(visit, code, shown):
    page = visit(locale="zh-CN")
    page.wait_for_selector(".welcome")
    page.route("**/v1/search/stream", failing(code, 429))
    page.fill("#query", "sailing boat")
    page.press("#query", "Enter")
    page.wait_for_selector(".note.error")
    assert shown in page.locator(".note.error p").text_content()


def test_a_search_does_not_wait_for_the_count(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    page.route("**/v1/stats", failing("unavailable", 503))
    page.goto(page.url + "?q=sailing+boat")
    page.wait_for_selector(CARD)
    assert page.locator(".note.error").count() == 0
    assert page.text_content("#counts") == ""
    page.unroute("**/v1/stats")
    assert eventually(lambda: "conversations searchable" in page.text_content("#counts"))


def test_a_dialogue_deleted_meanwhile_leaves_a_way_back(visit):
    page = visit()
    search(page, "sailing boat")
    rest = [name for name in cards(page) if name != "boats"]
    page.route("**/v1/dialogues/boats?*", failing("not_found", 404))
    page.click(".card[data-dialogue=boats] .open >> nth=0")
    page.wait_for_selector(".note.error >> text=boats")
    assert page.text_content("#status") == ""
    assert cards(page) == []
    page.click(".note.error .leave")
    page.wait_for_url("**/?q=sailing+boat")
    assert eventually(lambda: cards(page) == rest)
    assert page.locator(".note.error").count() == 0


def test_a_dialogue_that_did_not_open_can_be_tried_again(visit):
    page = visit()
    page.route("**/v1/dialogues/boats?*", failing("unavailable", 503))
    page.goto(page.url + "?d=boats&t=1")
    page.wait_for_selector(".note.error")
    page.unroute("**/v1/dialogues/boats?*")
    page.click(".note.error button")
    page.wait_for_selector("#turn-1.target")
    assert page.locator(".note.error").is_hidden()


def test_a_page_above_repeats_neither_day_nor_name(visit, a):
    try:
        texts = [f"verse {n} of the long monologue" for n in range(100)]
        answer = a.post("/v1/dialogues", json=record("monologue", texts, speakers=("Ann",)))
        assert answer.status_code == 201, answer.text
        page = visit("/?d=monologue&t=75")
        page.wait_for_selector("#turn-75.target")
        page.mouse.move(500, 400)
        for _ in range(40):
            if page.locator("#turn-0").count():
                break
            page.mouse.wheel(0, -3000)
            page.wait_for_timeout(100)
        assert page.locator(".day").count() == 1
        assert page.locator(".speaker").count() == 1
        assert page.locator(".thread .avatar").count() == 1
        first = "document.querySelector('.thread').firstElementChild.className"
        assert page.evaluate(first) == "day"
    finally:
        a.delete("/v1/dialogues/monologue")


def test_back_closes_a_picture_and_nothing_else(visit, service):
    page = visit()
    page.wait_for_selector(".welcome")
    search(page, "sailing boat")
    address, shown = page.url, cards(page)
    page.click(f"{CARD} .picture >> nth=0")
    page.wait_for_selector("#lightbox[open]")
    page.go_back()
    page.wait_for_selector("#lightbox:not([open])", state="attached")
    assert (page.url, cards(page)) == (address, shown)
    page.click(f"{CARD} .picture >> nth=0")
    page.wait_for_selector("#lightbox[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#lightbox:not([open])", state="attached")
    assert eventually(lambda: not page.evaluate("history.state.picture ?? false"))
    assert (page.url, cards(page)) == (address, shown)
    page.go_back()
    page.wait_for_selector(".welcome")
    assert page.url == f"{service.url}/"


def scroll_on(page, start):
    """Scrolls a dialogue by hand; returns the turn that the address names afterwards."""
    page.mouse.move(500, 400)
    page.mouse.wheel(0, 1500)
    page.wait_for_url(lambda url: not url.endswith(f"#turn-{start}"))
    page.wait_for_timeout(600)
    return int(re.search(r"[?&]t=(\d+)", page.url).group(1))


def test_the_address_follows_the_turn_being_read(visit):
    page = visit("/?d=long-road&t=40#turn-40")
    page.wait_for_selector("#turn-40.target")
    turn = scroll_on(page, 40)
    assert turn > 45
    middle = f"document.elementFromPoint(500, 400).closest('#turn-{turn}') !== null"
    box = page.locator(f"#turn-{turn}").bounding_box()
    assert box["y"] - 10 <= 400 <= box["y"] + box["height"]
    page.reload()
    page.wait_for_selector(f"#turn-{turn}.target")
    assert eventually(lambda: page.evaluate(middle))
    page.click("#language")
    page.wait_for_selector("text=复制链接")
    page.wait_for_selector(f"#turn-{turn}.target")


def test_copied_links_and_stamps_lead_to_their_message(visit, service):
    page = visit("/?d=long-road&t=40#turn-40")
    page.wait_for_selector("#turn-40.target")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    turn = scroll_on(page, 40)
    page.click(".copy")
    page.wait_for_selector("#toast.shown")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{service.url}/?d=long-road&t={turn}#turn-{turn}"
    assert page.get_attribute(f"#turn-{turn + 1} .stamp", "href") == (
        f"/?d=long-road&t={turn + 1}#turn-{turn + 1}"
    )
    page.click(f"#turn-{turn + 1} .stamp")
    page.wait_for_selector(f"#turn-{turn + 1}.target")
    assert page.url.endswith(f"#turn-{turn + 1}")
    page.wait_for_timeout(600)
    assert page.url.endswith(f"#turn-{turn + 1}")


def test_a_tall_message_opens_at_its_beginning_and_is_cut_in_its_card(visit, a):
    try:
        lines = "\n".join(f"line {n} of the hippopotamus inventory" for n in range(80))
        texts = ["who has the hippopotamus inventory?", lines, "thanks"]
        assert a.post("/v1/dialogues", json=record("tall", texts)).status_code == 201
        page = visit("/?d=tall&t=1")
        page.wait_for_selector("#turn-1.target")
        assert 0 <= page.locator("#turn-1").bounding_box()["y"] <= 120
        page.goto(page.url.split("?")[0] + "?q=hippopotamus+inventory")
        long = page.locator(".card[data-dialogue=tall] .text", has_text="line 79")
        long.wait_for()
        cut = long.bounding_box()["height"]
        page.click(".card[data-dialogue=tall] .all")
        assert cut < 250 < long.bounding_box()["height"]
    finally:
        a.delete("/v1/dialogues/tall")


def test_people_of_one_dialogue_differ_in_color_and_keep_it(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    names = [f"Person {n}" for n in range(12)]
    script = "async (all) => { const { hue } = await import('/web/colors.js'); return %s; }"
    first = page.evaluate(script % "all.map((name) => hue('x', name))", names)
    again = page.evaluate(script % "all.toReversed().map((name) => hue('x', name))", names)
    assert len(set(first[:10])) == 10
    assert again == first[::-1]


def test_a_name_with_a_comma_becomes_one_person(visit):
    page = visit("/?q=sailing+boat")
    page.wait_for_selector(CARD)
    page.focus("#person")
    page.keyboard.type("Smith, John")
    page.keyboard.press("Enter")
    page.wait_for_url("**p=Smith%2C+John")
    page.keyboard.type("Ann")
    assert page.locator(".chip").count() == 1
    page.keyboard.press("Enter")
    assert eventually(lambda: page.locator(".chip").all_text_contents() == ["Smith, John", "Ann"])
    assert page.locator(".or").all_text_contents() == ["or"]


def test_what_is_typed_before_the_count_arrives_stays(visit):
    page = visit()
    page.route("**/v1/stats", lambda route: None)
    page.goto(page.url)
    page.fill("#query", "sailing")
    page.wait_for_selector(".welcome")
    assert page.input_value("#query") == "sailing"


def test_escape_keeps_the_query(visit):
    page = visit()
    search(page, "sailing boat")
    page.focus("#query")
    page.keyboard.press("Escape")
    assert page.input_value("#query") == "sailing boat"
    assert page.evaluate("document.activeElement.id") != "query"


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_a_phone_shows_every_filter_and_the_whole_hint(visit, locale):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page = visit("/?q=&from=2025-03-01", locale=locale, **phone)
    page.wait_for_selector(".welcome")
    boxes = [page.locator(f"#{name}").bounding_box() for name in ("person", "from", "to", "clear")]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
    hint = """() => {
        const field = document.querySelector("#query");
        const pen = document.createElement("canvas").getContext("2d");
        pen.font = getComputedStyle(field).font;
        return pen.measureText(field.placeholder).width <= field.clientWidth;
    }"""
    assert page.evaluate(hint)
