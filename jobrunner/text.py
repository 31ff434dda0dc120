"""The one function through which every user's string goes on its way to a terminal or a log."""

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0", "\x1b": "\\e"}
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str, *, lines: bool = False) -> str:
    """The text with control, format and surrogate characters written out; `lines` lets newlines and tabs through."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if lines and one in "\n\t" else _shown(one) for one in text)


def _shown(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    import unicodedata  # 1 ms that plain text does not need

    if unicodedata.category(character) not in _UNSEEN:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
