//! A site in memory: a database, a world of guests, workers that can be killed, and the sweeps.

pub(crate) use virtuozo_hypervisor::testing as fake;

pub(crate) mod proxy;

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use fake::{FakeConnector, World};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_disk::{BlockSource, vmdk::Chain};
use virtuozo_hypervisor::{Connector, Connectors, PowerState, snapshot_name};
use virtuozo_postgres::testing::TestDb;
use virtuozo_store::{
    hosts::{self, HostConfig},
    obligations,
    runs::{self, NewRun, Targets},
    settings, sweeps,
};
use virtuozo_telemetry::{Telemetry, metrics::Metrics};
use virtuozo_worker::{Worker, WorkerOptions};

const WAIT_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    pub(crate) destination: tempfile::TempDir,
    pub(crate) host_id: Uuid,
    sweeper: tokio::task::JoinHandle<()>,
    pub(crate) db: TestDb,
}

/// A guest run as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) guest: String,
    pub(crate) state: String,
    pub(crate) mode: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) crashes: i32,
    pub(crate) fence: i64,
    pub(crate) error: Option<String>,
    pub(crate) error_class: Option<String>,
}

impl Site {
    pub(crate) async fn new(guests: &[(&str, PowerState)]) -> Self {
        let db = TestDb::new().await;
        let destination = tempfile::tempdir().unwrap();
        let root = destination.path().to_str().unwrap();
        settings::set(
            &db.pool,
            &[
                ("destination", root),
                ("retry_delay_secs", "0"),
                ("lease_secs", "4"),
            ],
        )
        .await
        .unwrap();
        let world = Arc::new(World::default());
        for (name, power) in guests {
            world.add(name, *power);
        }
        let host_id = add_host(&db.pool, "lab").await;
        let sweeper = tokio::spawn(sweep(db.pool.clone()));
        Self {
            world,
            destination,
            host_id,
            sweeper,
            db,
        }
    }

    pub(crate) fn worker(&self, name: &str) -> WorkerProcess {
        WorkerProcess::start(name, self.db.url().to_owned(), Arc::clone(&self.world))
    }

    pub(crate) fn stop_sweeping(&self) {
        self.sweeper.abort();
    }

    pub(crate) async fn run_now(&self) -> Uuid {
        self.run_of(Targets::default()).await
    }

    pub(crate) async fn run_of(&self, targets: Targets) -> Uuid {
        let new = NewRun {
            tick: None,
            requested_by: "test".to_owned(),
            targets,
        };
        runs::start_run(&self.db.pool, &new).await.unwrap()
    }

    /// Waits until the run has ended and all obligations are met; returns the run's state.
    pub(crate) async fn settled(&self, run_id: Uuid) -> String {
        self.until("the run has ended and all obligations are met", || async {
            let obligations: i64 = self
                .scalar("SELECT count(*) FROM virtuozo_core.obligations")
                .await;
            let state = self.run_state(run_id).await;
            (obligations == 0 && state != "running").then_some(state)
        })
        .await
    }

