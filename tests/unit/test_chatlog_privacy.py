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
        ("server at 192.168.10.25", "ip", "192.168.10.25"),
        ("come to 221 Baker Street tonight", "address", "221 Baker Street"),
        ("12 Elm St., Apt 4B, Springfield, IL 62704", "address", None),
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
        "card 4111 1111 1111 1112",
        "一路顺风，这条路很长",
        "I walked 3 miles down the road",
        "we came 2nd in 2024",
    ],
)
def test_ordinary_numbers_stay(text):
    assert find_identifiers(text) == []


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
        ("010-62345678", "(010) 62345678", "+86 10 6234 5678", "+86 010 6234 5678"),
        ("415-555-2671", "(415) 555-2671", "+1 415-555-2671", "1 415.555.2671", "+14155552671"),
        ("+44 20 7946 0958", "+442079460958"),
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
