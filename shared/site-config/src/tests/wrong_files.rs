//! Files that are wrong, or end early: the line is named, and nothing is changed.

use super::*;

#[tokio::test]
async fn a_file_that_is_wrong_names_the_line_and_changes_nothing() {
    let db = TestDb::new().await;
    let before = exported(&db).await;
    // What is replaced, by what, where the line begins that is named, and why.
    let cases = [
        (
            "guest_threads = 3",
            "colour = 3",
            "colour",
            "no setting \"colour\"",
        ),
        (
            "guest_threads = 3",
            "guest_threads = 99",
            "guest_threads = 99",
            "1 to 64",
        ),
        (
            "guest_threads = 3",
            "guest_threads = [3]",
            "guest_threads = [3]",
            "a whole number or a text",
        ),
        (
            "group_secs = 60",
            "colour = 60",
            "colour",
            "no setting \"colour\"",
        ),
        (
            "night@example.org",
            "night",
            "mail_to",
            "not a mail address",
        ),
        (
            "allow_unencrypted = true\n",
            "",
            "mail_security",
            "set allow_unencrypted",
        ),
        (
            "kind = \"server2\"",
            "kind = \"mainframe\"",
            "[[hosts]]",
            "mainframe",
        ),
        (
            "kind = \"server2\"",
            "kind = \"Main Frame\"",
            "kind = \"Main Frame\"",
            "small letters",
        ),
        ("kind = \"server2\"\n", "", "[[hosts]]", "kind"),
        (
            "address = \"https://alpha:8333/sdk\"\n",
            "",
            "[[hosts]]",
            "needs an address",
        ),
        (
            "config-dir = \"/mnt/alpha\"",
            "colour = \"red\"",
            "[[hosts]]",
            "colour",
        ),
        (
            "config-dir = \"/mnt/alpha\"",
            "config-dir = 1",
            "config-dir = 1",
            "string",
        ),
        (
            "guest_threads = 1\n",
            "guest_threads = \"1\"\n",
            "guest_threads = \"1\"",
            "i32",
        ),
        (
            "local_path = \"/mnt/alpha/standard\"",
            "local_path = \"mnt\"",
            "[[hosts.datastores]]\nname = \"standard\"",
            "absolute",
        ),
        (
            "mail/mail.vmx\"\nname",
            "mail/mail\"\nname",
            "[[hosts.guests]]",
            ".vmx",
        ),
        (
            "keep_last = 3",
            "keep_last = 0",
            "[[hosts.guests]]",
            "at least one",
        ),
        ("\"ide1:0\"", "\"\"", "[[hosts.guests]]", "empty"),
        (
            "new/new.vmx",
            "mail/mail.vmx",
            "[[hosts.guests]]\nlocator = \"[standard] mail/mail.vmx\"\nconfigured",
            "twice",
        ),
        (
            "\"beta\"\nkind",
            "\"alpha\"\nkind",
            "[[hosts]]\nname = \"alpha\"\nkind = \"workstation\"",
            "twice",
        ),
        ("\"30 */4 * * *\"", "\"61 * * * *\"", "[[schedules]]", "61"),
        (
            "[\"alpha/[standard] mail/mail.vmx\"]",
            "[\"alpha/web\"]",
            "[[schedules]]",
            "web",
        ),
        (
            "[\"alpha\", \"beta\"]",
            "[\"gamma\"]",
            "[[schedules]]\nname = \"nightly\"",
            "gamma",
        ),
        ("[[repositories]]", "[[repositories]", "[[repositories]", ""),
        (
            "enabled = false",
            "enabled = false\nenabled = true",
            "enabled = true",
            "duplicate",
        ),
        (
            "user = \"backup\"",
            "password = \"00\"",
            "[[hosts]]",
            "needs a user",
        ),
    ];
    for (from, to, place, why) in cases {
        assert!(TEXT.contains(from), "{from}");
        let text = TEXT.replacen(from, to, 1);
        let line = text[..text.find(place).unwrap()].matches('\n').count() + 1;
        let result = match Parsed::new(&text) {
            Ok(file) => import(&db.pool, &file, None, &Lab, PRUNE).await,
            Err(error) => Err(error),
        };
        let error = result.map(drop).unwrap_err().to_string();
        let named = error.split([',', ':']).next().unwrap();
        assert_eq!(named, format!("line {line}"), "{to}: {error}");
        assert!(error.contains(why), "{to}: {error}");
    }
    for version in ["", "format_version = 0", "format_version = \"1\""] {
        let error = Parsed::new(&TEXT.replacen("format_version = 1", version, 1)).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
    }
    let newer = Parsed::new("format_version = 2\nwhatever = 1").unwrap_err();
    assert!(matches!(newer, SiteFileError::Newer(2)), "{newer}");
    assert_eq!(
        exported(&db).await,
        before,
        "a wrong file changed something"
    );
}

#[test]
fn a_file_that_ends_early_is_never_taken_for_a_whole_one() {
    for (at, _) in TEXT.trim_end().char_indices() {
        assert!(
            Parsed::new(&TEXT[..at]).is_err(),
            "taken for whole:\n{}",
            &TEXT[..at]
        );
    }
}
