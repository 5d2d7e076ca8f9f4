//! Notices as they arrive: at a mail server and a webhook receiver that are not ours.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeState};
use virtuozo_store::notices::{
    self,
    config::{self, Secret},
};

use crate::{
    servers::{Server, free_port},
    site::{Site, header, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_over_starttls_and_tls_with_a_login() {
    let site = Site::new().await;
    for security in ["starttls", "tls"] {
        let server = Server::mail(&site.certificates, security, json!({}));
        site.mail_by(server.port, security).await;
        assert_eq!(site.test(NoticeChannel::Mail).await, None, "{security}");
        let [mail] = server.received(1).try_into().unwrap();
        assert_eq!(server.logins(), [true]);
        assert_eq!(mail["from"], "backup@example.org");
        assert_eq!(mail["to"], json!(["anna@example.org", "bert@example.org"]));
        assert_eq!(header(&mail, "Auto-Submitted"), ["auto-generated"]);
        assert_eq!(header(&mail, "Message-ID").len(), 1);
        assert_eq!(header(&mail, "Date").len(), 1);
        assert!(mail["text"].as_str().unwrap().contains("This is a test"));
        assert!(mail["html"].as_str().unwrap().contains("<p>This is a test"));
    }
    assert!(
        site.all()
            .await
            .iter()
            .all(|one| one.state == NoticeState::Sent)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_mail_server_is_said_in_clear_words() {
    let site = Site::new().await;
    let starttls = Server::mail(
        &site.certificates,
        "starttls",
        json!({ "refuse": ["bert@example.org"] }),
    );
    let plain = Server::mail(&site.certificates, "none", json!({ "user": null }));
    let usual = [
        ("mail_host", "localhost".to_owned()),
        ("mail_port", starttls.port.to_string()),
        ("mail_security", "starttls".to_owned()),
        ("mail_to", "anna@example.org".to_owned()),
        ("ca_file", site.certificates.ca()),
    ];
    site.mail_by(starttls.port, "starttls").await;
    let unused = free_port().to_string();
    let plain_port = plain.port.to_string();
    let pipe = site.dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let pipe = pipe.to_str().unwrap();
    for (changes, words) in [
        (vec![], ""),
        (vec![("mail_host", "nobody.invalid")], "cannot be resolved"),
        (
            vec![("mail_port", unused.as_str())],
            "refuses the connection",
        ),
        (vec![("mail_port", &plain_port)], "does not offer STARTTLS"),
        (
            vec![("mail_port", &plain_port), ("mail_security", "tls")],
            "does not speak TLS",
        ),
        (
            vec![("ca_file", "")],
            "an issuer that this machine does not know",
        ),
        (vec![("ca_file", "/nowhere/ca.pem")], "/nowhere/ca.pem"),
        (vec![("ca_file", pipe)], "no regular file"),
        (vec![("ca_file", "/etc/passwd")], "read_roots"),
        (vec![("mail_host", "127.0.0.1")], "for another name"),
        (
            vec![("mail_to", "bert@example.org")],
            "550 5.1.1 nobody of this name",
        ),
        (
            vec![("mail_to", "anna@example.org, bert@example.org")],
            "refuses the receiver bert",
        ),
    ] {
        let reset: Vec<(&str, &str)> = usual
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        config::set(site.pool(), &reset).await.unwrap();
        config::set(site.pool(), &changes).await.unwrap();
        site.secret(Secret::MailPassword, "correct horse").await;
        let said = site.test(NoticeChannel::Mail).await.unwrap_or_default();
        assert!(
            said.contains(words) && said.is_empty() == words.is_empty(),
            "{changes:?}: {said}"
        );
    }
    let reset: Vec<(&str, &str)> = usual
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    config::set(site.pool(), &reset).await.unwrap();

    site.secret(Secret::MailPassword, "wrong horse").await;
    let said = site.test(NoticeChannel::Mail).await.unwrap();
    assert!(said.contains("refuses the login of backup"), "{said}");
    assert!(!said.contains("wrong horse"), "{said}");
    config::set_sealed(site.pool(), Secret::MailPassword, None)
        .await
        .unwrap();
    let said = site.test(NoticeChannel::Mail).await.unwrap();
    assert!(said.contains("no password is stored"), "{said}");
    config::set_sealed(site.pool(), Secret::MailPassword, Some(b"not sealed here"))
        .await
        .unwrap();
    let said = site.test(NoticeChannel::Mail).await.unwrap();
    assert!(said.contains("virtuozo notice secret mail"), "{said}");

    config::set(
        site.pool(),
        &[
            ("mail_user", ""),
            ("allow_unencrypted", "true"),
            ("mail_security", "none"),
            ("mail_port", &plain_port),
        ],
    )
    .await
    .unwrap();
    assert_eq!(site.test(NoticeChannel::Mail).await, None);
    assert_eq!(plain.received(1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_receiver_that_is_refused_or_busy_keeps_the_mail_from_no_other() {
    let site = Site::new().await;
    let server = Server::mail(
        &site.certificates,
        "starttls",
        json!({ "refuse": ["nobody@example.org"], "later": ["busy@example.org"] }),
    );
    site.mail_by(server.port, "starttls").await;
    site.set(
        "mail_to",
        "anna@example.org, nobody@example.org, busy@example.org",
    )
    .await;
    site.failed_run("mail").await;
    let senders = site.senders(1);
    let waits = site.failed_attempt().await;
    assert_eq!(waits.state, NoticeState::Waiting);
    assert_eq!(waits.sent_to, ["anna@example.org"]);
    let why = waits.last_error.unwrap();
    assert!(why.contains("450 4.2.0 this mailbox is busy"), "{why}");
    // Who is to be told meanwhile is not told under the same name.
    assert_eq!(notices::retry(site.pool()).await.unwrap(), 1);
    let [sent] = site.ended().await.try_into().unwrap();
    senders.stopped().await;
    assert_eq!(sent.state, NoticeState::Sent);
    assert_eq!(sent.sent_to, ["anna@example.org", "busy@example.org"]);
    let mails = server.received(2);
    let to: Vec<&Value> = mails.iter().map(|mail| &mail["to"]).collect();
    assert_eq!(
        to,
        [&json!(["anna@example.org"]), &json!(["busy@example.org"])]
    );
    assert_eq!(
        header(&mails[0], "Message-ID"),
        header(&mails[1], "Message-ID")
    );
    let told: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM virtuozo_core.events WHERE code = 200 AND message LIKE '%nobody@example.org%'",
    )
    .fetch_one(site.pool())
    .await
    .unwrap();
    assert!(told > 0, "people are told whom it did not reach");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_away_gets_one_mail_about_all_when_it_is_back() {
    let site = Site::new().await;
    let port = free_port();
    site.mail_by(port, "tls").await;
    let senders = site.senders(2);
    let mut runs = vec![site.failed_run("mail").await];
    let waits = site.failed_attempt().await;
    assert_eq!(waits.state, NoticeState::Waiting);
    assert!(
        waits.run_after > waits.created_at,
        "it is tried again by itself"
    );
    site.set("group_secs", "3600").await;
    runs.push(site.failed_run("web").await);
    runs.push(site.failed_run("db").await);
    let server = Server::mail(&site.certificates, "tls", json!({ "port": port }));
    assert_eq!(notices::retry(site.pool()).await.unwrap(), 1);
    let [sent] = site.ended().await.try_into().unwrap();
    senders.stopped().await;
    assert_eq!(sent.sent_to, ["anna@example.org", "bert@example.org"]);
    let mails = server.received(1);
    assert_eq!(server.received_by_now().len(), 1, "{mails:#?}");
    let text = mails[0]["text"].as_str().unwrap();
    for run in runs {
        assert!(text.contains(&run.to_string()), "{text}");
    }
    assert_eq!(
        mails[0]["subject"],
        "Virtuozo: backup failed: 3 of 3 runs, 3 guests"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_changes_neither_headers_nor_html_and_umlauts_arrive() {
    let site = Site::new().await;
    let server = Server::mail(&site.certificates, "starttls", json!({}));
    site.mail_by(server.port, "starttls").await;
    site.failed_run("Übung <script>alert(1)</script>\r\nBcc: evil@example.org\r\n\r\n{{ 7 * 7 }}")
        .await;
    let senders = site.senders(1);
    site.ended().await;
    senders.stopped().await;
    let [mail] = server.received(1).try_into().unwrap();
    assert_eq!(mail["to"], json!(["anna@example.org", "bert@example.org"]));
    assert!(header(&mail, "Bcc").is_empty());
    let subject = mail["subject"].as_str().unwrap();
    assert!(
        subject.starts_with("Virtuozo: backup failed: alpha/Übung <script>"),
        "{subject}"
    );
    let html = mail["html"].as_str().unwrap();
    assert!(!html.contains("<script>"), "{html}");
    assert!(html.contains("Übung &lt;script&gt;alert(1)&lt;"), "{html}");
    let text = mail["text"].as_str().unwrap();
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("alpha/Übung"))
        .unwrap();
    assert!(
        line.contains("Bcc: evil@example.org") && line.contains("{{ 7 * 7 }}"),
        "{line}"
    );
    assert!(
        text.contains("the disk scsi0:0 is broken: mend it"),
        "{text}"
    );
    assert!(text.contains("virtuozo run retry"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_not_brought_back_is_the_subject() {
    let site = Site::new().await;
    let run = site.failed_run("mail").await;
    site.execute(format!(
        "INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, attempts, last_error)
         VALUES (gen_random_uuid(), 'power_on', md5('alpha')::uuid, md5('mail')::uuid, '{run}', 1, 3, 'no memory left')"
    ))
    .await;
    let notices = site.notices();
    let content = notices.preview(NoticeKind::Failure, None).await.unwrap();
    assert_eq!(
        content.subject,
        "Virtuozo: GUEST NOT BROUGHT BACK: alpha/mail is still off"
    );
    let text = notices.render(&content).await.unwrap().text;
    assert!(text.contains("3 failed attempts: no memory left"), "{text}");
    let digest = notices.preview(NoticeKind::Digest, None).await.unwrap();
    assert!(
        digest.subject.contains("1 GUEST NOT BROUGHT BACK"),
        "{}",
        digest.subject
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_tells_what_ran_what_did_not_and_what_is_missing_the_oldest_first() {
    let site = Site::new().await;
    site.failed_run("mail").await;
    site.execute(
        "UPDATE virtuozo_core.settings SET destination = '/srv/backup', time_zone = 'Europe/Berlin';
         UPDATE virtuozo_core.guests SET created_at = now() - interval '9 days';
         INSERT INTO virtuozo_core.guests (id, host_id, locator, name, ignored, configured, rpo_secs, state, state_reason, created_at)
         SELECT md5(n)::uuid, md5('alpha')::uuid, n, n, n = 'left out', n <> 'new',
                CASE n WHEN 'hasty' THEN 3600 WHEN 'archive' THEN 0 END,
                CASE n WHEN 'off' THEN 'powered_off' ELSE 'ok' END, CASE n WHEN 'off' THEN 'it is off' END,
                now() - CASE n WHEN 'young' THEN interval '1 day' ELSE interval '8 days' END
           FROM unnest('{fresh,weekend,old,never,hasty,archive,off,young,left out,new}'::text[]) n;
         INSERT INTO virtuozo_core.hosts (id, name, kind, paused_at) VALUES (md5('beta')::uuid, 'beta', 'esxi', now());
         INSERT INTO virtuozo_core.restore_points
                (id, guest_id, host_name, guest_name, repository, path, mode, taken_at, published_at, size_bytes, source_bytes, state, damage)
         SELECT gen_random_uuid(), md5(n)::uuid, 'alpha', n, '/srv/backup', n || s, 'hot', now() - age, now() - age, 3 * 1073741824::bigint, 1, s, d
           FROM (VALUES ('fresh', interval '1 minute', 'published', NULL),
                        ('weekend', interval '3 days', 'published', NULL),
                        ('hasty', interval '2 hours', 'published', NULL),
                        ('archive', interval '99 days', 'published', NULL),
                        ('off', interval '5 days', 'published', NULL),
                        ('left out', interval '5 days', 'published', NULL),
                        ('old', interval '4 days', 'published', NULL),
                        ('old', interval '1 hour', 'damaged', 'a byte of scsi0-0.vmdk is wrong')) v (n, age, s, d);
         INSERT INTO virtuozo_core.repository_space (path, free_bytes) VALUES ('/srv/backup', 21474836480);
         INSERT INTO virtuozo_core.schedules (id, name, cron, enabled, updated_at, done_until)
         SELECT md5(n)::uuid, n, c, n <> 'asleep', now() - interval '10 days', now()
           FROM (VALUES ('hourly', '0 * * * *'), ('asleep', '0 3 * * *'), ('broken', '0 0 31 2 *')) v (n, c);",
    )
    .await;
    // Due times of the day: one of them became a run.
    site.execute(
        "INSERT INTO virtuozo_core.ticks (schedule_id, due_at, run_id)
         SELECT md5('hourly')::uuid, date_trunc('hour', now()) - interval '2 hours', id FROM virtuozo_core.runs",
    )
    .await;
    // Nobody is missed before the server has been up for a lease.
    site.execute(
        "UPDATE virtuozo_core.settings SET lease_secs = 2;
         SELECT pg_sleep_until(pg_postmaster_start_time() + interval '3 seconds')",
    )
    .await;
    let notices = site.notices();
    let content = notices.preview(NoticeKind::Digest, None).await.unwrap();
    let digest = content.digest.as_ref().unwrap();
    let names: Vec<&str> = digest.stale.iter().map(|one| one.guest.as_str()).collect();
    assert_eq!(
        names,
        [
            "alpha/mail",
            "alpha/never",
            "alpha/off",
            "alpha/old",
            "alpha/hasty"
        ]
    );
    let why: Vec<&str> = digest.stale.iter().map(|one| one.why.as_str()).collect();
    assert!(why[0].contains("the disk scsi0:0 is broken"), "{why:?}");
    assert_eq!(why[2], "it is off");
    assert_eq!(digest.fresh, 3);
    // The same ones, and the same moments, that everybody else is told.
    let exceeded: Vec<(String, chrono::DateTime<chrono::Utc>)> = sqlx::query_as(
        "SELECT host || '/' || guest, now() - make_interval(secs => age_secs - rpo_secs)
           FROM virtuozo.rpo WHERE exceeded ORDER BY last_point_at NULLS FIRST, age_secs DESC",
    )
    .fetch_all(&site.db.pool)
    .await
    .unwrap();
    assert_eq!(exceeded.len(), digest.stale.len(), "{exceeded:?}");
    for (told, (name, since)) in digest.stale.iter().zip(exceeded) {
        assert_eq!(told.guest, name);
        let apart = (told.due_since - since).abs();
        assert!(apart < chrono::TimeDelta::seconds(30), "{name}: {apart}");
    }
    let not_run: Vec<String> = digest
        .not_run
        .iter()
        .map(|one| format!("{}: {}", one.what, one.why))
        .collect();
    for (what, why) in [
        ("schedule asleep", "disabled"),
        ("schedule broken", "cannot be followed"),
        ("schedule hourly", "due times without a run"),
        ("host beta", "paused"),
        ("guest alpha/left out", "ignored"),
        ("guest alpha/new", "nobody has decided"),
        ("guest alpha/off", "it is off"),
    ] {
        assert!(
            not_run
                .iter()
                .any(|line| line.starts_with(what) && line.contains(why)),
            "{what}: {why} is not in {not_run:#?}"
        );
    }
    assert_eq!(not_run.len(), 7, "{not_run:#?}");
    let problems: Vec<&str> = digest
        .problems
        .iter()
        .map(|one| one.what.as_str())
        .collect();
    assert!(
        problems
            .iter()
            .any(|what| what.contains("a byte of scsi0-0.vmdk is wrong")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|what| what.contains("no scheduler")),
        "{problems:?}"
    );
    let since: Vec<_> = digest.problems.iter().map(|one| one.since).collect();
    assert!(since.is_sorted(), "{since:?}");
    let [space] = digest.space.as_slice() else {
        panic!("{:?}", digest.space);
    };
    assert_eq!((space.new_points, space.days_left), (3, Some(2)));
    let text = notices.render(&content).await.unwrap().text;
    assert!(text.contains("20.00 GiB free"), "{text}");
    assert!(text.contains("ENOUGH FOR 2 MORE DAYS"), "{text}");
    assert!(
        text.contains("schedule nightly") && text.contains("1m 30s"),
        "{text}"
    );
    assert!(text.contains("alpha/never: last one never"), "{text}");
    assert!(
        content
            .subject
            .starts_with("Virtuozo digest: 5 guests without a fresh restore point, 1 run failed, "),
        "{}",
        content.subject
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_great_many_failures_a_digest_tells_some_and_counts_the_rest() {
    let site = Site::new().await;
    let run = site.failed_run("mail").await;
    site.execute(format!(
        "INSERT INTO virtuozo_core.guests (id, host_id, locator, name, created_at)
         SELECT md5(n::text)::uuid, md5('alpha')::uuid, 'g' || n, 'g' || n, now() - interval '9 days' FROM generate_series(1, 2000) n;
         INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, error, started_at, ended_at)
         SELECT md5('run' || n)::uuid, '{run}', '{run}', md5('alpha')::uuid, md5(n::text)::uuid, 'failed', 'the disk is broken', now(), now()
           FROM generate_series(1, 2000) n;
         INSERT INTO virtuozo_core.runs (id, requested_by, state, created_at, ended_at)
         SELECT md5('good' || n)::uuid, 'test', 'succeeded', now() - interval '60 seconds', now() FROM generate_series(1, 80) n"
    ))
    .await;
    let content = site
        .notices()
        .preview(NoticeKind::Digest, None)
        .await
        .unwrap();
    assert!(
        content.subject.starts_with(
            "Virtuozo digest: 2000 guests without a fresh restore point, 1 run failed"
        ),
        "{}",
        content.subject
    );
    assert_eq!((content.runs.len(), content.more_runs), (50, 31));
    let failed = content.runs.iter().find(|run| run.state == "failed");
    let failed = failed.unwrap();
    assert_eq!((failed.guests.len(), failed.more_guests), (100, 1901));
    let digest = content.digest.as_ref().unwrap();
    assert_eq!((digest.stale.len(), digest.more_stale), (50, 1950));
    let mail = site.notices().render(&content).await.unwrap();
    for text in [&mail.text, &mail.html] {
        for words in [
            "and 1901 more",
            &format!("virtuozo run show {run}"),
            "and 1950 more",
            "and 31 more runs",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.len() < 100_000, "{} bytes", text.len());
    }
    let about = site.notices().preview(NoticeKind::Failure, Some(run)).await;
    let subject = about.unwrap().subject;
    assert!(subject.contains(" and 2000 more "), "{subject}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_queued_is_sent_once_by_many_senders() {
    let site = Site::new().await;
    let server = Server::mail(&site.certificates, "starttls", json!({}));
    site.mail_by(server.port, "starttls").await;
    let senders = site.senders(2);
    assert!(
        notices::digest(site.pool(), chrono::Utc::now())
            .await
            .unwrap()
    );
    let [mail] = server.received(1).try_into().unwrap();
    let subject = mail["subject"].as_str().unwrap();
    assert!(subject.starts_with("Virtuozo digest: "), "{subject}");
    site.ended().await;
    senders.stopped().await;
    assert_eq!(site.all().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_and_posted_again_under_the_same_id_until_it_is_taken() {
    let site = Site::new().await;
    let server = Server::webhook(json!({ "answers": [503, 429] }));
    let url = format!("http://127.0.0.1:{}/hook?token=hush", server.port);
    site.webhook_at(&url).await;
    let run = site.failed_run("mail").await;
    let senders = site.senders(1);
    for attempt in 1..=2 {
        let waits = until("an attempt to fail", || async {
            let failed = |one: &Notice| {
                one.attempts == attempt
                    && one.state == NoticeState::Waiting
                    && one.last_error.is_some()
            };
            site.all().await.into_iter().find(failed)
        })
        .await;
        let why = waits.last_error.unwrap();
        assert!(why.contains("answers") && !why.contains("hush"), "{why}");
        // Due now, as it would be after its pause.
        site.execute("UPDATE virtuozo_core.notices SET run_after = now() - interval '10 seconds'; DELETE FROM apalis.jobs WHERE job_type = 'virtuozo-notice' AND status = 'Pending'")
            .await;
        assert_eq!(notices::push_lost(site.pool()).await.unwrap(), 1);
    }
    let [sent] = site.ended().await.try_into().unwrap();
    senders.stopped().await;
    assert_eq!((sent.state, sent.attempts), (NoticeState::Sent, 3));
    let posts = server.received(3);
    for post in &posts {
        assert_eq!(post["signed"], true);
        assert_eq!(post["id"], posts[0]["id"]);
        assert_eq!(post["kind"], "failure");
        let body = &post["body"];
        assert_eq!((&body["version"], &body["id"]), (&json!(1), &post["id"]));
        assert_eq!(body["runs"][0]["id"], run.to_string());
        assert_eq!(body["runs"][0]["guests"][0]["guest"], "alpha/mail");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_redirects_or_refuses_is_not_asked_again() {
    let site = Site::new().await;
    let server = Server::webhook(json!({ "answers": [302, 404] }));
    site.set("webhook_url", &format!("http://127.0.0.1:{}/", server.port))
        .await;
    site.failed_run("mail").await;
    let senders = site.senders(1);
    let [failed] = site.ended().await.try_into().unwrap();
    assert_eq!((failed.state, failed.attempts), (NoticeState::Failed, 1));
    assert!(failed.last_error.unwrap().contains("302"));
    site.failed_run("web").await;
    let ended = site.ended().await;
    senders.stopped().await;
    assert!(
        ended[0].last_error.as_deref().unwrap().contains("404"),
        "{ended:?}"
    );
    assert_eq!(server.received(2).len(), 2, "both were asked");
    assert_eq!(
        server.received_by_now().len(),
        2,
        "nobody followed the redirection"
    );
}
