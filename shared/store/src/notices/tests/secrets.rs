//! What a stored password or secret is for.

use virtuozo_postgres::testing::TestDb;

use crate::notices::config::{self, Secret};

#[tokio::test]
async fn a_secret_goes_with_the_server_or_user_that_it_was_for() {
    let db = TestDb::new().await;
    let mail = [
        ("mail_host", "mail.example.org"),
        ("mail_user", "backup"),
        ("mail_port", ""),
        ("mail_security", "starttls"),
        ("webhook_url", "https://hooks.example.org/x"),
    ];
    let store = async || {
        for secret in Secret::ALL {
            let sealed = Some(b"sealed".as_slice());
            config::set_sealed(&db.pool, secret, sealed).await.unwrap();
        }
    };
    let (password, signing) = (
        [Secret::MailPassword].as_slice(),
        [Secret::WebhookSecret].as_slice(),
    );
    for (name, value, removed) in [
        ("mail_host", "mail.example.com", password),
        ("mail_host", "", password),
        ("mail_port", "2525", password),
        ("mail_port", "587", &[]),
        ("mail_user", "root", password),
        ("mail_user", "", password),
        ("mail_security", "tls", password),
        ("webhook_url", "https://hooks.example.org/y", signing),
        ("webhook_url", "", signing),
        ("mail_to", "admin@example.org", &[]),
        ("group_secs", "7", &[]),
    ] {
        config::set(&db.pool, &mail).await.unwrap();
        store().await;
        let changed = config::set(&db.pool, &[(name, value)]).await.unwrap();
        assert_eq!(changed.removed, removed, "{name} {value}");
        for secret in Secret::ALL {
            let is_there = !removed.contains(&secret);
            assert_eq!(secret.is_stored(&changed.settings), is_there, "{name}");
            let sealed = config::sealed(&db.pool, secret).await.unwrap();
            assert_eq!(sealed.is_some(), is_there, "{name} {value}: {secret}");
        }
    }
}
