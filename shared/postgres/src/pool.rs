//! Connections that are held against silence: one whose other end is gone is found by a question with a
//! time limit, and takes all that are as old as it along.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use virtuozo_runtime::{Availability, LIMITS};

/// When the connections of a pool were last answered, and which of them are not to be trusted.
#[derive(Debug, Clone)]
pub struct ConnectionHealth {
    availability: Availability,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    answered_at: Option<Instant>,
    /// Connections that are older than this go: one of their age was silent.
    suspect_before: Option<Instant>,
}

impl ConnectionHealth {
    /// That of a pool that has not been asked anything. Answers are noted in `availability` too.
    pub fn new(availability: &Availability) -> Self {
        Self {
            availability: availability.clone(),
            state: Arc::default(),
        }
    }

    /// Waits until there was no answer for `limit`, counted from now on.
    pub async fn until_silent_for(&self, limit: Duration) {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep_until((last + limit).into()).await;
            match self.now().answered_at {
                Some(at) if at > last => last = at,
                _ => return,
            }
        }
    }

    /// A question that was asked at `asked_at` was answered.
    pub(super) fn answered(&self, asked_at: Instant) {
        self.availability.answered(asked_at);
        self.change(|state| state.answered_at = Some(Instant::now()));
    }

    fn now(&self) -> State {
        *self.state.lock()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    pub(super) fn is_suspect(&self, age: Duration) -> bool {
        let born = Instant::now().checked_sub(age);
        born < self.now().suspect_before
    }

    /// Asks the other end of a connection whether it is there.
    pub(super) async fn answers(&self, connection: &mut PgConnection) -> bool {
        let mut question = Question {
            health: self,
            asked_at: Instant::now(),
            answered: None,
        };
        let answer = tokio::time::timeout(LIMITS.database.ping, connection.ping()).await;
        let answers = matches!(answer, Ok(Ok(())));
        question.answered = Some(answers);
        if answers {
            self.availability.answered(question.asked_at);
        }
        answers
    }
}

/// Counts also if nobody waited for its end.
struct Question<'a> {
    health: &'a ConnectionHealth,
    asked_at: Instant,
    answered: Option<bool>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let silent = match self.answered {
            Some(answered) => !answered,
            None => self.asked_at.elapsed() > LIMITS.database.suspect_after,
        };
        self.health.change(|state| {
            if self.answered == Some(true) {
                state.answered_at = Some(Instant::now());
            } else if silent {
                state.suspect_before = Some(self.asked_at);
            }
        });
    }
}

/// What the server is to hold every connection of ours to, so that a process that froze, or a machine that lost its power,
/// does not keep rows locked from all others: a transaction that is left alone and a peer that is gone are ended
/// (PostgreSQL, "Client Connection Defaults" and "TCP Settings"). And nothing is compiled: where the server has no
/// statistics yet it takes short statements for long ones, and would spend seconds on compiling what runs for a
/// millisecond. The rest is as the server has it by default, whatever its administrators have set for other programs.
/// Set over the connection, since a pooler may drop what a client asks for while it connects.
const SESSION: &str = "SET jit = off; SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '10s';
                       SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
                       SET tcp_user_timeout = 12000; SET search_path = public;
                       SET default_transaction_isolation = 'read committed'; SET IntervalStyle = 'postgres'";

/// Makes a new connection one of ours.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(SESSION).await?;
    Ok(())
}

/// A pool of one connection to the database of another.
pub fn single_connection(pool: &PgPool, availability: &Availability) -> PgPool {
    let options = pool.connect_options().as_ref().clone();
    lazy(options, 1, &ConnectionHealth::new(availability))
}

/// A pool that connects when it is first used. What answers neither before nor after its use is closed.
pub(super) fn lazy(
    options: PgConnectOptions,
    connections: u32,
    health: &ConnectionHealth,
) -> PgPool {
    let (before, after) = (health.clone(), health.clone());
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(LIMITS.database.connection)
        // It would wait for as long as the kernel believes in the connection.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .before_acquire(move |connection, facts| {
            let health = before.clone();
            Box::pin(async move {
                Ok(!health.is_suspect(facts.age)
                    && (facts.idle_for < LIMITS.database.fresh || health.answers(connection).await))
            })
        })
        .after_release(move |connection, facts| {
            let health = after.clone();
            Box::pin(async move {
                Ok(!health.is_suspect(facts.age) && health.answers(connection).await)
            })
        })
        .connect_lazy_with(options)
}
