import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.dataset.chat_text import ChatRules, WordLists
from ffr_core.dataset.chatlog import prepare
from ffr_core.dataset.names import NameTable, name_table, replace_names
from ffr_core.dataset.privacy import (
    Pseudonyms,
    find_identifiers,
    is_chinese_id,
    luhn,
    mask_identifiers,
)
from ffr_core.errors import InputError
from ffr_core.types import Dialogue, Image, Turn

KEY = Pseudonyms("a secret key")


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("write to ann.lee+x@mail.example.org please", "email", "ann.lee+x@mail.example.org"),
        ("我的邮箱是zhang_3@example.cn，谢谢", "email", "zhang_3@example.cn"),
        ("打我手机13800138000", "phone", "13800138000"),
        ("电话：138-0013-8000。", "phone", "138-0013-8000"),
        ("+86 138 0013 8000", "phone", "+86 138 0013 8000"),
        ("手机１３８００１３８０００", "phone", "１３８００１３８０００"),
        ("座机010-62345678", "phone", "010-62345678"),
        ("call (555) 010-1234 now", "phone", "(555) 010-1234"),
        ("call 555-010-1234", "phone", "555-010-1234"),
        ("+44 20 7946 0958", "phone", "+44 20 7946 0958"),
        ("身份证11010519491231002X哦", "id_card", "11010519491231002X"),
        ("my SSN is 078-05-1120", "ssn", "078-05-1120"),
        ("card 4111 1111 1111 1111 ok", "bank_card", "4111 1111 1111 1111"),
        ("卡号6222021234567890128", "bank_card", None),
        ("passport: G12345678", "passport", "G12345678"),
        ("护照号码是E12345678", "passport", "E12345678"),
        ("微信号：li_ming_88", "account", "li_ming_88"),
        ("加我微信 abc12345", "account", "abc12345"),
        ("加我微信abc12345", "account", "abc12345"),
        ("微信号abc12345", "account", "abc12345"),
        ("我的QQ 123456789", "account", "123456789"),
        ("QQ123456789", "account", "123456789"),
        ("find me on telegram @annlee", "account", "annlee"),
        ("+1\u00a0(415)\u00a0555\u20112671", "phone", "+1\u00a0(415)\u00a0555\u20112671"),
        ("\u202a+49\u00a01511\u00a01234567\u202c", "phone", "+49\u00a01511\u00a01234567"),
        ("+33\u202f6\u202f12\u202f34\u202f56\u202f78", "phone", None),
        ("010-6234 5678", "phone", "010-6234 5678"),
        ("021-6234-5678", "phone", "021-6234-5678"),
        ("0755-8320 1234", "phone", "0755-8320 1234"),
        ("0044 20 7946 0958", "phone", "0044 20 7946 0958"),
        ("020 7946 0958", "phone", "020 7946 0958"),
        ("07911 123456", "phone", "07911 123456"),
        ("06 12 34 56 78", "phone", "06 12 34 56 78"),
        ("98765 43210", "phone", "98765 43210"),
        ("ring 4155552671", "phone", "4155552671"),
        ("ring 415-5552671", "phone", "415-5552671"),
        ("ruf an: 0151/23408731", "phone", "0151/23408731"),
        ("01512 3408731", "phone", "01512 3408731"),
        ("06 12345678", "phone", "06 12345678"),
        ("+49 15 1234 567 89", "phone", "+49 15 1234 567 89"),
        ("0049 15 1234 567 89", "phone", "0049 15 1234 567 89"),
        ("server at 192.168.10.25", "ip", "192.168.10.25"),
        ("come to 221 Baker Street tonight", "address", "221 Baker Street"),
        ("meet at 221 baker street", "address", "221 baker street"),
        (
            "12 Elm St., Apt 4B, Springfield, IL 62704",
            "address",
            "12 Elm St., Apt 4B, Springfield, IL 62704",
        ),
        (
            "住在北京市海淀区中关村大街27号2单元301室",
            "address",
            "北京市海淀区中关村大街27号2单元301室",
        ),
    ],
)
def test_identifiers(text, kind, found):
    hits = find_identifiers(text)
    if kind == "bank_card" and found is None:
        assert luhn("6222021234567890128") is bool(hits)
        return
    assert [h.kind for h in hits] == [kind]
    if found is not None:
        spoken = text[hits[0].start : hits[0].end]
        assert found in spoken and len(spoken) <= len(found) + 3


