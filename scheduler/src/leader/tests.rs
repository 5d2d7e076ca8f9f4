//! The driver of the leader's tasks, by signals: a task reports what happens to it over a channel.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// The longest that a signal may take.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Activated,
    Lost,
}

/// A task that tells what happens to it, and answers each activation alike.
struct Scripted<const N: u8> {
    tells: UnboundedSender<(u8, Told)>,
    answer: fn() -> Result<Next, TaskError>,
    /// An activation never ends.
    hangs: bool,
}

impl<const N: u8> LeaderTask for Scripted<N> {
    const NAME: &'static str = match N {
        1 => "the first task",
        2 => "the second task",
        _ => "another task",
    };
    const EVERY: Duration = Duration::from_millis(1);
    const LONGEST_PAUSE: Duration = Duration::from_millis(5);
    const HAS_LAST: bool = true;

    async fn activate(&mut self) -> Result<Next, TaskError> {
        let _ = self.tells.send((N, Told::Activated));
        if self.hangs {
            std::future::pending::<()>().await;
        }
        (self.answer)()
    }

    fn lost_leadership(&mut self) {
        let _ = self.tells.send((N, Told::Lost));
    }
}

struct Site {
    term: watch::Sender<Term>,
    stop: CancellationToken,
    tasks: LeaderTasks,
    tells: UnboundedSender<(u8, Told)>,
    told: UnboundedReceiver<(u8, Told)>,
    health: Health,
}

impl Site {
    fn new() -> Self {
        let (tells, told) = unbounded_channel();
        let (term, stop, health) = (
            watch::Sender::new(None),
            CancellationToken::new(),
            Health::default(),
        );
        let wakeups = watch::Sender::new(0);
        Self {
            tasks: LeaderTasks::new(
                health.clone(),
                term.subscribe(),
                wakeups.subscribe(),
                stop.clone(),
            ),
            term,
            stop,
            tells,
            told,
            health,
        }
    }

    fn spawn<const N: u8>(&mut self, answer: fn() -> Result<Next, TaskError>, hangs: bool) {
        let tells = self.tells.clone();
        self.tasks.spawn(Scripted::<N> {
            tells,
            answer,
            hangs,
        });
    }

    /// Waits until `what` has happened to a task so many times from now on.
    async fn until(&mut self, task: u8, what: Told, times: usize) {
        let seen = async {
            for _ in 0..times {
                while self.told.recv().await.expect("a task") != (task, what) {}
            }
        };
        tokio::time::timeout(LIMIT, seen).await.expect("in time");
    }
}

fn done() -> Result<Next, TaskError> {
    Ok(Next::Later)
}

fn refused() -> Result<Next, TaskError> {
    Err(StoreError::Refused("a test".to_owned()).into())
}

fn away() -> Result<Next, TaskError> {
    Err(StoreError::Silent { limit: LIMIT }.into())
}

#[tokio::test]
async fn a_task_that_fails_is_tried_again_and_does_not_stop_the_others() {
    let mut site = Site::new();
    site.spawn::<1>(refused, false);
    site.spawn::<2>(done, false);
    site.spawn::<3>(away, false);
    site.term.send_replace(Some(1));
    site.until(1, Told::Activated, 3).await;
    site.until(2, Told::Activated, 3).await;
    site.until(3, Told::Activated, 3).await;
    assert!(site.tasks.refused().any());
    assert!(site.health.availability.unavailable_for().is_some());
    assert!(site.health.availability.statement_errors().refused > 1);
}

#[tokio::test]
async fn nothing_is_done_before_this_scheduler_leads_and_its_loss_is_told_to_each() {
    let mut site = Site::new();
    site.spawn::<1>(done, false);
    site.spawn::<2>(refused, false);
    tokio::task::yield_now().await;
    assert!(site.told.try_recv().is_err());
    site.term.send_replace(Some(1));
    site.until(1, Told::Activated, 1).await;
    site.until(2, Told::Activated, 1).await;
    site.term.send_replace(None);
    let mut lost = [0, 0];
    while lost != [1, 1] {
        let told = tokio::time::timeout(LIMIT, site.told.recv()).await;
        if let (task, Told::Lost) = told.expect("in time").expect("a task") {
            lost[usize::from(task) - 1] += 1;
        }
    }
    site.term.send_replace(Some(2));
    site.until(1, Told::Activated, 1).await;
    // Another term without a time between: what was known is of the old one.
    site.term.send_replace(Some(3));
    site.until(1, Told::Lost, 1).await;
    site.until(1, Told::Activated, 1).await;
}

#[tokio::test]
async fn tasks_that_hang_end_within_their_limit() {
    let mut site = Site::new();
    site.spawn::<1>(done, true);
    site.spawn::<2>(done, false);
    site.term.send_replace(Some(1));
    site.until(1, Told::Activated, 1).await;
    site.until(2, Told::Activated, 1).await;
    let began = tokio::time::Instant::now();
    site.stop.cancel();
    site.tasks.ended().await;
    assert!(began.elapsed() < LIMITS.leader.under_way + LIMITS.leader.last + LIMIT / 4);
    let mut told = Vec::new();
    while let Ok(one) = site.told.try_recv() {
        told.push(one);
    }
    for task in [1, 2] {
        let of_task = told.iter().filter(|(one, _)| *one == task);
        let last: Vec<Told> = of_task.map(|(_, what)| *what).collect();
        assert!(
            last.ends_with(&[Told::Activated, Told::Lost]),
            "{task}: {last:?}"
        );
    }
}
