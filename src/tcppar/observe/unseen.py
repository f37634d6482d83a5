"""Characters that a line must not show as they are, for a reader would see another line than the one that was written.

They are line breaks of all kinds (str.splitlines), what a terminal would obey, and what changes the look of a line
without being seen itself: format characters, of which some turn the direction of others round, and characters of no
width. In Unicode's terms: Bidi_Control, Default_Ignorable_Code_Point, and the categories Cc, Cf, Zl and Zp
(https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt and PropList.txt). Tabs harm nobody.
"""

import re

UNSEEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def escaped(text: str) -> str:
    """A text with escapes in place of what is not seen, as Python writes them: `\\x1b`, `\\u202e`."""
    if text.isascii() and text.isprintable():  # nearly every one is, and this costs less than a search
        return text
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)
