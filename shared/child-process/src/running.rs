//! Work in a process of files, as the one that waits for it sees it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use virtuozo_runtime::LIMITS;

use crate::{
    connection::Connection,
    error::FileError,
    frames,
    idle::Idle,
    messages::{FromProcess, ToProcess, millis},
    silence::Silence,
};

/// What there is to know about work that is being done.
#[derive(Debug)]
pub enum Event {
    /// Time to look after it: to allow it to go on, to record its progress.
    Look,
    /// News.
    News(Value),
    /// It waits for an answer.
    Question {
        /// The number to [answer](Running::answer) to.
        question: u64,
        /// What is asked.
        about: Value,
    },
    /// It is done; there is no event after it.
    Done(Value),
}

/// Work in a process of files. Dropped before it is done, it is given up: the process is killed.
#[derive(Debug)]
pub struct Running {
    connection: Option<Connection>,
    silence: Silence,
    looks: Interval,
    looked_at: Instant,
    /// Questions that are not answered.
    asked: usize,
    /// It is not told to wait.
    may_move: bool,
    /// Where the process waits for the next work.
    idle: Idle,
}

impl Running {
    pub(crate) fn new(connection: Connection, limit: Option<Duration>, idle: Idle) -> Self {
        let now = Instant::now();
        let mut looks = interval_at(now + LIMITS.files.look_every, LIMITS.files.look_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connection: Some(connection),
            silence: Silence::new(limit),
            looks,
            looked_at: now,
            asked: 0,
            may_move: true,
            idle,
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// Nothing has moved for the limit, or the process has ended. It is killed then.
    pub async fn next(&mut self) -> Result<Event, FileError> {
        loop {
            let Some(connection) = self.connection.as_mut() else {
                return Err(FileError::lost("has ended"));
            };
            let message = tokio::select! {
                message = connection.heard.recv() => message,
                _ = self.looks.tick() => {
                    self.look()?;
                    return Ok(Event::Look);
                }
            };
            match message {
                Some(FromProcess::Pulse(pulse)) => self.silence.pulse(pulse),
                Some(FromProcess::News(news)) => {
                    self.silence.broken();
                    return Ok(Event::News(news));
                }
                Some(FromProcess::Question { question, about }) => {
                    self.asked += 1;
                    return Ok(Event::Question { question, about });
                }
                Some(FromProcess::Done(answer)) => {
                    if let Some(connection) = self.connection.take() {
                        self.idle.keep(connection);
                    }
                    return Ok(Event::Done(answer));
                }
                None => {
                    self.give_up();
                    return Err(FileError::lost("ended unexpectedly"));
                }
            }
        }
    }

    fn look(&mut self) -> Result<(), FileError> {
        let now = Instant::now();
        self.silence.passed(now - self.looked_at);
        self.looked_at = now;
        // It waits for us.
        if self.asked > 0 || !self.may_move {
            self.silence.broken();
        }
        if !self.silence.is_over() {
            return Ok(());
        }
        self.give_up();
        Err(FileError::Silent {
            what: self.silence.what().to_owned(),
            silent: self.silence.lasts(),
        })
    }

    /// What it waits for, and how long it has not moved.
    pub fn waits_for(&self) -> (&str, Duration) {
        (self.silence.what(), self.silence.lasts())
    }

    /// Lets it go on for so long from now; `None`: it is to wait.
    pub fn allow(&mut self, time: Option<Duration>) {
        self.may_move = time.is_some();
        let allowed_ms = time.map_or(0, millis);
        // One that is gone is noticed by the next event.
        let _ = self.say(&ToProcess::Allow { allowed_ms });
    }

    /// Answers a question.
    pub fn answer(&mut self, question: u64, answer: &impl Serialize) {
        self.asked = self.asked.saturating_sub(1);
        self.silence.broken();
        if let Ok(answer) = serde_json::to_value(answer) {
            let _ = self.say(&ToProcess::Answer { question, answer });
        }
    }

    pub(crate) fn say(&mut self, message: &ToProcess) -> Result<(), FileError> {
        let frame = frames::encode(message).map_err(FileError::not_understood)?;
        let said = self.connection.as_ref().map(|one| one.said.send(frame));
        match said {
            Some(Ok(())) => Ok(()),
            _ => Err(FileError::lost("has ended")),
        }
    }

    fn give_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.end();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.give_up();
    }
}
