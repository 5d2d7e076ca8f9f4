//! Tests of the backend: which jobs a claimer takes, and when.

use sqlx::AssertSqlSafe;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::{GuestJob, HostJob, Job, RequestJob, UndoJob};
use virtuozo_postgres::{ConnectionHealth, testing::TestDb};
use virtuozo_runtime::Availability;

async fn claimer<J: Job>(
    db: &TestDb,
    name: &str,
    capabilities: Capabilities,
) -> (Claims, WorkerContext) {
    let (_, notifications) = mpsc::unbounded_channel();
    let config = Config::default().queue(J::QUEUE);
    let pool = Pool::isolated(&db.pool, &ConnectionHealth::new(&Availability::default()));
    let poll_every = Duration::from_secs(60);
    let backend = QueueBackend::<J>::new(&pool, notifications, config, poll_every, capabilities);
    let (mut claims, worker) = (Claims::clone(&backend.claims), WorkerContext::new(name));
    claims.register(&worker).await.unwrap();
    (claims, worker)
}

/// Pushes so many undo jobs, each of a guest of its own.
async fn push_undos(db: &TestDb, count: usize) {
    let jobs: Vec<UndoJob> = (0..count)
        .map(|_| UndoJob {
            guest_id: Uuid::now_v7(),
        })
        .collect();
    let mut tx = db.pool.begin().await.unwrap();
    crate::push(&mut tx, &jobs, 0).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_claim_takes_as_many_jobs_as_were_notified_up_to_a_limit_and_what_it_puts_back_goes_to_others()
 {
    let db = TestDb::new().await;
    push_undos(&db, CLAIM_LIMIT + 2).await;
    let all: Vec<String> = sqlx::query_scalar("SELECT id FROM apalis.jobs")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    let (mut one, first) = claimer::<UndoJob>(&db, "one", Capabilities::none()).await;
    let (mut two, second) = claimer::<UndoJob>(&db, "two", Capabilities::none()).await;

    let unnotified = one.fetch_next(&first).await.unwrap();
    assert_eq!(unnotified.len(), 1, "no more were notified");
    assert!(one.is_wanted(), "there may be more");

    one.notified().extend(all.iter().cloned());
    let claimed = one.fetch_next(&first).await.unwrap();
    assert_eq!(claimed.len(), CLAIM_LIMIT);
    assert!(one.is_wanted(), "one notified job is left");
    assert_eq!(one.reenqueue_abandoned(claimed, &first).await.unwrap(), 4);

    two.notified().extend(all.iter().cloned());
    let others = two.fetch_next(&second).await.unwrap();
    assert_eq!(others.len(), CLAIM_LIMIT);
    let last = one.fetch_next(&first).await.unwrap();
    assert_eq!(last.len(), 1);
    assert!(!one.is_wanted(), "all notified jobs are gone");
    assert_eq!(
        one.reenqueue_abandoned(others, &first).await.unwrap(),
        0,
        "the jobs of another are not put back"
    );
}

/// A guest of each kind of host with a guest run that has a slot; ids are made from the kinds.
const KINDS: &str = "
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.hosts (id, name, kind) SELECT md5(k)::uuid, k, k FROM unnest('{one,two,three}'::text[]) k;
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    SELECT id, md5('run')::uuid, id, 'succeeded', now() FROM virtuozo_core.hosts;
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name) SELECT id, id, name, name FROM virtuozo_core.hosts;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at)
    SELECT id, md5('run')::uuid, id, id, id, 'admitted', now() FROM virtuozo_core.hosts";