    pub(crate) async fn run_state(&self, run_id: Uuid) -> String {
        sqlx::query_scalar("SELECT state FROM virtuozo_core.runs WHERE id = $1")
            .bind(run_id)
            .fetch_one(&self.db.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn rows(&self, run_id: Uuid) -> Vec<Row> {
        sqlx::query_as(
            "SELECT g.name AS guest, r.state, r.mode, r.step, r.attempts, r.crashes, r.fence, r.error, r.error_class
               FROM virtuozo_core.guest_runs r JOIN virtuozo_core.guests g ON g.id = r.guest_id
              WHERE r.run_id = $1 ORDER BY g.name",
        )
        .bind(run_id)
        .fetch_all(&self.db.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn row(&self, run_id: Uuid, guest: &str) -> Row {
        let rows = self.rows(run_id).await;
        rows.into_iter()
            .find(|r| r.guest == guest)
            .expect("the guest is in the run")
    }

    pub(crate) async fn scalar<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sql)
            .fetch_one(&self.db.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.db.pool).await.unwrap();
    }

    /// Every lease runs out at this moment, as if its owner had said nothing for long.
    pub(crate) async fn expire_leases(&self) {
        // A lease that ran out before the server began is left for one lease more, so the server's age
        // must not matter here.
        self.until("the leases are taken over", || async {
            self.execute("UPDATE virtuozo_core.guest_runs SET lease_until = '1970-01-01' WHERE state = 'running'").await;
            sweeps::expire_guest_runs(&self.db.pool, &Metrics::default()).await.unwrap();
            self.execute("UPDATE virtuozo_core.host_runs SET lease_until = '1970-01-01' WHERE state = 'running'").await;
            sweeps::expire_host_runs(&self.db.pool, &Metrics::default()).await.unwrap();
            let running: i64 = self
                .scalar(
                    "SELECT (SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'running' AND lease_until < now())
                          + (SELECT count(*) FROM virtuozo_core.host_runs WHERE state = 'running' AND lease_until < now())",
                )
                .await;
            (running == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn until<T, F, Fut>(&self, what: &str, mut look: F) -> T
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<T>>,
    {
        let deadline = tokio::time::Instant::now() + WAIT_LIMIT;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if tokio::time::Instant::now() > deadline {
                let rows: Vec<(String, Option<String>, Option<String>)> =
                    sqlx::query_as("SELECT state, step, error FROM virtuozo_core.guest_runs")
                        .fetch_all(&self.db.pool)
                        .await
                        .unwrap();
                let obligations: Vec<(String, Option<String>)> =
                    sqlx::query_as("SELECT kind, last_error FROM virtuozo_core.obligations")
                        .fetch_all(&self.db.pool)
                        .await
                        .unwrap();
                panic!(
                    "not within a minute: {what}; guest runs: {rows:?}; obligations: {obligations:?}"
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// No snapshot of ours is left on any guest, no slot is taken, and all obligations are met.
    pub(crate) async fn assert_clean(&self, guests: &[(&str, PowerState)]) {
        for (name, power) in guests {
            self.world.with(name, |guest| {
                let mut ours = guest.snapshot_names();
                ours.retain(|name| snapshot_name::is_ours(name));
                assert!(ours.is_empty(), "{name} still has {ours:?}");
                assert_eq!(guest.power, *power, "{name}'s power state");
            });
        }
        let taken: i64 = self
            .scalar("SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL")
            .await;
        assert_eq!(taken, 0, "slots taken");
        let obligations: i64 = self
            .scalar("SELECT count(*) FROM virtuozo_core.obligations")
            .await;
        assert_eq!(obligations, 0, "obligations left");
    }

    /// The bytes of the disk in each restore point of a guest, newest first.
    pub(crate) async fn points(&self, guest: &str) -> Vec<Vec<u8>> {
        let paths: Vec<(String, String)> = sqlx::query_as(
            "SELECT repository, path FROM virtuozo_core.restore_points WHERE guest_name = $1 ORDER BY taken_at DESC",
        )
        .bind(guest)
        .fetch_all(&self.db.pool)
        .await
        .unwrap();
        paths
            .iter()
            .map(|(root, path)| disk_bytes(&Path::new(root).join(path)))
            .collect()
    }

    /// Directories of the guest in the repository: published points, and what should not be there.
    pub(crate) fn directories(&self, guest: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.destination.path().join("lab").join(guest)) else {
            return Vec::new();
        };
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

fn disk_bytes(point: &Path) -> Vec<u8> {
    let chain = Chain::open(point.join("disk0.disk"), &[]).unwrap();
    let mut bytes = vec![0; chain.size_bytes() as usize];
    chain.read_at(0, &mut bytes).unwrap();
    bytes
}

pub(crate) async fn add_host(pool: &PgPool, name: &str) -> Uuid {
    let id = Uuid::now_v7();
    let config = HostConfig {
        name: name.to_owned(),
        kind: "memory".parse().unwrap(),
        address: Some(format!("https://{name}/sdk")),
        user_name: None,
        properties: Default::default(),
        ignored: false,
        guest_threads: None,
    };
    hosts::insert(pool, id, &config, None).await.unwrap();
    id
}

/// What the scheduler does, a little faster. A database that does not answer is asked again.
async fn sweep(pool: PgPool) {
    loop {
        let _ = sweeps::expire_host_runs(&pool, &Metrics::default()).await;
        let _ = sweeps::expire_guest_runs(&pool, &Metrics::default()).await;
        let _ = sweeps::expire_requests(&pool).await;
        let _ = sweeps::drop_requests(&pool).await;
        let _ = sweeps::admit_all(&pool).await;
        let _ = obligations::push_due(&pool).await;
        let _ = sweeps::push_lost_jobs(&pool).await;
        let _ = sweeps::drop_jobs(&pool).await;
        let _ = sweeps::end_runs(&pool, &Metrics::default()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A worker on a runtime of its own, as if it were a process.
pub(crate) struct WorkerProcess {
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
    done: tokio::sync::oneshot::Receiver<()>,
}

impl WorkerProcess {
    pub(crate) fn start(name: &str, url: String, world: Arc<World>) -> Self {
        Self::start_with(WorkerOptions::new(name), FakeConnector::new(world), url)
    }

    /// One on a machine of its own.
    pub(crate) fn start_with(
        options: WorkerOptions,
        connector: FakeConnector,
        url: String,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let (sender, done) = tokio::sync::oneshot::channel();
        let token = stop.clone();
        runtime.spawn(async move {
            let telemetry = Telemetry::default();
            let pool = virtuozo_postgres::connect(&url, 2, &telemetry.health)
                .await
                .unwrap();
            let connectors = Connectors::new([Arc::new(connector) as Arc<dyn Connector>]);
            Worker::run(pool.clone(), options, connectors, telemetry, token)
                .await
                .unwrap();
            pool.close().await;
            let _ = sender.send(());
        });
        Self {
            runtime: Some(runtime),
            stop,
            done,
        }
    }

    /// Ends it without any farewell.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) {
        self.stop.cancel();
        tokio::time::timeout(WAIT_LIMIT, &mut self.done)
            .await
            .expect("the worker stops")
            .unwrap();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
