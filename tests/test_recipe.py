"""Options from the command line, and recipes as identities."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelbank.data.errors import InputError
from reelbank.data.identity import brief, differences, signature
from reelbank.data.options import option, parse, words_of
from reelbank.data.ranges import Checked
from reelbank.extract.options import ExtractOptions


@dataclass(frozen=True)
class Some(Checked):
    head: str = option("reslstm", "which", ("reslstm", "gru"))
    split: tuple[str, ...] = option(("1",), "splits")
    seed: tuple[int, ...] = option((0,), "seeds")
    rate: float = option(0.1, "rate")
    t: int | None = option(None, "steps")
    plan: bool = option(False, "plan")
    keep_crops: bool = option(False, "crops")
    files: tuple[str, ...] = option((), "files", positional=True)


def test_make_words_and_flags_say_the_same():
    expected = Some(
        head="gru",
        split=("1", "2"),
        seed=(0, 1),
        rate=0.5,
        t=3,
        plan=True,
        keep_crops=True,
        files=("a b.mp4",),
    )
    made = [
        "HEAD=gru",
        "SPLIT=1 2",
        "SEED=0,1",
        "RATE=.5",
        "T=3",
        "PLAN=1",
        "KEEP_CROPS=1",
        "a b.mp4",
    ]
    flags = [
        "--head",
        "gru",
        "--split=1,2",
        "--seed",
        "0 1",
        "--rate",
        "0.5",
        "--t=3",
        "--keep-crops",
        "--plan=yes",
        "a b.mp4",
    ]
    assert parse(Some, made, "train") == parse(Some, flags, "train") == expected
    assert parse(Some, [], "train") == Some()
    assert parse(Some, ["PLAN=0", "SPLIT=ride bike, run"], "train").split == ("ride bike", "run")


@pytest.mark.parametrize(
    "words",
    [
        ("cut, slice", "run"),
        ("cut, slice",),
        ('say "hi"', "a,b"),
        ('"', "ride bike"),
        ("a", "b"),
        ("a b",),
    ],
)
def test_a_word_with_a_comma_stands_in_quotation_marks(words):
    assert parse(Some, ['SPLIT="cut, slice", run'], "train").split == ("cut, slice", "run")
    assert parse(Some, words_of({"split": words}), "train").split == words


def test_positional_lists_also_come_by_name_and_files_stay_files(tmp_path, monkeypatch):
    assert parse(Some, ["FILES=one two", "three"], "fuse").files == ("one", "two", "three")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A=b.mp4").touch()
    assert parse(Some, ["A=b.mp4"], "fuse").files == ("A=b.mp4",)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("HAED=gru", "unknown option HAED; did you mean HEAD?"),
        ("--sed=1", "did you mean SEED?"),
        ("FILE=x", "did you mean FILES?"),
        ("HEAD=lstm5", "HEAD=lstm5: choose from reslstm, gru"),
        ("T=many", "T=many: must be a whole number"),
        ("SEED=0 x", "SEED=0 x: must be a list of whole numbers"),
        ("PLAN=perhaps", "PLAN=perhaps: must be 1 or 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(word, says):
    with pytest.raises(InputError) as caught:
        parse(Some, [word], "train")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_option_checks_each_word_against_its_choices():
    @dataclass(frozen=True)
    class Streams(Checked):
        stream: tuple[str, ...] = option(("rgb",), "streams", ("rgb", "flow"))

    assert parse(Streams, ["STREAM=rgb flow"], "extract").stream == ("rgb", "flow")
    with pytest.raises(InputError, match="STREAM=sound: choose from rgb, flow"):
        parse(Streams, ["STREAM=rgb sound"], "extract")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_signature_is_of_the_content_not_of_the_order(recipe):
    backwards = dict(reversed(list(recipe.items())))
    assert signature(recipe) == signature(backwards)
    assert signature(recipe | {"one more": 1}) != signature(recipe | {"one more": 2})
    assert differences(recipe, backwards) == []


def test_differences_name_nested_values():
    one = {"crops": 10, "weights": {"source": "random", "sha256": "a"}, "same": 1}
    two = {"crops": 1, "weights": {"source": "random", "sha256": "b"}, "same": 1, "new": True}
    assert differences(one, two) == [
        "crops: 10, not 1",
        "new: None, not True",
        "weights.sha256: a, not b",
    ]


def test_long_values_are_told_in_brief():
    assert (
        brief("x" * 60) == "x" * 60
        and brief("0123456789abcdef" * 4) == "0123456789ab... (64 characters)"
    )
    assert brief("x" * 61, 61) == "x" * 61 and brief(None) == "None"
    one = {"weights": {"saw": {"split": "1", "videos": "a" * 40_000}}}
    two = {"weights": {"saw": {"split": "2", "videos": "b" * 40_000}}}
    assert differences(one, two) == [
        "weights.saw.split: 1, not 2",
        "weights.saw.videos: aaaaaaaaaaaa... (40,000 characters), not bbbbbbbbbbbb... (40,000 characters)",
    ]
    assert differences(
        one, {"weights": {"saw": {"split": "1", "videos": "a" * 39_999 + "b"}}}
    )  # behind what is shown


def test_names_of_several_words_stay_whole_on_the_way_through_a_command_line() -> None:
    for classes in (("ride bike",), ("ride bike", "run"), ("run", "jump")):
        assert parse(ExtractOptions, words_of({"classes": classes}), "extract").classes == classes