#[tokio::test]
async fn a_job_is_claimed_only_by_who_serves_the_kind_of_its_host_and_waits_for_one_until_then() {
    let db = TestDb::new().await;
    sqlx::raw_sql(KINDS).execute(&db.pool).await.unwrap();
    // Twice, so that each is offered what it must leave before and after what it may take.
    let push = "SELECT virtuozo_core.push_jobs('virtuozo-guest', array_agg(id ORDER BY name DESC), 0),
                       virtuozo_core.push_jobs('virtuozo-guest', array_agg(id ORDER BY name), 0) FROM virtuozo_core.hosts";
    sqlx::raw_sql(push).execute(&db.pool).await.unwrap();
    let kind = |kind: &str| tokio::sync::watch::channel(vec![kind.to_owned()]);
    let (serves_one, kinds) = kind("one");
    let (mut one, first) =
        claimer::<GuestJob>(&db, "1", Capabilities::of_worker(Uuid::now_v7(), kinds)).await;
    let (_serves_two, kinds) = kind("two");
    let (mut two, second) =
        claimer::<GuestJob>(&db, "2", Capabilities::of_worker(Uuid::now_v7(), kinds)).await;
    let (mut none, third) = claimer::<GuestJob>(&db, "3", Capabilities::none()).await;
    for _ in 0..6 {
        one.fetch_next(&first).await.unwrap();
        two.fetch_next(&second).await.unwrap();
        none.fetch_next(&third).await.unwrap();
    }
    let claimed =
        "SELECT string_agg(format('%s of %s', lock_by, needs_kind), ', ' ORDER BY needs_kind)
                     FROM apalis.jobs WHERE status = 'Done'";
    let claimed = async || -> String {
        let claimed = sqlx::query_scalar(claimed).fetch_one(&db.pool).await;
        claimed.unwrap()
    };
    assert_eq!(claimed().await, "1 of one, 1 of one, 2 of two, 2 of two");
    let waiting = "SELECT DISTINCT waiting_reason FROM virtuozo.jobs WHERE needs_kind = 'three'";
    sqlx::raw_sql(
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
         VALUES (md5('worker')::uuid, 'worker', 'w', 'm', 1, '1');
         INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
         VALUES (md5('worker')::uuid, 'three', false, 'its library is missing')",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let waiting: String = sqlx::query_scalar(waiting)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    assert!(waiting.contains("of the kind three"), "{waiting}");

    // A library that is installed meanwhile.
    serves_one.send_replace(vec!["one".to_owned(), "three".to_owned()]);
    for _ in 0..2 {
        one.fetch_next(&first).await.unwrap();
    }
    assert_eq!(
        claimed().await,
        "1 of one, 1 of one, 1 of three, 1 of three, 2 of two, 2 of two"
    );
}

/// A host of the kind `one` with datastores: one that is mapped, one at its own path, one on Windows. Its guests are in the
/// first, have a disk in the second, or are somewhere.
const SITE: &str = r"
    UPDATE virtuozo_core.settings SET destination = '/backup';
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'lab', 'one');
    INSERT INTO virtuozo_core.datastores (host_id, name, host_path, local_path)
    VALUES (md5('host')::uuid, 'fast', '/vmfs/fast', '/mnt/fast'), (md5('host')::uuid, 'slow', '/srv/slow', NULL),
           (md5('host')::uuid, 'win', 'D:\vm', NULL), (md5('host')::uuid, 'spare', '/vmfs/spare', '/mnt/spare');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id) VALUES (md5('host')::uuid, md5('run')::uuid, md5('host')::uuid);
    INSERT INTO virtuozo_core.requests (id, kind, host_id, requested_by, wanted_until)
    VALUES (md5('host')::uuid, 'host_check', md5('host')::uuid, 'test', now() + interval '1 hour'),
           (md5('test')::uuid, 'host_test', md5('host')::uuid, 'test', now() + interval '1 hour');
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name, datastore, destination)
    SELECT md5(name)::uuid, md5('host')::uuid, name, name, datastore, destination
      FROM (VALUES ('mail', 'fast', NULL), ('both', 'fast', '/archive'), ('any', NULL, NULL)) AS g (name, datastore, destination);
    INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, datastore, ignored)
    VALUES (md5('1')::uuid, md5('both')::uuid, 'scsi0:0', 'a', 'slow', false),
           (md5('2')::uuid, md5('mail')::uuid, 'scsi0:0', 'a', 'slow', true);
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at)
    SELECT id, md5('run')::uuid, md5('host')::uuid, host_id, id, 'admitted', now() FROM virtuozo_core.guests";

