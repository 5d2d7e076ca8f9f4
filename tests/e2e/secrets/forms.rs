//! A secret in the forms in which it might slip out.

/// What must not be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret<'a> {
    /// For the message of the test.
    pub(crate) name: &'static str,
    pub(crate) text: &'a str,
}

/// One form.
#[derive(Debug)]
pub(crate) struct Form {
    what: &'static str,
    text: String,
}

impl<'a> Secret<'a> {
    pub(crate) const fn new(name: &'static str, text: &'a str) -> Self {
        Self { name, text }
    }

    /// With percent signs, as in a URL.
    pub(crate) fn percent(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let sign = |byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        self.text.bytes().map(sign).collect()
    }

    pub(crate) fn forms(&self) -> Vec<Form> {
        let bytes = self.text.as_bytes();
        let mut forms = vec![
            Form::new("plain", self.text),
            Form::new("percent-encoded", self.percent()),
            Form::new("form-encoded", self.percent().replace("%20", "+")),
            Form::new("lower percent-encoded", self.percent().to_ascii_lowercase()),
            Form::new(
                "in JSON",
                serde_json::Value::from(self.text)
                    .to_string()
                    .trim_matches('"'),
            ),
            Form::new("in Debug", format!("{:?}", self.text).trim_matches('"')),
            Form::new("as numbers", format!("{bytes:?}").trim_matches(['[', ']'])),
            Form::new("in hexadecimal", hex(bytes)),
        ];
        // Behind one or two other bytes base64 looks otherwise.
        for shift in 0..3 {
            let whole = base64(&[&b"\0\0"[..shift], bytes].concat());
            // What the neighbours change is left out.
            let from = (shift * 8).div_ceil(6);
            let until = (shift + bytes.len()) * 8 / 6;
            forms.push(Form::new("in base64", &whole[from..until]));
        }
        forms
    }
}

impl Form {
    fn new(what: &'static str, text: impl Into<String>) -> Self {
        Self {
            what,
            text: text.into(),
        }
    }

    /// Where it is found first, with what stands around it.
    pub(crate) fn in_context(&self, content: &str) -> Option<String> {
        let at = content.find(&self.text)?;
        let (before, after) = content.split_at(at);
        let before: String = before.chars().rev().take(150).collect();
        let before: String = before.chars().rev().collect();
        let after: String = after.chars().take(200).collect();
        Some(format!("{}: …{before}{after}…", self.what))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Standard base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunks = bytes.chunks(3).flat_map(|chunk| {
        let three = [
            chunk[0],
            chunk.get(1).copied().unwrap_or(0),
            chunk.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        (0..=chunk.len()).map(move |n| char::from(SIGNS[(bits >> (18 - 6 * n) & 63) as usize]))
    });
    chunks.collect()
}

#[test]
fn a_secret_is_found_in_whatever_form_it_slips_out() {
    let secret = Secret::new("it", "p@ss/w \"rd+1");
    let found = |content: &str| {
        let forms = secret.forms();
        forms.iter().any(|form| form.in_context(content).is_some())
    };
    for leak in [
        "before p@ss/w \"rd+1 after",
        "postgres://u:p%40ss%2Fw%20%22rd%2B1@db",
        "a=p%40ss%2Fw+%22rd%2B1&b",
        r#"{"password":"p@ss/w \"rd+1"}"#,
        r"\x00704073732f77202272642b3100",
        "[0, 112, 64, 115, 115, 47, 119, 32, 34, 114, 100, 43, 49]",
        // As a mail server gets it: \0user\0password, then as one more byte shifts it.
        "AHVzZXIAcEBzcy93ICJyZCsx",
        "AHVzZXIxAHBAc3MvdyAicmQrMQ==",
        "AHVzZXIxMgBwQHNzL3cgInJkKzE=",
    ] {
        assert!(found(leak), "{leak}");
    }
    assert!(!found("p@ss/w rd+1 and all that is nearly it"));
}
