//! Text from others (names, messages) made fit for a line of a notice: no control characters, bounded length.

use virtuozo_model::terminal;

/// The longest message that is quoted.
const CHARS_MAX: usize = 2000;

/// Text of others without anything that ends a line, is not seen or changes how others are seen.
pub(crate) fn line(text: &str) -> String {
    let clean = |c: char| if terminal::acts(c) { ' ' } else { c };
    let mut line: String = text.chars().take(CHARS_MAX).map(clean).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

/// The first `max` characters.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    if text.chars().nth(max).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Leaves the first `max` of a list; returns how many there were more.
pub(crate) fn bounded<T>(list: &mut Vec<T>, max: usize) -> usize {
    let more = list.len().saturating_sub(max);
    list.truncate(max);
    more
}

/// `1 guest`, `2 guests`.
pub(crate) fn count(n: usize, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_on_its_line() {
        assert_eq!(
            line("a\r\nBcc: x\u{2028}y\u{202e}z\u{1b}[1m"),
            "a  Bcc: x y z [1m"
        );
        let unseen = "a\u{200b}b\u{ad}c\u{feff}d\u{200e}e\u{e0041}f";
        assert_eq!(line(unseen), "a b c d e f");
        let long = "é".repeat(CHARS_MAX + 1);
        assert_eq!(line(&long).chars().count(), CHARS_MAX + 1);
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