@pytest.mark.parametrize(
    "text",
    [
        "see you at 10:30 on 2025-03-14",
        "the order is 20250314, 1234 pieces for 99.95",
        "号码 11010519491231002 少一位",
        "version 1.2.3 of 12345678",
        "2025-03-04 2025-03-05 08:30",
        "order 2025031412 of 1234 5678 123456",
        "pi is 3.14159265358",
        "the code is x_4155552671 or $4155552671",
        "8.03.2025, score 0-8 3-1 8-3",
        "3+1234567890",
        "it costs 400 500 600",
        "the numbers are 03 05 07 09 11 12",
        "card 4111 1111 1111 1112",
        "一路顺风，这条路很长",
        "I walked 3 miles down the road",
        "we came 2nd in 2024",
        "send me 3 Google Drive links",
        "we bought 2 street food",
        "20 popular street artists",
        "我们逛街8号再去",
        "我们逛街18号再去",
        "明天街3号见",
        "我走这条路5号到北京",
        "我走这条路15号到北京",
        "走胜利路2号线",
        "走胜利路10号线",
        "I sent it on WeChat yesterday",
        "用微信支付, 微信 pay, WeChat group",
        "QQ 50000人在线",
    ],
)
def test_ordinary_numbers_stay(text):
    assert find_identifiers(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("card 4111 1111 1111 1111 12/25", "card [bank_card] 12/25"),
        ("4111111111111111 12/25", "[bank_card] 12/25"),
        ("4111 1111 1111 1111 123 cvv", "[bank_card] 123 cvv"),
        ("no 12 4111-1111-1111-1111", "no 12 [bank_card]"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[bank_card] [bank_card]"),
        ("221 Baker Street, Then we go", "[address], Then we go"),
        ("我家住在北京市朝阳区建国路88号", "我家住在[address]"),
        ("明天上午十点我等你在人民路100号见面", "明天上午十点我等你在[address]见面"),
        ("建国路88号2024年见", "[address]2024年见"),
        ("住建国路八十八号", "住[address]"),
        ("在北京市建国路8号见", "在[address]见"),
        ("从解放路23号到人民路12号", "从[address]到[address]"),
        ("寄到杭州市文三路478号华星时代广场A座, 谢谢", "寄到[address], 谢谢"),
        ("上海市世纪大道 100 号5楼", "[address]"),
    ],
)
def test_exactly_the_identifier_goes(text, expected):
    masked, _ = mask_identifiers(text, KEY)
    assert re.sub(r"\[(\w+)-[0-9a-f]{6}\]", r"[\1]", masked) == expected


