//! Texts from outside (names, paths, what a library or a host answers) as they may be stored and shown on one line.

use std::borrow::Cow;

/// The most bytes of a name from outside.
pub const MAX_NAME_BYTES: usize = 512;
/// The most bytes of a path or a sentence from outside.
pub const MAX_SENTENCE_BYTES: usize = 8192;

const CUT: char = '…';

/// A text on one line and of at most `most_bytes`: line ends and tabs become blanks, other control characters (no
/// database stores a NUL) the replacement character. What is cut off at the end is marked.
pub fn one_line(text: &str, most_bytes: usize) -> Cow<'_, str> {
    if text.len() <= most_bytes && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for character in text.chars() {
        let shown = match character {
            '\n' | '\r' | '\t' => ' ',
            control if control.is_control() => char::REPLACEMENT_CHARACTER,
            other => other,
        };
        if line.len() + shown.len_utf8() > most_bytes {
            let room = most_bytes.saturating_sub(CUT.len_utf8());
            line.truncate(line.floor_char_boundary(room));
            line.push(CUT);
            break;
        }
        line.push(shown);
    }
    Cow::Owned(line)
}

/// [`one_line`] of a name.
pub fn name(text: &str) -> String {
    one_line(text, MAX_NAME_BYTES).into_owned()
}

/// [`one_line`] of a sentence or a path.
pub fn sentence(text: &str) -> String {
    one_line(text, MAX_SENTENCE_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_one_line_without_control_characters() {
        for (text, line) in [
            ("Küche 1", "Küche 1"),
            ("a\0b", "a\u{fffd}b"),
            ("a\nb\tc\r", "a b c "),
            ("\x1b[31m", "\u{fffd}[31m"),
            ("a\u{9b}m", "a\u{fffd}m"),
            ("12345678901", "1234567…"),
            ("123456789ü", "1234567…"),
            ("üüüüüü", "üüü…"),
        ] {
            assert_eq!(one_line(text, 10), line, "{text:?}");
        }
    }
}
