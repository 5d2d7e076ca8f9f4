//! What retention deletes after a backup, and what it never does.

use virtuozo_hypervisor::PowerState::On;
use virtuozo_store::settings;

use crate::common::{Site, WorkerProcess};

async fn site(keep_last: &str) -> (Site, WorkerProcess) {
    let site = Site::new(&[("mail", On)]).await;
    settings::set(&site.db.pool, &[("keep_last", keep_last)])
        .await
        .unwrap();
    let worker = site.worker("one");
    (site, worker)
}

async fn back_up(site: &Site) {
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
}

async fn points(site: &Site) -> i64 {
    site.scalar("SELECT count(*) FROM virtuozo_core.restore_points")
        .await
}

/// Retention runs after its backup has ended, and then the worker ends.
async fn kept(site: &Site, worker: WorkerProcess) -> (i64, usize) {
    worker.stopped().await;
    (points(site).await, site.directories("mail").len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backup_after_a_clock_was_ahead_is_deleted_by_the_run_that_made_it() {
    let (site, worker) = site("1").await;
    back_up(&site).await;
    site.execute(
        "UPDATE virtuozo_core.restore_points SET taken_at = now() + interval '1 year',
                published_at = now() + interval '1 year', verified_at = now() + interval '1 year'",
    )
    .await;
    back_up(&site).await;
    assert_eq!(kept(&site, worker).await, (2, 2));
    let told: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.events WHERE severity = 'warning' AND message LIKE '%dated in the future%'")
        .await;
    assert_eq!(told, 1);
    let stuck: String = site
        .scalar("SELECT guest FROM virtuozo.stuck WHERE kind = 'future_point'")
        .await;
    assert_eq!(stuck, "mail");
    // The next covers the one before it, and never the one that is dated wrong.
    let worker = site.worker("two");
    back_up(&site).await;
    assert_eq!(kept(&site, worker).await, (2, 2));
    let newest: i64 = site
        .scalar(
            "SELECT max(entry_number) FROM virtuozo_core.restore_points WHERE taken_at <= now()",
        )
        .await;
    assert_eq!(newest, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_whose_disk_is_gone_covers_no_older_one() {
    let (site, worker) = site("2").await;
    back_up(&site).await;
    back_up(&site).await;
    let second: String = site
        .scalar("SELECT repository || '/' || path FROM virtuozo_core.restore_points WHERE entry_number = 2")
        .await;
    std::fs::remove_file(format!("{second}/disk0.disk")).unwrap();
    back_up(&site).await;
    assert_eq!(kept(&site, worker).await, (3, 3));
    let damage: String = site
        .scalar("SELECT damage FROM virtuozo_core.restore_points WHERE state = 'damaged' AND entry_number = 2")
        .await;
    assert!(damage.contains("disk0.disk"), "{damage}");
    let told: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.events WHERE message LIKE '%is not whole%'")
        .await;
    assert_eq!(told, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_in_whose_directory_anothers_newest_one_lies_is_not_deleted() {
    let site = Site::new(&[("mail", On), ("web", On)]).await;
    settings::set(&site.db.pool, &[("keep_last", "1")])
        .await
        .unwrap();
    let worker = site.worker("one");
    back_up(&site).await;
    worker.stopped().await;
    let place = async |guest: &str| -> String {
        sqlx::query_scalar("SELECT repository || '/' || path FROM virtuozo_core.restore_points WHERE guest_name = $1")
            .bind(guest)
            .fetch_one(&site.db.pool)
            .await
            .unwrap()
    };
    let (mail, web) = (place("mail").await, place("web").await);
    let aside = format!("{mail}.aside");
    for (from, to) in [(&mail, &aside), (&web, &mail), (&aside, &web)] {
        std::fs::rename(from, to).unwrap();
    }
    let worker = site.worker("two");
    back_up(&site).await;
    worker.stopped().await;
    assert!(std::path::Path::new(&mail).exists() && std::path::Path::new(&web).exists());
    let told: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.events WHERE severity = 'warning' AND message LIKE '%lies there instead%'")
        .await;
    assert_eq!(told, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_recorded_with_what_identifies_it_and_where_it_was_read_back_from() {
    let (site, worker) = site("7").await;
    back_up(&site).await;
    worker.stopped().await;
    let is_known: bool = site
        .scalar("SELECT read_back IS NOT NULL AND manifest_blake3 IS NOT NULL AND found_at IS NULL FROM virtuozo_core.restore_points")
        .await;
    assert!(is_known);
}
