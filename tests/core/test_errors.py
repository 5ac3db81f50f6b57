"""Untrusted text in a message cannot reach the terminal raw, and a hint names what was meant."""

from __future__ import annotations

from echoic.core import errors


def test_control_characters_are_escaped_and_long_text_is_cut() -> None:
    shown = errors.show("a\x1b[31mred\r\n\u202e" + "x" * 200)
    assert shown.startswith("a\\x1b[31mred\\r\\n\\u202e")
    assert len(shown) == 80
    assert errors.show("好 😀") == "好 😀"
    assert errors.show("\ud800") == "\\ud800"


def test_the_nearest_name_is_given() -> None:
    assert errors.nearest("hiden", ["hidden", "layers"]) == " (did you mean 'hidden'?)"
    assert errors.nearest("zzz", ["b", "a"]) == " (known: a, b)"
    assert errors.nearest("zzz", []) == ""
    assert errors.nearest("zzz", [f"n{i:04}" for i in range(3000)]).endswith("n0019 and 2,980 more)")
    assert "\x1b" not in errors.nearest("zzz", ["\x1b[31m"])


def test_each_error_has_its_own_exit_code() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.EchoicError)]
    codes = {k.__name__: k.exit_code for k in kinds}
    assert len(set(codes.values())) == len(codes) - 2, codes  # Newer is a BundleError, and that a DataError
