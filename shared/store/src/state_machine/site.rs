//! A host with three guests, those who work on them, and what has been seen so far.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgPool;
use uuid::Uuid;

use super::Op;
use crate::{
    circuit_breakers::{BreakerState, Probe},
    events::NewEvent,
    guest_runs::{self, Ending, GuestLease},
    guests,
    host_runs::{self, GuestRunStart, HostLease, NewGuestRun},
    hosts::{self, HostConfig},
    inventory::{self, GuestObservation},
    leases::{self, Fence},
    obligations::{self, UndoClaim},
    points::{self, NewPoint},
    runs::{self, NewRun, Targets},
    settings, sweeps,
};
use virtuozo_model::{ErrorClass, GuestState, Power, Severity};
use virtuozo_telemetry::metrics::Metrics;

const GUESTS: usize = 3;

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: Uuid,
    run_id: Uuid,
    guest_id: Uuid,
    pub(super) state: String,
    fence: i64,
    attempt_fence: Option<i64>,
}

pub(super) struct Site<'a> {
    pub(super) pool: &'a PgPool,
    pub(super) host_id: Uuid,
    guests: Vec<Uuid>,
    pub(super) held: Vec<GuestLease>,
    lost: Vec<GuestLease>,
    claims: Vec<UndoClaim>,
    pub(super) probe: Option<Probe>,
    pub(super) seen: HashMap<Uuid, Row>,
    ended_runs: BTreeMap<Uuid, String>,
}

pub(super) fn pick<T>(from: &[T], n: usize) -> Option<usize> {
    (!from.is_empty()).then(|| n % from.len())
}

impl<'a> Site<'a> {
    pub(super) async fn new(pool: &'a PgPool) -> Self {
        for statement in [
            "DELETE FROM virtuozo_core.obligations",
            "DELETE FROM virtuozo_core.restore_points",
            "DELETE FROM virtuozo_core.runs",
            "DELETE FROM virtuozo_core.hosts",
            "DELETE FROM apalis.jobs",
        ] {
            sqlx::query(statement).execute(pool).await.unwrap();
        }
        settings::set(pool, &[("guest_threads", "2"), ("max_crashes", "3")])
            .await
            .unwrap();
        let host_id = Uuid::now_v7();
        let config = HostConfig {
            name: "lab".to_owned(),
            kind: "esxi".parse().unwrap(),
            address: Some("https://lab/sdk".to_owned()),
            user_name: None,
            properties: Default::default(),
            ignored: false,
            guest_threads: None,
        };
        hosts::insert(pool, host_id, &config, None).await.unwrap();
        let mut guests = Vec::new();
        for n in 0..GUESTS {
            let host = hosts::by_id(pool, host_id).await.unwrap();
            let locator = format!("[standard] g{n}/g{n}.vmx");
            guests.push(guests::insert(pool, &host, &locator).await.unwrap());
        }
        Self {
            pool,
            host_id,
            guests,
            held: Vec::new(),
            lost: Vec::new(),
            claims: Vec::new(),
            probe: None,
            seen: HashMap::new(),
            ended_runs: BTreeMap::new(),
        }
    }

    pub(super) async fn rows(&self) -> Vec<Row> {
        sqlx::query_as("SELECT id, run_id, guest_id, state, fence, attempt_fence FROM virtuozo_core.guest_runs ORDER BY id")
            .fetch_all(self.pool)
            .await
            .unwrap()
    }