#[tokio::test]
async fn a_job_names_its_host_and_the_locations_that_its_worker_reads_and_writes() {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    let needs = async |queue: &str, of: &str| -> String {
        let push = "SELECT virtuozo_core.push_jobs($1, ARRAY[md5($2)::uuid], 0)";
        sqlx::query(push)
            .bind(queue)
            .bind(of)
            .execute(&db.pool)
            .await
            .unwrap();
        let read = "DELETE FROM apalis.jobs
                    RETURNING concat_ws(' ', needs_kind, CASE needs_host WHEN md5('host')::uuid THEN 'lab' END,
                                        (SELECT string_agg(l, ' ' ORDER BY l) FROM unnest(needs_locations) l))";
        sqlx::query_scalar(read).fetch_one(&db.pool).await.unwrap()
    };
    let of_host = "one lab /mnt/fast /mnt/spare /srv/slow";
    assert_eq!(needs(HostJob::QUEUE, "host").await, of_host);
    assert_eq!(needs(RequestJob::QUEUE, "host").await, of_host);
    // It looks at no guest.
    assert_eq!(needs(RequestJob::QUEUE, "test").await, "one lab");
    // A disk that is left out needs nothing.
    let guest = needs(GuestJob::QUEUE, "mail").await;
    assert_eq!(guest, "one lab /backup /mnt/fast");
    let guest = needs(GuestJob::QUEUE, "both").await;
    assert_eq!(guest, "one lab /archive /mnt/fast /srv/slow");
    let guest = needs(GuestJob::QUEUE, "any").await;
    assert_eq!(guest, "one lab /backup /mnt/fast /mnt/spare /srv/slow");
    // Undoing writes no restore point.
    let undo = needs(UndoJob::QUEUE, "both").await;
    assert_eq!(undo, "one lab /mnt/fast /srv/slow");
    assert_eq!(needs(UndoJob::QUEUE, "nobody").await, "");
    assert_eq!(needs("virtuozo-notice", "nobody").await, "");
}

/// What a worker may have been found to lack, and whether the jobs of the guest `mail` need that.
const LACKS: [(&str, bool); 7] = [
    ("SELECT NULL::uuid, NULL, now() WHERE false", false),
    ("SELECT NULL::uuid, '/mnt/fast', now()", true),
    ("SELECT md5('host')::uuid, NULL, now()", true),
    (
        "SELECT NULL::uuid, '/mnt/fast', now() - interval '6 minutes'",
        false,
    ),
    (
        "SELECT md5('host')::uuid, NULL, now() - interval '6 minutes'",
        false,
    ),
    ("SELECT NULL::uuid, '/mnt/spare', now()", false),
    (
        "SELECT NULL::uuid, l, now() FROM unnest('{/mnt/spare,/mnt/fast}'::text[]) l",
        true,
    ),
];

/// Another process, and whether it may be able to do jobs of the kind `one`.
const OTHERS: [(&str, bool); 7] = [
    ("SELECT 'worker', false, now(), 'one' WHERE false", false),
    ("SELECT 'worker', false, now(), 'one'", true),
    // Its program says nothing of kinds.
    ("SELECT 'worker', false, now(), NULL", true),
    ("SELECT 'worker', false, now(), 'two'", false),
    ("SELECT 'worker', true, now(), 'one'", false),
    (
        "SELECT 'worker', false, now() - interval '1 minute', 'one'",
        false,
    ),
    ("SELECT 'scheduler', false, now(), NULL", false),
];

