//! The step `verify`: a copy that is not what was written is no restore point, and is made again once.

use crate::common::{Site, fake::When};
use virtuozo_hypervisor::PowerState::On;
use virtuozo_store::settings;

/// A site with one running guest that is backed up hot.
async fn site() -> Site {
    let site = Site::new(&[("mail", On)]).await;
    settings::set(&site.db.pool, &[("mode", "hot")])
        .await
        .unwrap();
    site
}

/// Changes the last byte of the disk in the only copy that is not published yet.
fn damage_the_copy(site: &Site) {
    damage(site, "disk0.disk");
}

/// The same, of any file of the copy.
fn damage(site: &Site, file: &str) {
    let folder = site.destination.path().join("lab/mail");
    let partials: Vec<_> = site
        .directories("mail")
        .into_iter()
        .filter(|name| name.starts_with(".partial-"))
        .collect();
    let [partial] = partials.as_slice() else {
        panic!("not one copy: {partials:?}");
    };
    let path = folder.join(partial).join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

/// What people were told about storage that loses data.
async fn told_about_storage(site: &Site) -> Vec<(String, serde_json::Value)> {
    sqlx::query_as(
        "SELECT message, detail FROM virtuozo_core.events
          WHERE severity = 'error' AND message LIKE '%does not read back as it was written%' ORDER BY id",
    )
    .fetch_all(&site.db.pool)
    .await
    .unwrap()
}

/// Name and state of all steps of the only guest run, attempt by attempt.
async fn steps(site: &Site) -> Vec<(String, String)> {
    sqlx::query_as("SELECT name, state FROM virtuozo_core.steps ORDER BY fence, started_at")
        .fetch_all(&site.db.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_damaged_before_it_is_published_is_deleted_and_made_again_and_people_are_told() {
    let site = site().await;
    // It may be made again even where no other error would get a second attempt.
    settings::set(&site.db.pool, &[("max_attempts", "1")])
        .await
        .unwrap();
    let paused = site.world.pause("release", When::After);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    damage_the_copy(&site);
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.attempts, 1);
    let disk = site.world.with("mail", |g| (*g.disk()).clone());
    assert_eq!(site.points("mail").await, [disk]);
    assert_eq!(
        site.directories("mail").len(),
        1,
        "the damaged copy is gone"
    );
    let told = told_about_storage(&site).await;
    let [(message, detail)] = told.as_slice() else {
        panic!("not told once: {told:?}");
    };
    let root = site.destination.path().to_str().unwrap();
    for part in [root, "disk0.disk", "kernel log", "begins again"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert_eq!(detail["repository"], root);
    assert_eq!(detail["file"], "disk0.disk");
    let names: Vec<String> = steps(&site)
        .await
        .into_iter()
        .map(|(name, state)| format!("{name} {state}"))
        .collect();
    let first = ["validate", "snapshot", "copy", "commit"].map(|name| format!("{name} done"));
    let second = [
        "validate", "snapshot", "copy", "commit", "verify", "publish",
    ]
    .map(|name| format!("{name} done"));
    let failed = ["verify failed".to_owned()];
    assert_eq!(
        names,
        [first.as_slice(), failed.as_slice(), second.as_slice()].concat()
    );
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_manifest_is_damaged_is_made_again_too() {
    let site = site().await;
    let paused = site.world.pause("release", When::After);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    damage(&site, virtuozo_repository::MANIFEST_NAME);
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    let told = told_about_storage(&site).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1["file"], virtuozo_repository::MANIFEST_NAME);
    assert_eq!(site.directories("mail").len(), 1);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_damages_the_second_copy_too_ends_the_guest_run_and_nothing_is_published() {
    let site = site().await;
    let first = site.world.pause("release", When::After);
    let worker = site.worker("one");
    let run = site.run_now().await;
    first.reached().await;
    damage_the_copy(&site);
    let second = site.world.pause("release", When::After);
    first.resume();
    second.reached().await;
    damage_the_copy(&site);
    second.resume();
    assert_eq!(site.settled(run).await, "failed");
    let row = site.row(run, "mail").await;
    assert_eq!(
        (row.step.as_deref(), row.error_class.as_deref()),
        (Some("verify"), Some("operator")),
        "{row:?}"
    );
    assert!(site.points("mail").await.is_empty());
    site.until("the damaged copies are deleted", || async {
        site.directories("mail").is_empty().then_some(())
    })
    .await;
    assert_eq!(told_about_storage(&site).await.len(), 2);
    assert_eq!(site.world.calls("freeze"), 2);
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_run_that_an_operator_puts_back_may_begin_again_once_more() {
    let site = site().await;
    let worker = site.worker("one");
    let mut paused = site.world.pause("release", When::After);
    let run = site.run_now().await;
    for _ in 0..2 {
        paused.reached().await;
        damage_the_copy(&site);
        let next = site.world.pause("release", When::After);
        paused.resume();
        paused = next;
    }
    assert_eq!(site.settled(run).await, "failed");
    site.execute("SELECT virtuozo_core.wait_again(id) FROM virtuozo_core.guest_runs")
        .await;
    paused.reached().await;
    damage_the_copy(&site);
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_published_unread_where_the_settings_say_so_and_the_step_says_that() {
    let site = site().await;
    settings::set(&site.db.pool, &[("verify_after_backup", "false")])
        .await
        .unwrap();
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    let output: serde_json::Value = site
        .scalar("SELECT output FROM virtuozo_core.steps WHERE name = 'verify'")
        .await;
    assert_eq!(output["read_back"], false);
    let verified: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.restore_points WHERE verified_at IS NOT NULL")
        .await;
    assert_eq!(verified, 0);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_unmounted_before_the_copy_is_read_back_is_not_taken_for_bad_storage()
{
    let site = site().await;
    let paused = site.world.pause("release", When::After);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    // The empty directory under the mount point.
    let root = site.destination.path();
    let elsewhere = root.with_extension("unmounted");
    std::fs::rename(root, &elsewhere).unwrap();
    std::fs::create_dir(root).unwrap();
    paused.resume();
    assert_eq!(site.settled(run).await, "failed");
    assert!(told_about_storage(&site).await.is_empty());
    let row = site.row(run, "mail").await;
    assert!(
        row.error.as_ref().is_some_and(|e| e.contains("Mount it")),
        "{row:?}"
    );
    std::fs::remove_dir(root).unwrap();
    std::fs::rename(&elsewhere, root).unwrap();
    assert_eq!(site.directories("mail").len(), 1, "the copy is still there");
    worker.stopped().await;
}