    pub(super) async fn end(&self, lease: &GuestLease, ending: &Ending) -> Fence {
        let mut tx = self.pool.begin().await.unwrap();
        let fence = guest_runs::end(
            &mut tx,
            &Metrics::default(),
            lease,
            ending,
            Some(("refused", ErrorClass::Retry)),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        fence
    }

    pub(super) async fn publish(&self, lease: &GuestLease) -> Fence {
        let path = format!("lab/g/{}-f{}", lease.guest_run_id, lease.fence);
        let point = NewPoint {
            id: Uuid::now_v7(),
            host_name: "lab",
            guest_name: "g",
            repository: "/srv",
            path: &path,
            mode: "hot",
            taken_at: runs::database_now(self.pool).await.unwrap(),
            size_bytes: 1,
            source_bytes: 1,
            foreign_snapshots: &[],
            verified: true,
            read_back: Some("medium"),
            manifest_blake3: &"0".repeat(64),
        };
        let event = NewEvent::user(Severity::Info, "backed up");
        let published = points::publish(self.pool, lease, &point, &event).await;
        let Some(published) = published.unwrap() else {
            return Fence::Lost;
        };
        if !published.admitted.contains(&lease.run_id) {
            guest_runs::end_run(self.pool, &Metrics::default(), lease)
                .await
                .unwrap();
        }
        Fence::Held
    }

    /// Ends a held lease the way `ending` says.
    pub(super) async fn give_up(&mut self, which: usize, ending: Ending) {
        if let Some(at) = pick(&self.held, which) {
            let lease = self.held.swap_remove(at);
            assert_eq!(self.end(&lease, &ending).await, Fence::Held);
            self.lost.push(lease);
        }
    }

    pub(super) async fn apply(&mut self, op: &Op) {
        match *op {
            Op::StartRun => self.start_run().await,
            Op::Take(which) => {
                let mut rows = self.rows().await;
                if rows.iter().any(|r| r.state == "admitted") && which % 4 > 0 {
                    rows.retain(|r| r.state == "admitted");
                }
                let Some(at) = pick(&rows, which) else { return };
                let row = &rows[at];
                let taken = leases::take::<GuestLease>(self.pool, row.id, Uuid::now_v7())
                    .await
                    .unwrap();
                assert_eq!(taken.is_some(), row.state == "admitted", "{row:?}");
                if let Some(lease) = taken {
                    assert_eq!(lease.fence, row.fence + 1);
                    assert_eq!(
                        lease.attempt_fence,
                        row.attempt_fence.unwrap_or(lease.fence)
                    );
                    self.held.push(lease);
                }
            }
            Op::Retry { which, keep_steps } => {
                self.give_up(
                    which,
                    Ending::Retry {
                        delay_secs: 0.0,
                        keep_steps,
                    },
                )
                .await;
            }
            Op::Fail(which) => self.give_up(which, Ending::Failed).await,
            Op::HandOver(which) => {
                self.give_up(which, Ending::HandedOver { keep_steps: true })
                    .await
            }
            Op::Publish(which) => {
                if let Some(at) = pick(&self.held, which) {
                    let lease = self.held.swap_remove(at);
                    assert_eq!(self.publish(&lease).await, Fence::Held);
                    self.lost.push(lease);
                }
            }
            Op::ActLate => self.act_late().await,
            Op::OweSnapshot(which) => {
                let Some(at) = pick(&self.held, which) else {
                    return;
                };
                let lease = &self.held[at];
                let name = format!("s-{}-{}", lease.guest_run_id, lease.fence);
                let recorded = obligations::record_snapshot(self.pool, lease, &name)
                    .await
                    .unwrap();
                assert!(recorded.is_some());
            }
            Op::OwePowerOn(which) => {
                let Some(at) = pick(&self.held, which) else {
                    return;
                };
                let recorded = obligations::record_power_on(self.pool, &self.held[at])
                    .await
                    .unwrap();
                assert_eq!(recorded, Fence::Held);
            }
            Op::Renew(which) => {
                let Some(at) = pick(&self.held, which) else {
                    return;
                };
                assert!(
                    leases::renew(self.pool, &self.held[at])
                        .await
                        .unwrap()
                        .is_some()
                );
            }
            Op::Die(which) => {
                let Some(at) = pick(&self.held, which) else {
                    return;
                };
                let lease = self.held.swap_remove(at);
                sqlx::query(
                    "UPDATE virtuozo_core.guest_runs SET lease_until = '1970-01-01' WHERE id = $1",
                )
                .bind(lease.guest_run_id)
                .execute(self.pool)
                .await
                .unwrap();
                // Right after its start the database gives everyone one more lease.
                while sweeps::expire_guest_runs(self.pool, &Metrics::default())
                    .await
                    .unwrap()
                    .is_empty()
                {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                self.lost.push(lease);
            }
            Op::Cancel(which) => {
                let rows = self.rows().await;
                let Some(at) = pick(&rows, which) else { return };
                let ended = self.ended_runs.contains_key(&rows[at].run_id);
                assert_eq!(
                    runs::cancel(self.pool, rows[at].run_id).await.is_err(),
                    ended
                );
            }
            Op::Admit => {
                let admitted = sweeps::admit_all(self.pool).await.unwrap();
                match self.breaker().await {
                    None => self.assert_nothing_waits_without_need().await,
                    Some(breaker) if breaker.is_open => assert_eq!(admitted, 0, "{breaker:?}"),
                    Some(breaker) => assert!(admitted <= 1, "one is enough to probe: {breaker:?}"),
                }
            }
            Op::ClaimUndo(which) => self.claim_undo(which).await,
            Op::Undo(which) => {
                let Some(at) = pick(&self.claims, which) else {
                    return;
                };
                let claim = self.claims.swap_remove(at);
                for obligation in obligations::of_guest(self.pool, claim.guest_id)
                    .await
                    .unwrap()
                {
                    obligations::met(self.pool, &obligation).await.unwrap();
                }
                let left = leases::release(self.pool, &claim).await.unwrap();
                assert_eq!(left, Fence::Lost, "nothing is left to be undone");
            }
            Op::DropClaim(which) => {
                let Some(at) = pick(&self.claims, which) else {
                    return;
                };
                let claim = self.claims.swap_remove(at);
                let _fence = leases::release(self.pool, &claim).await.unwrap();
            }
            Op::Move(which) => self.move_guest(which).await,
            Op::SetSlots(slots) => {
                let slots = slots.to_string();
                settings::set(self.pool, &[("guest_threads", &slots)])
                    .await
                    .unwrap();
            }
            Op::MissHost(which) => self.miss_host(which).await,
            Op::AnswerHost => self.answer_host().await,
            Op::ProbeAndVanish => {
                if let BreakerState::HalfOpen(probe) = self.ask().await {
                    self.probe = Some(probe);
                }
            }
            Op::CircuitBreakerIsDue => self.circuit_breaker_is_due().await,
            Op::ProbeNow => self.probe_now().await,
        }
    }

    /// Whoever has lost a lease can change nothing, even if the run is in work again.
    pub(super) async fn act_late(&self) {
        for lease in self.lost.iter().rev().take(4) {
            assert_eq!(leases::renew(self.pool, lease).await.unwrap(), None);
            assert_eq!(self.publish(lease).await, Fence::Lost);
            for ending in [
                Ending::Failed,
                Ending::WaitsForHost,
                Ending::Retry {
                    delay_secs: 0.0,
                    keep_steps: true,
                },
                Ending::HandedOver { keep_steps: true },
            ] {
                assert_eq!(self.end(lease, &ending).await, Fence::Lost, "{ending:?}");
            }
            let recorded = obligations::record_power_on(self.pool, lease)
                .await
                .unwrap();
            assert_eq!(recorded, Fence::Lost);
        }
    }

    /// Claims the obligations of a guest, and tries at once to admit somebody to it.
    async fn claim_undo(&mut self, which: usize) {
        let guests: Vec<Uuid> = sqlx::query_scalar(
            "SELECT DISTINCT guest_id FROM virtuozo_core.obligations ORDER BY guest_id",
        )
        .fetch_all(self.pool)
        .await
        .unwrap();
        let Some(at) = pick(&guests, which) else {
            return;
        };
        let guest_id = guests[at];
        let claimed = obligations::claim(self.pool, self.host_id, guest_id)
            .await
            .unwrap();
        if let Some(claim) = claimed {
            assert!(
                self.claims.iter().all(|c| c.guest_id != guest_id),
                "claimed twice"
            );
            self.claims.push(claim);
            sweeps::admit_all(self.pool).await.unwrap();
        }
    }

    pub(super) async fn start_run(&mut self) {
        let new = NewRun {
            tick: None,
            requested_by: "test".to_owned(),
            targets: Targets::default(),
        };
        let run_id = runs::start_run(self.pool, &new).await.unwrap();
        let host_run: Uuid =
            sqlx::query_scalar("SELECT id FROM virtuozo_core.host_runs WHERE run_id = $1")
                .bind(run_id)
                .fetch_one(self.pool)
                .await
                .unwrap();
        let breaker = self.breaker().await;
        self.begin_host_run(host_run).await;
        assert!(
            breaker.is_none_or(|breaker| breaker.failed_probes < 3),
            "a new run tries afresh"
        );
    }

    /// Takes a host run and makes its guest runs, if the host's circuit breaker permits that.
    pub(super) async fn begin_host_run(&mut self, host_run: Uuid) {
        let is_open = self.breaker().await.is_some_and(|breaker| breaker.is_open);
        let lease = leases::take::<HostLease>(self.pool, host_run, Uuid::now_v7())
            .await
            .unwrap();
        assert_eq!(
            lease.is_none(),
            is_open,
            "nobody asks a host whose circuit breaker is open"
        );
        let Some(lease) = lease else { return };
        self.answer_host().await;
        let guests: Vec<NewGuestRun> = self
            .guests
            .iter()
            .map(|&guest_id| NewGuestRun {
                guest_id,
                start: GuestRunStart::Waiting,
            })
            .collect();
        let mut tx = self.pool.begin().await.unwrap();
        assert_eq!(
            host_runs::succeed(&mut tx, &Metrics::default(), &lease, &guests)
                .await
                .unwrap(),
            Fence::Held
        );
        tx.commit().await.unwrap();
    }

    /// A guest is seen on another node.
    async fn move_guest(&self, which: usize) {
        let node = [None, Some("a"), Some("b")][which / GUESTS % 3];
        let seen = GuestObservation {
            name: "guest".to_owned(),
            power: Power::On,
            state: GuestState::Ok,
            reason: None,
            node: node.map(str::to_owned),
            datastore: None,
            change_ids: Vec::new(),
            disks: Vec::new(),
        };
        inventory::apply_guest_facts(self.pool, self.guests[which % GUESTS], &seen)
            .await
            .unwrap();
    }

    pub(super) async fn assert_nothing_waits_without_need(&self) {
        let idle: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM virtuozo_core.guest_runs w JOIN virtuozo_core.guests u ON u.id = w.guest_id
              WHERE w.state = 'waiting' AND w.run_after <= now()
                AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                             WHERE s.host_id = w.host_id AND s.node = coalesce(u.node, '') AND s.guest_run_id IS NULL)
                AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs a
                                 WHERE a.guest_id = w.guest_id AND a.state IN ('admitted', 'running'))
                AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                                 WHERE o.guest_id = w.guest_id AND o.lease_until > now())",
        )
        .fetch_one(self.pool)
        .await
        .unwrap();
        assert_eq!(
            idle, 0,
            "a slot is free and somebody on its node could use it"
        );
    }

    pub(super) async fn assert_promises(&mut self) {
        let rows = self.rows().await;
        let active = |row: &Row| row.state == "admitted" || row.state == "running";
        let mut slots: Vec<Uuid> = sqlx::query_scalar(
            "SELECT guest_run_id FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL",
        )
        .fetch_all(self.pool)
        .await
        .unwrap();
        slots.sort_unstable();
        let mut in_work: Vec<Uuid> = rows.iter().filter(|r| active(r)).map(|r| r.id).collect();
        in_work.sort_unstable();
        assert_eq!(
            slots, in_work,
            "each run in work has one slot, and nobody else has any"
        );

        let nodes: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT n.node, count(*) FILTER (WHERE g.slot_no IS NOT NULL AND g.guest_run_id IS NULL),
                    greatest(s.guest_threads - count(g.guest_run_id), 0)
               FROM virtuozo_core.host_nodes n CROSS JOIN virtuozo_core.settings s
               LEFT JOIN virtuozo_core.guest_slots g ON g.host_id = n.host_id AND g.node = n.node
              GROUP BY n.node, s.guest_threads",
        )
        .fetch_all(self.pool)
        .await
        .unwrap();
        for (node, free, room) in nodes {
            assert_eq!(
                free, room,
                "slots of the node {node:?} are free for what the cap permits beside those in work"
            );
        }

        for row in &rows {
            if let Some(before) = self.seen.get(&row.id) {
                assert!(
                    row.fence >= before.fence,
                    "a fence never falls: {before:?} {row:?}"
                );
                let open = ["waiting", "admitted", "running"].contains(&before.state.as_str());
                assert!(
                    open || before.state == row.state,
                    "an ended run stays as it is: {before:?} {row:?}"
                );
            }
        }
        for claim in &self.claims {
            let worked_on = rows
                .iter()
                .any(|r| r.guest_id == claim.guest_id && active(r));
            assert!(!worked_on, "nobody works on a guest that is being undone");
        }
        self.assert_promises_of_the_circuit_breaker(&rows).await;
        let runs: Vec<(Uuid, String, bool)> = sqlx::query_as(
            "SELECT r.id, r.state, EXISTS (SELECT 1 FROM virtuozo_core.host_runs h
                                            WHERE h.run_id = r.id AND h.state = 'queued')
               FROM virtuozo_core.runs r",
        )
        .fetch_all(self.pool)
        .await
        .unwrap();
        for (id, state, queued) in runs {
            let open = queued
                || rows.iter().any(|r| {
                    r.run_id == id && ["waiting", "admitted", "running"].contains(&r.state.as_str())
                });
            assert_eq!(
                open,
                state == "running",
                "a run ends with its last guest run: {id} {state}"
            );
            if state != "running" {
                let before = self.ended_runs.entry(id).or_insert_with(|| state.clone());
                assert_eq!(*before, state);
            }
        }
        self.seen = rows.into_iter().map(|row| (row.id, row)).collect();
    }
}
