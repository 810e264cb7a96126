"""The web page in a real browser: search, filters, one dialogue, keyboard, phone, languages."""

import json
import re
import shutil
import time

import pytest
from service_process import ATTACK, ODD_ID

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no `chromium` here; apt-get install chromium"
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CARD = ".card[data-dialogue]"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, service):
    """Opens an address of the page; fails at the end on script errors and refused content."""
    opened, errors = [], []

    def open_page(address="/", key="a", **options):
        options = {"locale": "en-GB", "viewport": {"width": 1100, "height": 800}, **options}
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        opened.append(context)
        if key:
            stored = json.dumps(service.keys[key])
            context.add_init_script(f"sessionStorage.setItem('api-key', {stored})")
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: errors.append(said.text) if "Content Security" in said.text else None,
        )
        hosts = set()
        page.on("request", lambda request: hosts.add(re.sub(r"(//[^/]*)/.*", r"\1", request.url)))
        page.hosts = hosts
        page.goto(service.url + address)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert errors == []


def eventually(condition, seconds=10.0):
    """Whether something becomes true; scripts in strings are refused by the page's own policy."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def search(page, query):
    page.fill("#query", query)
    page.press("#query", "Enter")
    page.wait_for_selector(CARD)
    page.wait_for_selector("#results[aria-busy=false]")


def test_a_search_shows_lit_bubbles_and_pictures(visit, service):
    page = visit()
    page.wait_for_selector(".welcome")
    search(page, "sailing boat")
    card = page.locator(CARD).first
    assert card.locator("h2").text_content() == "Boats & <b>buoys</b>"
    assert "sailing boat" in card.locator(".turn.lit .text").first.text_content()
    assert re.search(r"\d+%", card.locator(".turn.lit .sure").first.text_content())
    shown = "document.querySelector('.picture img').naturalWidth"
    assert eventually(lambda: page.evaluate(shown) == 64)
    assert page.locator("#status").text_content().startswith(f"{page.locator(CARD).count()} conv")
    assert page.url == f"{service.url}/?q=sailing+boat"
    assert page.hosts == {service.url}


def test_a_search_can_be_shared_with_its_filters(visit):
    page = visit("/?q=the+boat&p=Ann&pictures=1&from=2025-03-01&to=2025-03-01")
    page.wait_for_selector(CARD)
    assert page.locator(CARD).count() == 1
    assert page.input_value("#query") == "the boat"
    assert page.locator(".chip").text_content() == "Ann"
    assert page.is_checked("#pictures")
    page.click("#clear")
    page.wait_for_url("**/?q=the+boat")
    assert page.locator(".chip").count() == 0
    assert not page.is_checked("#pictures")
    assert page.input_value("#from") == ""


def test_a_person_becomes_a_filter(visit):
    page = visit("/?q=milestone+on+the+road")
    page.wait_for_selector(CARD)
    page.fill("#person", "Cleo")
    page.press("#person", "Enter")
    page.wait_for_url("**p=Cleo")
    assert eventually(lambda: page.locator(CARD).count() == 1)
    page.click(".chip button")
    page.wait_for_url(lambda url: "p=" not in url)


def test_text_stays_text(visit):
    page = visit("/?q=what+does+pwned+mean")
    page.wait_for_selector(CARD)
    assert page.locator(CARD, has_text="<script>").count() >= 1
    page.goto(page.url.split("?")[0] + "?d=attack&t=0")
    page.wait_for_selector("#turn-0")
    assert page.locator("#turn-0 .text").text_content() == ATTACK
    assert page.locator("#reader h1").text_content() == ATTACK
    assert page.locator("#reader script, #reader .text img").count() == 0
    assert page.evaluate("window.pwned") is None


def test_an_attack_in_the_address_stays_text(visit):
    attack = "%3Cimg%20src%3Dx%20onerror%3D%22window.pwned%3D1%22%3E"
    page = visit(f"/?q={attack}&p={attack}&d={attack}&t={attack}&from={attack}")
    page.wait_for_selector(".note.error")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img").count() == 0


def test_show_in_conversation_and_back(visit):
    page = visit("/?q=sailing+boat")
    page.wait_for_selector(CARD)
    page.click(f"{CARD} .open >> nth=0")
    page.wait_for_selector("#reader .turn.target.lit")
    assert "d=boats" in page.url
    assert re.search(r"#turn-\d+$", page.url)
    assert page.locator("#reader .turn").count() == 3
    assert page.locator(".jumps").text_content().startswith("Match ")
    page.click("#back")
    page.wait_for_selector(CARD)
    assert page.url.endswith("/?q=sailing+boat")
    assert not page.is_visible("#reader")


def test_a_deep_link_opens_at_its_turn_and_lights_the_matches(visit):
    page = visit("/?d=boats&t=1&q=sailing+boat#turn-1")
    page.wait_for_selector("#turn-1.target")
    page.wait_for_selector("#reader .turn.lit")


def test_an_odd_id_opens(visit):
    page = visit(f"/?d={ODD_ID.replace(' ', '%20').replace('#', '%23').replace('?', '%3F')}&t=1")
    page.wait_for_selector("#turn-1.target")
    assert page.locator("#reader h1").text_content() == ODD_ID


def test_a_long_dialogue_pages_in_both_directions_without_jumping(visit):
    page = visit("/?d=long-road&t=75")
    page.wait_for_selector("#turn-75.target")
    page.wait_for_timeout(100)
    top = page.evaluate("document.querySelector('#turn-75').getBoundingClientRect().top")
    assert 0 < top < 800
    page.mouse.move(500, 400)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(500)
    now = page.evaluate("document.querySelector('#turn-75').getBoundingClientRect().top")
    assert abs(now - top - 600) < 40
    for _ in range(30):
        if page.locator("#turn-0").count():
            break
        page.mouse.wheel(0, -3000)
        page.wait_for_timeout(100)
    page.wait_for_selector("text=Beginning of the conversation")
    for _ in range(60):
        if page.locator("#turn-149").count():
            break
        page.mouse.wheel(0, 6000)
        page.wait_for_timeout(100)
    page.wait_for_selector("text=End of the conversation")
    order = page.eval_on_selector_all("#reader .turn", "all => all.map(n => +n.dataset.turn)")
    assert order == list(range(150))


def test_a_turn_beyond_the_end_opens_the_dialogue(visit):
    page = visit("/?d=boats&t=999")
    page.wait_for_selector("#turn-2.target")


def test_an_unknown_dialogue_is_explained(visit):
    page = visit("/?d=unknown&t=0")
    page.wait_for_selector(".note.error")
    assert "unknown" in page.locator(".note.error").text_content()


def test_the_keyboard_is_enough(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("harbor lantern")
    page.keyboard.press("Enter")
    page.wait_for_selector(CARD)
    page.wait_for_selector("#results[aria-busy=false]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.dataset.dialogue")
    assert second == page.locator(CARD).nth(1).get_attribute("data-dialogue")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#reader .turn.target")
    page.keyboard.press("Escape")
    page.wait_for_selector(CARD)
    assert page.evaluate("document.activeElement.dataset.dialogue") == second


def test_everything_reachable_by_tab_shows_its_focus_and_has_a_name(visit):
    page = visit("/?q=sailing+boat")
    page.wait_for_selector(f"{CARD} .picture")
    nameless = page.eval_on_selector_all(
        "button, a, input",
        """all => all.filter(n => n.offsetParent && !(n.textContent.trim() || n.ariaLabel
            || n.labels?.length || n.querySelector('img[alt]'))).map(n => n.outerHTML)""",
    )
    assert nameless == []
    first = []
    for _ in range(4):
        page.keyboard.press("Tab")
        first.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert first[0] == "skip"
    assert "query" in first or "home" in first


def test_a_picture_opens_large_and_closes_with_escape(visit):
    page = visit("/?q=sailing+boat&pictures=1")
    page.click(f"{CARD} .picture")
    page.wait_for_selector("#lightbox[open] img")
    page.keyboard.press("Escape")
    page.wait_for_selector("#lightbox:not([open])", state="attached")
    assert page.locator(CARD).count() == 1


def test_a_phone_shows_everything_without_sideways_scrolling(visit):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page = visit("/?q=sailing+boat", **phone)
    page.wait_for_selector(CARD)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(f"{CARD} .open").first.tap()
    page.wait_for_selector("#reader .turn.target")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#back").bounding_box()["width"] >= 36


def test_both_languages(visit):
    page = visit("/?q=sailing+boat", locale="zh-CN")
    page.wait_for_selector(CARD)
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert "在对话中查看" in page.locator(".open").first.text_content()
    assert page.get_attribute("#query", "placeholder") == "想在聊天记录里找什么？"
    page.click("#language")
    page.wait_for_selector("text=Show in conversation >> nth=0")
    page.reload()
    page.wait_for_selector("text=Show in conversation >> nth=0")
    assert page.get_attribute("html", "lang") == "en"


def test_both_languages_hold_the_same_texts(visit):
    page = visit()
    keys, holes = page.evaluate(
        """async () => {
            const [{ en }, { zh }] = await Promise.all(
                [import("/web/i18n.en.js"), import("/web/i18n.zh.js")]);
            const holes = (text) => (text.match(/\\{\\w+\\}/g) ?? []).sort().join();
            return [[Object.keys(en), Object.keys(zh)],
                Object.keys(en).filter((key) => holes(en[key]) !== holes(zh[key]))];
        }"""
    )
    assert keys[0] == keys[1]
    assert holes == []


def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(visit, service):
    page = visit("/?q=sailing+boat", key=None)
    page.fill("#key", "wrong")
    page.press("#key", "Enter")
    page.wait_for_selector("text=does not know this key")
    page.fill("#key", service.keys["a_reader"])
    page.press("#key", "Enter")
    page.wait_for_selector(CARD)
    assert page.evaluate("localStorage.getItem('api-key')") is None
    assert service.keys["a_reader"] not in page.url
    page.click("#forget")
    page.wait_for_selector("#key")
    assert page.locator(CARD).count() == 0


def test_nothing_found_says_what_to_try(visit):
    page = visit("/?q=sailing+boat&p=Nobody")
    page.wait_for_selector(".note.empty")
    assert "filters" in page.locator(".note.empty").text_content()


def test_a_failure_is_shown_and_can_be_repeated(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    body = json.dumps({"error": {"code": "overloaded", "message": "the service is full"}})
    page.route("**/v1/search/stream", lambda route: route.fulfill(status=429, body=body))
    page.fill("#query", "sailing boat")
    page.press("#query", "Enter")
    page.wait_for_selector(".note.error >> text=the service is full")
    page.unroute("**/v1/search/stream")
    page.click(".note.error button")
    page.wait_for_selector(CARD)
    assert page.locator(".note.error").count() == 0


def test_a_partial_answer_says_so(visit):
    page = visit()
    page.wait_for_selector(".welcome")
    done = {"query": "x", "filters": {}, "partial": True, "took_ms": 5.0, "order": []}
    text = f"event: done\ndata: {json.dumps(done)}\n\n"
    page.route("**/v1/search/stream", lambda route: route.fulfill(status=200, body=text))
    page.fill("#query", "x")
    page.press("#query", "Enter")
    page.wait_for_selector(".note.partial")


CONTRAST = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (let n = node; n; n = n.parentElement) {
            const color = parse(getComputedStyle(n).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const bad = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !node.offsetParent || node.closest(".hidden, .skip, noscript")) continue;
        const style = getComputedStyle(node);
        const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) bad.push([node.className || node.tagName, ratio.toFixed(2)].join(" "));
    }
    return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit, scheme):
    page = visit("/?q=sailing+boat&pictures=1", color_scheme=scheme)
    page.wait_for_selector(CARD)
    assert page.evaluate(CONTRAST) == []
    page.goto(page.url + "&d=long-road&t=20")
    page.wait_for_selector("#reader .turn.target")
    assert page.evaluate(CONTRAST) == []
