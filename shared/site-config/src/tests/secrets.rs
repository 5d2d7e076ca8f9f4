//! Passwords of hosts and secrets of notices go along, under another key.

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::*;
use virtuozo_secrets::Key;
use virtuozo_store::{hosts::HostConfig, notices::config::Secret};

#[tokio::test]
async fn passwords_come_through_under_another_key_and_keep_their_text_while_they_stay() {
    let (here, there) = (TestDb::new().await, TestDb::new().await);
    let dir = TempDir::new().unwrap();
    let key = |name: &str| Key::load_or_create(&dir.path().join(name)).unwrap();
    let (key_here, key_there) = (key("here"), key("there"));
    imported(&here, TEXT, Options::default()).await;
    let alpha = hosts::by_name(&here.pool, "alpha").await.unwrap();
    let config = HostConfig::from(alpha.clone());
    let opens = config.password_opens(alpha.id);
    let sealed = key_here.seal(opens, &"pass word".into()).unwrap();
    hosts::set_password(&here.pool, alpha.id, Some(&sealed))
        .await
        .unwrap();

    let passphrase = SecretString::from("a long passphrase");
    let sealing = Sealing::new(&passphrase, None).unwrap();
    let text = export(&here.pool, Some((&key_here, &sealing)))
        .await
        .unwrap()
        .to_text()
        .unwrap();
    assert!(!text.contains("pass word"), "{text}");

    let file = parsed(&text);
    let opening = file.file.passwords.clone().unwrap().open(&passphrase);
    let opening = opening.unwrap();
    let keys = Keys {
        file: &opening,
        site: &key_there,
    };
    let done = import(&there.pool, &file, Some(keys), &Lab, Options::default())
        .await
        .unwrap();
    let told = serde_json::to_string(&done).unwrap();
    assert!(
        told.contains("stored") && !told.contains("pass word"),
        "{told}"
    );
    let alpha = hosts::by_name(&there.pool, "alpha").await.unwrap();
    let sealed = hosts::sealed_password(&there.pool, alpha.id).await.unwrap();
    let opens = config.password_opens(alpha.id);
    let opened = key_there.open(opens, &sealed.unwrap()).unwrap();
    assert_eq!(opened.expose_secret(), "pass word");
    let again = import(&there.pool, &file, Some(keys), &Lab, PRUNE)
        .await
        .unwrap();
    assert!(again.changes.is_empty(), "{again:?}");

    // In a file too it is for one address only.
    let elsewhere = text.replace("https://alpha:8333/sdk", "https://evil:8333/sdk");
    let refused = import(&there.pool, &parsed(&elsewhere), Some(keys), &Lab, PRUNE)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("another address"), "{refused}");

    let over = Sealing::new(&passphrase, Some(file.file.clone())).unwrap();
    let over = export(&there.pool, Some((&key_there, &over)));
    assert_eq!(over.await.unwrap().to_text().unwrap(), text);
    let fresh = Sealing::new(&passphrase, None).unwrap();
    let fresh = export(&there.pool, Some((&key_there, &fresh)));
    assert_ne!(fresh.await.unwrap().to_text().unwrap(), text);
    let other = export(&there.pool, Some((&key_here, &sealing))).await;
    assert!(matches!(other, Err(SiteFileError::Sealed { .. })));

    // Without keys the stored password stays; without a user there is none.
    let again = import(&there.pool, &file, None, &Lab, PRUNE).await.unwrap();
    assert!(again.changes.is_empty(), "{again:?}");
    let done = imported(&there, &TEXT.replace("user = \"backup\"\n", ""), PRUNE).await;
    let told = serde_json::to_value(&done.changes[0].fields).unwrap();
    assert_eq!(
        told,
        serde_json::json!([
            { "field": "user", "old": "backup", "new": null },
            { "field": "password", "old": "stored", "new": null },
        ])
    );
}

