"""Writing systems without spaces between words, and characters that belong to the one before them."""

import re
import unicodedata

HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\uff66-\uff9f"
SOUTH_EAST_ASIAN = (
    "\u0e01-\u0eff"  # Thai and Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese and Javanese
)
TIBETAN = "\u0f00-\u0fff"
PUNCTUATION = "\u3000-\u3004\u3008-\u303f\uff01-\uff65"

CHINESE, HANGUL = re.compile(f"[{HAN}]"), re.compile("[\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff]")
UNSPACED = re.compile(f"[{HAN}{KANA}{SOUTH_EAST_ASIAN}{TIBETAN}]")
_BLOCKS = (range(0x300, 0x2100), range(0x3000, 0x3100), range(0xA600, 0xAC00), range(0xFE00, 0xFE30))
_MARKS = "".join(chr(code) for block in _BLOCKS for code in block if unicodedata.category(chr(code))[0] == "M")
MARK = re.compile(f"[{_MARKS}]")
SYLLABLE = re.compile(f"([{HAN}{KANA}{SOUTH_EAST_ASIAN}{TIBETAN}{PUNCTUATION}][{_MARKS}]*)")
"""A character of such a script with the marks that belong to it, or a punctuation mark as wide as a character."""
