//! Where the password of the mail server and the secret of the webhook are used, and where not.

use serde_json::json;
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeState};

use crate::{servers::Server, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_no_server_and_for_no_user_but_those_that_it_was_given_for() {
    let site = Site::new().await;
    let own = Server::mail(&site.certificates, "starttls", json!({}));
    let other = Server::mail(&site.certificates, "starttls", json!({}));
    site.mail_by(own.port, "starttls").await;
    assert_eq!(site.test(NoticeChannel::Mail).await, None);
    // Whoever can write to the database names another server.
    for change in [
        format!("mail_port = {}", other.port),
        "mail_host = '127.0.0.1'".to_owned(),
        "mail_user = 'root'".to_owned(),
        "mail_security = 'tls'".to_owned(),
    ] {
        site.mail_by(own.port, "starttls").await;
        site.execute(format!("UPDATE virtuozo_core.notice_settings SET {change}"))
            .await;
        let said = site.test(NoticeChannel::Mail).await.unwrap();
        for part in ["another server or user", "virtuozo notice secret mail"] {
            assert!(said.contains(part), "{change}: {said}");
        }
    }
    assert_eq!(own.logins(), [true]);
    assert_eq!(other.logins(), [true; 0]);

    // One that is waited for is given up until a person has looked.
    site.mail_by(own.port, "starttls").await;
    site.execute(format!(
        "UPDATE virtuozo_core.notice_settings SET mail_port = {}",
        other.port
    ))
    .await;
    site.failed_run("mail").await;
    let senders = site.senders(1);
    let ended = site.ended().await;
    senders.stopped().await;
    let is_of_run = |one: &&Notice| one.kind == NoticeKind::Failure;
    let given_up = ended.iter().find(is_of_run).unwrap();
    assert_eq!(
        (given_up.state, given_up.attempts),
        (NoticeState::Failed, 1)
    );
    assert_eq!(other.logins(), [true; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_for_another_address_with_the_secret_of_the_webhook() {
    let site = Site::new().await;
    let own = Server::webhook(json!({}));
    let other = Server::webhook(json!({}));
    site.webhook_at(&format!("http://127.0.0.1:{}/hook", own.port))
        .await;
    assert_eq!(site.test(NoticeChannel::Webhook).await, None);
    site.execute(format!(
        "UPDATE virtuozo_core.notice_settings SET webhook_url = 'http://127.0.0.1:{}/hook'",
        other.port
    ))
    .await;
    let said = site.test(NoticeChannel::Webhook).await.unwrap();
    for part in ["another address", "virtuozo notice secret webhook"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(other.received_by_now().is_empty());
}