#[tokio::test]
async fn secrets_of_notices_come_through_under_another_key_and_settings_that_fit_only_together() {
    let (here, there) = (TestDb::new().await, TestDb::new().await);
    let dir = TempDir::new().unwrap();
    let key = |name: &str| Key::load_or_create(&dir.path().join(name)).unwrap();
    let (key_here, key_there) = (key("here"), key("there"));
    imported(&here, TEXT, Options::default()).await;
    let settings = config::get(&here.pool).await.unwrap();
    for (secret, text) in Secret::ALL.into_iter().zip(["mail pass", "hook pass"]) {
        let place = secret.place(&settings);
        let sealed = key_here.seal(place.opens(), &text.into()).unwrap();
        config::set_sealed(&here.pool, secret, Some(&sealed))
            .await
            .unwrap();
    }
    let passphrase = SecretString::from("a long passphrase");
    let sealing = Sealing::new(&passphrase, None).unwrap();
    let text = export(&here.pool, Some((&key_here, &sealing)))
        .await
        .unwrap()
        .to_text()
        .unwrap();
    assert!(
        text.contains("mail_password") && !text.contains(" pass\""),
        "{text}"
    );
    let wrong = export(&here.pool, Some((&key_there, &sealing))).await;
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("notice secret mail"),
        "the command that mends it is not named"
    );

    // There, what the file says first would not be permitted with what stands there.
    config::set(
        &there.pool,
        &[("mail_user", "backup"), ("webhook_url", "https://hook")],
    )
    .await
    .unwrap();
    let file = parsed(&text);
    let opening = file.file.passwords.clone().unwrap().open(&passphrase);
    let opening = opening.unwrap();
    let keys = Keys {
        file: &opening,
        site: &key_there,
    };
    let dry = import(&there.pool, &file, Some(keys), &Lab, DRY_RUN)
        .await
        .unwrap();
    let before = config::get(&there.pool).await.unwrap();
    assert!(!before.has_mail_password && before.mail_user.is_some());
    let done = import(&there.pool, &file, Some(keys), &Lab, Options::default())
        .await
        .unwrap();
    assert_eq!(done, dry);
    let told = done.changes.iter().find(|one| one.entry == "notices");
    let told = serde_json::to_string(told.unwrap()).unwrap();
    for part in [
        r#"{"field":"mail_password","old":null,"new":"stored"}"#,
        r#"{"field":"webhook_secret","old":null,"new":"stored"}"#,
        r#"{"field":"mail_user","old":"backup","new":""}"#,
        r#"{"field":"mail_security","old":"starttls","new":"none"}"#,
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!told.contains(" pass"), "{told}");
    for (secret, text) in Secret::ALL.into_iter().zip(["mail pass", "hook pass"]) {
        let sealed = config::sealed(&there.pool, secret).await.unwrap();
        let place = secret.place(&settings);
        let opened = key_there.open(place.opens(), &sealed.unwrap()).unwrap();
        assert_eq!(opened.expose_secret(), text);
    }
    let again = import(&there.pool, &file, Some(keys), &Lab, PRUNE)
        .await
        .unwrap();
    assert!(again.changes.is_empty(), "{again:?}");

    // An export over this one keeps their text; a file without them, and one without keys, keeps them.
    let over = Sealing::new(&passphrase, Some(file.file.clone())).unwrap();
    let over = export(&there.pool, Some((&key_there, &over)))
        .await
        .unwrap();
    assert_eq!(over.notice_secrets.to_owned(), file.file.notice_secrets);
    for text in [TEXT, &text, "format_version = 1\n[end]\n"] {
        let kept = imported(&there, text, Options::default()).await;
        assert!(
            kept.changes.iter().all(|one| one.entry != "notices"),
            "{kept:?}"
        );
    }
    let after = config::get(&there.pool).await.unwrap();
    assert!(after.has_mail_password && after.has_webhook_secret);
    // Another one is a change, a damaged one names its line.
    let place = Secret::MailPassword.place(&settings);
    let other = key_there.seal(place.opens(), &"other".into());
    config::set_sealed(&there.pool, Secret::MailPassword, Some(&other.unwrap()))
        .await
        .unwrap();
    let dry = import(&there.pool, &file, Some(keys), &Lab, DRY_RUN)
        .await
        .unwrap();
    let told = serde_json::to_string(&dry.changes).unwrap();
    assert!(
        told.contains(r#"{"field":"mail_password","old":"stored","new":"changed"}"#),
        "{told}"
    );
    let damaged = text.replace("mail_password = \"", "mail_password = \"00");
    let line = damaged
        .lines()
        .position(|line| line.starts_with("mail_password"));
    let error = import(&there.pool, &parsed(&damaged), Some(keys), &Lab, DRY_RUN).await;
    let error = error.unwrap_err().to_string();
    let named = format!("line {}, mail_password: ", line.unwrap() + 1);
    assert!(error.starts_with(&named), "{error}");

    // In a file too they are for one server only; without them a change of the server takes them away.
    let elsewhere = text.replace("mail.example.org", "evil.example.org");
    let error = import(&there.pool, &parsed(&elsewhere), Some(keys), &Lab, PRUNE).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("another server or user"), "{error}");
    let elsewhere = TEXT.replace("mail.example.org", "evil.example.org");
    let done = imported(&there, &elsewhere, PRUNE).await;
    let told = serde_json::to_string(&done.changes).unwrap();
    let removed = r#"{"field":"mail_password","old":"stored","new":null}"#;
    assert!(told.contains(removed), "{told}");
    let after = config::get(&there.pool).await.unwrap();
    assert!(!after.has_mail_password && after.has_webhook_secret);
}

#[test]
fn passwords_that_nothing_says_how_to_open_are_refused_with_their_line() {
    assert!(parsed(TEXT).lock().unwrap().is_none());
    let of_host = TEXT.replace(
        "user = \"backup\"\n",
        "user = \"backup\"\npassword = \"secret\"\n",
    );
    let of_mail = TEXT.replace(
        "[[repositories]]",
        "[notice_secrets]\nmail_password = \"secret\"\n\n[[repositories]]",
    );
    for (text, at, words) in [
        (
            of_host,
            "[[hosts]]",
            ["host alpha", "virtuozo host password"],
        ),
        (
            of_mail,
            "mail_password",
            ["mail", "virtuozo notice secret mail"],
        ),
    ] {
        let refused = parsed(&text).lock().unwrap_err().to_string();
        let (before, _) = text.split_once(at).unwrap();
        let line = format!("line {}, ", before.lines().count() + 1);
        assert!(refused.starts_with(&line), "not {line}: {refused}");
        assert!(
            refused.contains("[passwords]") && !refused.contains("secret\""),
            "{refused}"
        );
        for word in words {
            assert!(refused.contains(word), "{word}: {refused}");
        }
    }
}