@pytest.mark.parametrize("word", ["a", "a.", "a@", "1 ", "4111 ", "+1", "(0)", "路1号", " street"])
def test_the_time_grows_with_the_length(word):
    started = time.process_time()
    find_identifiers(word * (40_000 // len(word)))
    assert time.process_time() - started < 5


def test_check_digits():
    assert luhn("79927398713") and not luhn("79927398714")
    assert is_chinese_id("11010519491231002x")
    assert not is_chinese_id("110105194912310021")
    assert not is_chinese_id("11010519491331002x")


@given(st.text(alphabet="0123456789", min_size=14, max_size=14))
def test_every_card_with_its_check_digit_is_found(digits):
    number = next(digits + c for c in "0123456789" if luhn(digits + c))
    if len(set(number)) > 1:
        masked, counts = mask_identifiers(f"pay {number} now", KEY)
        assert number not in masked and sum(counts.values()) >= 1


def test_pseudonyms_are_stable_and_keyed():
    one, _ = mask_identifiers("call 13800138000", KEY)
    two, _ = mask_identifiers("电话 138-0013-8000", Pseudonyms("a secret key"))
    other, _ = mask_identifiers("call 13800138000", Pseudonyms("another key"))
    code = one.removeprefix("call ")
    assert code in two and code not in other
    assert KEY.speaker("Ann") == KEY.speaker(" Ann ") != KEY.speaker("Bo")
    with pytest.raises(InputError, match="at least 8"):
        Pseudonyms("short")


@pytest.mark.parametrize(
    "forms",
    [
        (
            "13800138000",
            "138 0013 8000",
            "+86 138 0013 8000",
            "+86-138-0013-8000",
            "008613800138000",
        ),
        (
            "010-62345678",
            "(010) 62345678",
            "010-6234 5678",
            "010 6234 5678",
            "(010) 6234 5678",
            "+86 10 6234 5678",
            "+86 010 6234 5678",
        ),
        ("415-555-2671", "(415) 555-2671", "+1 415-555-2671", "1 415.555.2671", "+14155552671"),
        ("4155552671", "001 415 555 2671", "+1\u00a0(415)\u00a0555\u20112671"),
        ("+44 20 7946 0958", "+442079460958", "0044 20 7946 0958", "+44 (0)20 7946 0958"),
    ],
)
def test_one_phone_number_has_one_pseudonym(forms):
    masked = {mask_identifiers(f"call {form} now", KEY)[0] for form in forms}
    assert len(masked) == 1 and "[phone-" in masked.pop()


def test_different_phone_numbers_stay_different():
    numbers = ("13800138000", "380-013-8000", "+44 138 0013 8000", "+1 380-013-8001")
    assert len({mask_identifiers(number, KEY)[0] for number in numbers}) == len(numbers)


def test_names_inside_texts():
    table = NameTable(names={"Ann Lee": "P1", "Ann": "P1", "小明": "P2", "M": "P3"})
    assert replace_names("ask ann lee or Ann, not Annabel; M too", table) == (
        "ask P1 or P1, not Annabel; M too",
        2,
    )
    assert replace_names("@小明你好", table) == ("@P2你好", 1)
    # A name that is an ordinary word too counts only as it is written.
    will = NameTable(names={"Will": "P4"})
    assert replace_names("Will will come", will) == ("P4 will come", 1)


ANNA, MING = KEY.speaker("Anna Smith"), KEY.speaker("王小明")


@pytest.mark.parametrize(
    ("speaker", "text", "expected"),
    [
        ("Anna Smith", "anna smith and Smith", "P and P"),
        ("Anna Smith", "SMITH's, 跟Smith说", "P's, 跟P说"),
        ("Anna Smith", "a smith, Smithers, Blacksmith", "a smith, Smithers, Blacksmith"),
        ("anna smith", "Smith", "P"),
        ("Smith, Anna (Work)", "Smith, Anna", "P, P"),
        ("José García Márquez", "JOSÉ, García or Márquez, not Garcías", "P, P or P, not Garcías"),
        ("Tom From The Gym", "From the gym. The Gym", "From the gym. The P"),
        ("Ming Li", "Li and Ming", "Li and P"),
        ("王小明", "小明说", "P说"),
        ("王 小明", "王小明和小明", "P和P"),
        ("Alex 王小明", "alex、王小明、小明", "P、P、P"),
        ("欧阳小明", "小明来了", "P来了"),
        ("小明", "明天", "明天"),
        ("不知道", "我也知道", "我也知道"),
        ("The Boss", "The weather, the boss and Boss", "The weather, the boss and Boss"),
        ("The Boss", "ask The Boss", "ask P"),
        ("Dr. Smith", "Dr Brown, Smith", "Dr Brown, P"),
        ("Customer Support", "the customer support team", "the customer support team"),
        ("Uncle Bob", "uncle Tom, Bob", "uncle Tom, P"),
        ("Anna (Work)", "Anna is at Work", "P is at Work"),
        ("Will Smith", "Will will come", "P will come"),
        ("李明(财务)", "李明说财务的事", "P说财务的事"),
        ("财务-李明", "李明说财务的事", "P说财务的事"),
        ("张 伟", "张伟来了", "P来了"),
        ("张 伟 William", "张伟 or William", "P or P"),
        ("张伟 William", "张伟来了", "P来了"),
        ("李明(周末)", "周末见李明", "周末见P"),
        ("王小明(北京分公司)", "小明在北京分公司", "P在北京分公司"),
        ("妈妈", "我妈妈说", "我妈妈说"),
        # Turkish capitals match `i` in any case, but their lower case is another text.
        ("Ali Veli", "ALİ", "P"),
        ("+49 170 1234567", "+49", "+49"),
    ],
)
def test_short_forms_of_a_name(speaker, text, expected):
    found, _ = replace_names(text, name_table([speaker], KEY))
    assert found == expected.replace("P", KEY.speaker(speaker))


def test_everybody_keeps_one_pseudonym():
    table = name_table(["王小明", "Anna Smith", "Smith"], KEY)
    assert replace_names("小明 said hi to Anna", table) == (f"{MING} said hi to {ANNA}", 2)
    # Somebody whose whole name it is comes before somebody whose surname it is.
    assert replace_names("Smith", table)[0] == KEY.speaker("Smith")
    assert replace_names("小明 said hi to Smith", name_table(["王小明", "Anna Smith"], KEY)) == (
        f"{MING} said hi to {ANNA}",
        2,
    )


def test_a_prepared_chat_holds_no_name_and_no_number():
    turns = (
        Turn(
            turn_id=0,
            speaker="Ann Lee",
            text="Bo, my number is 13800138000",
            images=(
                Image(image_id=0, uri=None, caption="Ann at 221 Baker Street"),
                Image(image_id=1, uri=None, text="ann@example.org"),
            ),
        ),
        Turn(turn_id=1, speaker="Bo Chan", text="thanks Ann"),
    )
    dialogue = Dialogue(
        dialogue_id="whatsapp-ann-lee-49-170-1234567",
        turns=turns,
        title="Ann Lee and Bo Chan, +1 415-555-2671",
    )
    found = prepare(dialogue, ChatRules(), WordLists.load(), KEY)
    text = repr(found.pieces)
    for private in ("Ann", "ann-lee", "Bo", "Chan", "1380013", "1234567", "2671", "Baker"):
        assert private not in text
    assert "example.org" not in text
    assert found.pieces[0].dialogue_id == KEY.dialogue(dialogue.dialogue_id)
    assert found.pieces[0].turns[0].speaker == KEY.speaker("Ann Lee")
    assert found.counts["identifier_phone"] == 2  # in a text and in the title
    assert found.counts["identifier_email"] == 1
    assert found.counts["name"] == 5  # Bo, Ann in the caption, Ann, two in the title
