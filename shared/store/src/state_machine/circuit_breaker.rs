//! The host that does not answer, and what is promised about it.

use uuid::Uuid;

use super::{
    Op,
    site::{Row, Site, pick},
};
use crate::{
    circuit_breakers::{self, BreakerState, HostDown, Probe},
    guest_runs::Ending,
    leases::{self, Fence},
};
use virtuozo_postgres::testing::TestDb;
use virtuozo_telemetry::metrics::Metrics;

/// The row of the circuit breaker.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Breaker {
    pub(super) failed_probes: i32,
    pub(super) is_open: bool,
}

impl Site<'_> {
    pub(super) async fn breaker(&self) -> Option<Breaker> {
        sqlx::query_as(
            "SELECT failed_probes, open_until > now() OR coalesce(lease_until >= now(), false) AS is_open
               FROM virtuozo_core.circuit_breakers",
        )
        .fetch_optional(self.pool)
        .await
        .unwrap()
    }

    /// Asks for the host as one who wants to connect.
    pub(super) async fn ask(&mut self) -> BreakerState {
        let breaker = self.breaker().await;
        let owner_id = Uuid::now_v7();
        let passage = circuit_breakers::ask(self.pool, self.host_id, owner_id)
            .await
            .unwrap();
        match (&passage, breaker) {
            (BreakerState::Closed, breaker) => assert!(breaker.is_none(), "{breaker:?}"),
            (BreakerState::Open(_), breaker) => {
                assert!(breaker.as_ref().is_some_and(|g| g.is_open), "{breaker:?}")
            }
            (BreakerState::HalfOpen(probe), breaker) => {
                let breaker = breaker.expect("only a host that is down is probed");
                assert!(
                    !breaker.is_open,
                    "there is another prober, or it is too early"
                );
                assert_eq!(probe.failed_probes, breaker.failed_probes);
                let again = circuit_breakers::ask(self.pool, self.host_id, owner_id)
                    .await
                    .unwrap();
                assert_eq!(again, passage, "whose answer was lost asks again");
                let other = circuit_breakers::ask(self.pool, self.host_id, Uuid::now_v7())
                    .await
                    .unwrap();
                assert!(
                    matches!(other, BreakerState::Open(_)),
                    "one at a time: {other:?}"
                );
                let renewed = leases::renew(self.pool, probe).await.unwrap();
                assert!(renewed.is_some());
            }
        }
        passage
    }

    /// The holder of a lease needs the host, which does not answer.
    pub(super) async fn miss_host(&mut self, which: usize) {
        let Some(at) = pick(&self.held, which) else {
            return;
        };
        let down = self.miss().await;
        let ending = if down.is_given_up() {
            Ending::Failed
        } else {
            Ending::WaitsForHost
        };
        let attempts = self.held[at].attempts;
        let id = self.held[at].guest_run_id;
        self.give_up(at, ending.clone()).await;
        if ending == Ending::WaitsForHost {
            let after: (String, i32) = sqlx::query_as(
                "SELECT state, attempts FROM virtuozo_core.guest_runs WHERE id = $1",
            )
            .bind(id)
            .fetch_one(self.pool)
            .await
            .unwrap();
            assert_eq!(
                after,
                ("waiting".to_owned(), attempts),
                "no attempt is burnt"
            );
        }
    }

    /// Somebody needs the host, and it does not answer, or did not before.
    async fn miss(&mut self) -> HostDown {
        match self.ask().await {
            BreakerState::Open(down) => down,
            BreakerState::Closed => self.fail(None).await,
            BreakerState::HalfOpen(probe) => self.fail(Some(&probe)).await,
        }
    }

    /// A connection that failed is recorded by the circuit breaker. Recorded twice, it counts once.
    async fn fail(&self, probe: Option<&Probe>) -> HostDown {
        let mut told = Vec::new();
        for _ in 0..2 {
            let down = circuit_breakers::open(
                self.pool,
                &Metrics::default(),
                self.host_id,
                probe,
                "refused",
                false,
                3600.0,
            )
            .await
            .unwrap();
            told.push(down.expect("nobody found that it answers"));
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(
            told[0].failed_probes,
            probe.map_or(0, |p| p.failed_probes) + 1
        );
        assert_eq!(told[0].is_given_up(), told[0].failed_probes >= 3);
        told.remove(0)
    }

    /// Somebody needs the host, and it answers; what waited for it begins.
    pub(super) async fn answer_host(&mut self) {
        if let BreakerState::HalfOpen(_) = self.ask().await {
            circuit_breakers::close(self.pool, self.host_id)
                .await
                .unwrap();
            assert!(self.breaker().await.is_none());
            self.assert_nothing_waits_without_need().await;
        }
    }

    pub(super) async fn circuit_breaker_is_due(&mut self) {
        sqlx::query("UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'")
            .execute(self.pool)
            .await
            .unwrap();
        let queued: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM virtuozo_core.host_runs WHERE state = 'queued' ORDER BY id",
        )
        .fetch_all(self.pool)
        .await
        .unwrap();
        if let Some(&host_run) = queued.first() {
            self.begin_host_run(host_run).await;
        }
    }

    /// An operator wants another try; who probes already is not asked any more.
    pub(super) async fn probe_now(&mut self) {
        sqlx::query("SELECT virtuozo_core.probe_now($1)")
            .bind(self.host_id)
            .execute(self.pool)
            .await
            .unwrap();
        let breaker = self.breaker().await;
        assert!(
            breaker
                .as_ref()
                .is_none_or(|g| !g.is_open && g.failed_probes == 0),
            "{breaker:?}"
        );
        if let (Some(_), Some(late)) = (breaker, self.probe.take()) {
            let metrics = Metrics::default();
            let told = circuit_breakers::open(
                self.pool,
                &metrics,
                self.host_id,
                Some(&late),
                "refused",
                false,
                3600.0,
            );
            assert_eq!(told.await.unwrap().map(|down| down.failed_probes), Some(0));
            assert_eq!(
                leases::release(self.pool, &late).await.unwrap(),
                Fence::Lost
            );
            assert!(leases::renew(self.pool, &late).await.unwrap().is_none());
        }
    }

    pub(super) async fn assert_promises_of_the_circuit_breaker(&self, rows: &[Row]) {
        let Some(breaker) = self.breaker().await else {
            return;
        };
        for row in rows
            .iter()
            .filter(|row| breaker.is_open && row.state == "admitted")
        {
            let before = self.seen.get(&row.id).map(|before| before.state.as_str());
            assert!(
                matches!(before, Some("admitted" | "running")),
                "admitted although the host does not answer: {before:?} {row:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_silent_host_fails_together_and_the_next_run_tries_afresh() {
    let db = TestDb::new().await;
    let mut site = Site::new(&db.pool).await;
    site.start_run().await;
    site.start_run().await;
    site.apply(&Op::Take(1)).await;
    site.apply(&Op::OweSnapshot(0)).await;
    site.assert_promises().await;
    for missed in 1..=3 {
        site.circuit_breaker_is_due().await;
        assert_eq!(site.miss().await.failed_probes, missed);
        site.assert_promises().await;
    }
    let pool = &db.pool;
    let text = |sql: &'static str| async move {
        let text: String = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        text
    };
    let states = "SELECT string_agg(state, ' ' ORDER BY state) FROM virtuozo_core.guest_runs";
    assert_eq!(
        text(states).await,
        "admitted failed failed failed failed running"
    );
    let reasons = "SELECT string_agg(DISTINCT error_class || ': ' || error, '; ') FROM virtuozo_core.guest_runs";
    assert_eq!(
        text(reasons).await,
        "retry: the host does not answer (attempt 3 of 3): refused"
    );
    let runs = "SELECT string_agg(state, ' ' ORDER BY state) FROM virtuozo_core.runs";
    assert_eq!(
        text(runs).await,
        "failed running",
        "one has nothing left that could go on"
    );
    let told = "SELECT string_agg(severity || ': ' || message, E'\n' ORDER BY id)
                  FROM virtuozo_core.events WHERE host_id IS NOT NULL AND guest_id IS NULL";
    let told = text(told).await;
    assert_eq!(
        told.matches("warning: host lab does not answer").count(),
        2,
        "{told}"
    );
    assert!(
        told.contains("error: host lab does not answer (attempt 3 of 3): refused"),
        "{told}"
    );
    assert!(told.ends_with("and 1 of its guests are still to be brought back as they were: that is done when it answers"), "{told}");

    site.circuit_breaker_is_due().await;
    assert_eq!(
        site.miss().await.to_string(),
        "does not answer (attempt 4): refused"
    );
    assert!(site.breaker().await.is_some_and(|breaker| breaker.is_open));
    site.start_run().await;
    assert!(
        site.breaker().await.is_none(),
        "it was asked at once, and answers"
    );
    let open = "SELECT count(*)::text FROM virtuozo_core.guest_runs WHERE state IN ('waiting', 'admitted', 'running')";
    assert_eq!(text(open).await, "5");
    let told = "SELECT message FROM virtuozo_core.events WHERE message LIKE 'host%' ORDER BY id DESC LIMIT 1";
    assert_eq!(text(told).await, "host lab: answers again");
}
