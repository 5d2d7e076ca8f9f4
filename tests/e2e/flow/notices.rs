//! What administrators are told of a run, as it arrives at a mail server that is not ours.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{Site, eventually};
use vix::lab::{Broken, GuestSpec, Product};

use crate::flow::two_disks;
use crate::servers::{Certificates, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_one_broken_guest_makes_one_mail_that_names_guest_and_reason() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    host.guest(&GuestSpec::new("good", two_disks()))?;
    let mut broken = GuestSpec::new("ledger", two_disks());
    broken.broken = Some(Broken::MissingDisk);
    host.guest(&broken)?;

    let certificates = Certificates::new();
    let server = Server::mail(&certificates, "starttls", json!({}));
    for (name, value) in [
        ("mail_host", "localhost"),
        ("mail_port", &server.port.to_string()),
        ("mail_user", "backup"),
        ("mail_from", "backup@example.org"),
        ("mail_to", "anna@example.org, bert@example.org"),
        ("ca_file", &certificates.ca()),
        ("group_secs", "1"),
    ] {
        site.virtuozo(&["notice", "settings", "set", name, value])?
            .ok()?;
    }
    site.virtuozo_with(
        &["notice", "secret", "mail", "--password-stdin"],
        "correct horse\n",
    )?
    .ok()?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "failed", "{run:#}");
    let guests = run["guest_runs"].as_array().into_iter().flatten();
    let reason = guests
        .filter(|guest| guest["guest"] == "ledger")
        .find_map(|guest| guest["error"].as_str())
        .unwrap_or_default()
        .to_owned();
    ensure!(!reason.is_empty(), "{run:#}");
    eventually("the notice to be sent", async || {
        let all = site.json(&["notice", "list"])?;
        Ok((all[0]["state"] == "sent").then_some(()))
    })
    .await?;
    site.stop()?;

    let mails = server.received(1);
    ensure!(server.received_by_now().len() == 1, "{mails:#?}");
    let mail = &mails[0];
    ensure!(mail["to"] == json!(["anna@example.org", "bert@example.org"]));
    ensure!(
        mail["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains("backup failed: alpha/ledger")),
        "{mail:#}"
    );
    let text = mail["text"].as_str().unwrap_or_default();
    ensure!(text.contains("alpha/ledger: failed"), "{text}");
    ensure!(text.contains(&reason), "{reason} is not in: {text}");
    ensure!(text.contains("alpha/good: succeeded"), "{text}");
    ensure!(!format!("{}{mail}", site.logs()).contains("correct horse"));

    // What is previewed is what was sent.
    let preview = site.virtuozo(&["notice", "preview", "failure"])?.ok()?;
    let lines = |text: &str| {
        let lines = text.trim().lines().map(str::trim_end);
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(
        lines(&preview.stdout) == lines(text),
        "previewed:\n{}\nsent:\n{text}",
        preview.stdout
    );
    let tested = site.virtuozo(&["notice", "test", "mail"])?;
    ensure!(tested.code == 0, "{tested:?}");
    site.virtuozo(&["notice", "settings", "set", "mail_port", "1"])?
        .ok()?;
    let tested = site.virtuozo(&["notice", "test"])?;
    ensure!(
        tested.code == 1 && tested.stdout.contains("refuses the connection"),
        "{tested:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_for_one_mail_server_and_goes_with_it() -> Result<()> {
    let site = Site::new().await?;
    let set = |name: &str, value: &str| {
        let done = site.json(&["notice", "settings", "set", name, value])?;
        let message = done["message"].as_str().unwrap_or_default();
        Ok::<_, anyhow::Error>(message.to_owned())
    };
    let give = |way: &str| {
        site.virtuozo_with(
            &["notice", "secret", way, "--password-stdin"],
            "correct horse\n",
        )
    };
    for (way, first) in [
        ("mail", "mail_host and mail_user"),
        ("webhook", "webhook_url"),
    ] {
        let refused = give(way)?;
        ensure!(
            refused.code != 0 && refused.stderr.contains(first),
            "{refused:?}"
        );
    }
    set("mail_host", "mail.example.org")?;
    set("mail_user", "backup")?;
    set("webhook_url", "https://hooks.example.org/x")?;
    give("mail")?.ok()?;
    give("webhook")?.ok()?;
    let told = set("mail_to", "admin@example.org")?;
    ensure!(!told.contains("removed"), "{told}");
    for (name, value, parts) in [
        (
            "mail_host",
            "mail.example.com",
            ["mail password", "removed", "virtuozo notice secret mail"],
        ),
        (
            "webhook_url",
            "https://hooks.example.org/y",
            [
                "webhook secret",
                "removed",
                "virtuozo notice secret webhook",
            ],
        ),
    ] {
        let told = set(name, value)?;
        ensure!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let now = site.json(&["notice", "settings", "get"])?;
    ensure!(now["has_mail_password"] == false && now["has_webhook_secret"] == false);
    Ok(())
}
