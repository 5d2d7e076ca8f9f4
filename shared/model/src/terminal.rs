//! Text that others have made, as people may safely be shown it and paste it: on a terminal, in a log line, in a
//! command that a message proposes.

use std::{borrow::Cow, fmt};

/// Whether a terminal would act on a character instead of showing it, would show what stands around it in another
/// order, or would show nothing for it.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // The soft hyphen, and marks, embeddings, overrides and isolates of bidirectional text.
            '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Separators of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Fillers, joiners of words, marks of byte order and of notes between lines, language tags.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{180e}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A line for people: characters that a terminal would act on are spelled out, `\n` and `\u{1b}`, so that it stays one
/// line and says what it shows. Escaping it twice changes nothing more.
pub fn escaped(text: &str) -> Cow<'_, str> {
    spelled(text, acts)
}

/// Like [`escaped`], for text of several lines: line feeds stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    spelled(text, |c| c != '\n' && acts(c))
}

/// JSON for people and programs: the same value, with the characters that a terminal would act on as `\u001b`. Line
/// feeds, which stand between values only, stay.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    replaced(
        json,
        |c| c != '\n' && acts(c),
        |c, into| {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                *into += &format!("\\u{unit:04x}");
            }
        },
    )
}

/// A name as one word of a command that a shell takes: in quotes where it needs them. Characters that a terminal would
/// act on are written so that shells with `$'…'` (bash, zsh, ksh, busybox) make them again.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    if !word.contains(acts) {
        return Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if acts(c) => {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    quoted += &format!("\\{byte:03o}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// A command of `virtuozo` that a message proposes, as it can be pasted: `words` as they are, then the arguments, each
/// as one word.
pub fn command<T: fmt::Display>(words: &str, arguments: &[T]) -> String {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let mut command = format!("virtuozo {words}");
    // What begins with a dash is no option.
    if arguments.iter().any(|argument| argument.starts_with('-')) {
        command += " --";
    }
    for argument in &arguments {
        command += " ";
        command += &shell_word(argument);
    }
    command
}

fn spelled(text: &str, is_spelled: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, is_spelled, |c, into| into.extend(c.escape_default()))
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_replaced(c) {
            replace(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("vm\u{202e}x", "vm\\u{202e}x"),
            (
                "a\r\nBcc: x\tb\u{7}\u{9b}\u{7f}",
                "a\\r\\nBcc: x\\tb\\u{7}\\u{9b}\\u{7f}",
            ),
            ("\u{2028}\u{feff}\u{e0041}", "\\u{2028}\\u{feff}\\u{e0041}"),
            ("Büro 1 [x] \\ 'q'", "Büro 1 [x] \\ 'q'"),
            (
                "نص \u{200d} 漢字 👩\u{200d}💻",
                "نص \u{200d} 漢字 👩\u{200d}💻",
            ),
        ] {
            assert_eq!(escaped(text), shown);
            assert_eq!(escaped(&escaped(text)), shown);
        }
        assert_eq!(escaped_lines("a\nb\r\n"), "a\nb\\r\n");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{202e}\n\u{e0041}ü" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = escaped_json(&json);
        assert!(!shown.contains(|c| c != '\n' && acts(c)), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        for (word, quoted) in [
            ("alpha", "alpha"),
            ("/srv/backup", "/srv/backup"),
            ("datastore1 (3)", "'datastore1 (3)'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("~", "'~'"),
            ("a\u{1b}b'", r"$'a\033b\''"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }

    #[test]
    fn a_proposed_command_is_one_that_a_shell_takes() {
        let map = command("datastore map", &["esx", "datastore1 (3)"]);
        assert_eq!(map, "virtuozo datastore map esx 'datastore1 (3)'");
        let dashed = command("guest edit --ignored true", &["-old"]);
        assert_eq!(dashed, "virtuozo guest edit --ignored true -- -old");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_shell_reads_the_word_that_was_meant(word in "[^\0]{0,20}|[ '\"$`\\\\!*?~#&;|<>(){}\\[\\]\n\r\t\u{1b}\u{202e}a-z]{0,20}") {
            let quoted = shell_word(&word);
            prop_assert!(!quoted.contains(acts), "{quoted:?}");
            let read = Command::new("bash")
                .args(["-c", &format!("printf %s {quoted}")])
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&read.stdout).into_owned(), word);
        }
    }
}
