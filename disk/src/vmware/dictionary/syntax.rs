//! The syntax of one line of a dictionary file, and the escapes in values.

/// One line: key and value, nothing (blank or comment), or why it is malformed.
pub(super) fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let blank = [' ', '\t', '\r', '\n'];
    let line = line.trim_matches(blank);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, rest) = match line.find(['=', '#']).map(|at| line.split_at(at)) {
        Some((key, rest)) if rest.starts_with('=') => (key.trim_end_matches(blank), &rest[1..]),
        _ => return Err("has no '='"),
    };
    if key.is_empty() || key.contains([' ', '\t', '"']) {
        return Err("has no valid key before '='");
    }
    let rest = rest.trim_start_matches(blank);
    let value = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, after) = quoted
                .split_once('"')
                .ok_or("has no closing quotation mark")?;
            let after = after.trim_start_matches(blank);
            if !after.is_empty() && !after.starts_with('#') {
                return Err("has text after the value");
            }
            value
        }
        None => {
            let value = rest.split('#').next().unwrap_or_default();
            let value = value.trim_end_matches(blank);
            if value.contains([' ', '\t', '"']) {
                return Err("has a value with blanks or quotation marks that is not quoted");
            }
            value
        }
    };
    Ok(Some((key.to_owned(), unescape(value))))
}

/// Resolves pipe escapes: a pipe and two hex digits are one byte.
fn unescape(value: &str) -> String {
    if !value.contains('|') {
        return value.to_owned();
    }
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes
            .get(at + 1..at + 3)
            .filter(|digits| byte == b'|' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Escapes what VMware escapes: quote, pipe and control characters except tab.
pub(super) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '"' | '|' | '\x7f' | '\0'..='\x08' | '\n'..='\x1f' => {
                out.push_str(&format!("|{:02X}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out
}