#[tokio::test]
async fn a_worker_that_was_asked_to_drain_claims_nothing_even_if_it_has_not_learned_of_it() {
    let db = TestDb::new().await;
    let id = Uuid::from_u128(1);
    sqlx::query(
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version) VALUES ($1, 'worker', 'w', 'm', 1, '1')",
    )
    .bind(id)
    .execute(&db.pool)
    .await
    .unwrap();
    let (_kinds, served) = tokio::sync::watch::channel(Vec::new());
    let (mut undos, worker) =
        claimer::<UndoJob>(&db, "u", Capabilities::of_worker(id, served)).await;
    push_undos(&db, 2).await;
    assert_eq!(undos.fetch_next(&worker).await.unwrap().len(), 1);
    sqlx::query("UPDATE virtuozo_core.workers SET drain_requested = true")
        .execute(&db.pool)
        .await
        .unwrap();
    assert_eq!(undos.fetch_next(&worker).await.unwrap().len(), 0);
    let (mut other, others) = claimer::<UndoJob>(&db, "v", Capabilities::none()).await;
    assert_eq!(other.fetch_next(&others).await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_lacks_what_a_job_needs_leaves_it_while_another_worker_runs_that_may_have_it_and_is_named_so()
 {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    let id = Uuid::from_u128(1);
    let (kinds, served) = tokio::sync::watch::channel(Vec::new());
    let capabilities = Capabilities::of_worker(id, served);
    let (mut guests, of_guests) = claimer::<GuestJob>(&db, "g", capabilities.clone()).await;
    let (mut undos, of_undos) = claimer::<UndoJob>(&db, "u", capabilities).await;
    let mut left_in_all = 0;
    for (lacks, is_needed) in LACKS {
        for (other, is_able) in OTHERS {
            // What one lacks that is not able to do the job anyhow does not matter.
            let all = if is_able { &LACKS[..] } else { &LACKS[..1] };
            for (others_lacks, is_needed_there) in all.iter().copied() {
                for is_served in [true, false] {
                    let setting = format!(
                        "DELETE FROM virtuozo_core.workers; DELETE FROM apalis.jobs;
                         INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
                         VALUES ('{id}', 'worker', 'bad', 'mars', 1, '1');
                         INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
                         VALUES ('{id}', 'one', {is_served}, '');
                         INSERT INTO virtuozo_core.missing_capabilities (worker_id, host_id, location, noted_at, reason)
                         SELECT '{id}', x.*, 'it is gone' FROM ({lacks}) AS x (h, l, at);
                         WITH other AS (SELECT * FROM ({other}) AS o (kind, drains, heard, served)),
                         w AS (
                             INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version, drain_requested, heartbeat_at)
                             SELECT md5('other')::uuid, kind, 'other', 'venus', 1, '1', drains, heard FROM other RETURNING id),
                         k AS (
                             INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
                             SELECT w.id, served, true, '' FROM w, other WHERE served IS NOT NULL)
                         INSERT INTO virtuozo_core.missing_capabilities (worker_id, host_id, location, noted_at, reason)
                         SELECT w.id, x.*, 'it is gone too' FROM w, ({others_lacks}) AS x (h, l, at);
                         SELECT virtuozo_core.push_jobs(q, ARRAY[md5('mail')::uuid], 0) FROM unnest('{{virtuozo-guest,virtuozo-undo}}'::text[]) q;"
                    );
                    let case = format!(
                        "serves {is_served}, lacks {lacks}, other {other} lacks {others_lacks}"
                    );
                    sqlx::raw_sql(AssertSqlSafe(setting))
                        .execute(&db.pool)
                        .await
                        .expect(&case);
                    let reasons: Vec<String> =
                        sqlx::query_scalar("SELECT waiting_reason FROM virtuozo.jobs")
                            .fetch_all(&db.pool)
                            .await
                            .unwrap();
                    let served: &[&str] = if is_served { &["one"] } else { &[] };
                    kinds.send_replace(served.iter().map(ToString::to_string).collect());
                    let claimed = [
                        guests.fetch_next(&of_guests).await.unwrap().len(),
                        undos.fetch_next(&of_undos).await.unwrap().len(),
                    ];
                    let is_left = is_needed && is_able && !is_needed_there;
                    let expected = usize::from(is_served && !is_left);
                    assert_eq!(claimed, [expected; 2], "{case}");
                    if is_served {
                        let name = "worker bad on mars, which lacks";
                        let named = reasons.iter().filter(|one| one.contains(name)).count();
                        assert_eq!(named, if is_left { 2 } else { 0 }, "{case}: {reasons:?}");
                    }
                    left_in_all += usize::from(is_left);
                }
            }
        }
    }
    assert_eq!(left_in_all, 3 * 2 * 4 * 2);
}
