//! How limits fit each other, and what the schema says of time.

use std::time::Duration;

use super::*;

const HELPERS: &str = include_str!("../../../../migrations/definitions/helpers.sql");
const BASE: &str = include_str!("../../../../migrations/versioned/0001_base.sql");
const LEASES: &str = include_str!("../../../../migrations/definitions/leases.sql");

/// The first number after `before` in the first line of `text` that has both `of` and `before`, as seconds.
fn stated(text: &str, of: &str, before: &str) -> Duration {
    let line = text
        .lines()
        .find(|line| line.contains(of) && line.contains(before))
        .unwrap_or_else(|| panic!("no line with {of} and {before}"));
    let (_, rest) = line.split_once(before).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_secs(digits.parse().unwrap())
}

#[test]
fn a_process_that_misses_one_heartbeat_counts_as_alive() {
    let alive = stated(HELPERS, "heartbeat_at >", "interval '");
    let every = LIMITS.process.heartbeat_every;
    assert!(2 * every < alive);
    assert!(every + LIMITS.worker.missed_heartbeat_pause < alive);
    // Its claims are given up after itself.
    let missed = u32::try_from(LIMITS.queue.missed_heartbeats).unwrap();
    assert!(alive < missed * every);
}

#[test]
fn a_lease_is_given_before_it_is_over() {
    let default = stated(BASE, "lease_secs ", "DEFAULT ");
    assert!(LIMITS.worker.begin < default);
    let (_, lead_secs) = LEASES.split_once("virtuozo_core.lead_secs()").unwrap();
    let lead = stated(lead_secs, "SELECT", "SELECT ");
    assert!(LIMITS.scheduler.lead <= lead);
    assert!(LIMITS.database.prompt_answer < lead / 2);
    // A holder is certain until a sixth of the lease before its end.
    assert!(3 * LIMITS.scheduler.lead_look_every < lead / 6);
    // Somebody leads again soon after the end of a lease.
    assert!(LIMITS.scheduler.lead_every <= LIMITS.scheduler.lead_pause);
    assert!(LIMITS.scheduler.lead_pause < lead);
}

#[test]
fn each_part_of_a_scheduler_has_stopped_before_the_scheduler_gives_it_up() {
    let LeaderLimits {
        under_way, last, ..
    } = LIMITS.leader;
    let tasks = under_way + last;
    let notices = LIMITS.queue.stop + LIMITS.notices.farewell;
    let hooks = LIMITS.hooks.stop;
    let scheduler = LIMITS.scheduler;
    for part in [tasks, notices, hooks] {
        assert!(part < scheduler.end, "{part:?}");
    }
    let whole = scheduler.end + scheduler.farewell + 2 * scheduler.turn_pause;
    assert_eq!(scheduler.stop(), whole);
}

#[test]
fn a_hook_that_is_killed_has_ended_before_its_process_gives_it_up() {
    let hooks = LIMITS.hooks;
    assert!(hooks.termination + hooks.output < hooks.stop);
}

#[test]
fn mounts_are_given_up_before_the_search_for_datastores_is() {
    assert!(LIMITS.worker.mount < LIMITS.worker.datastore_search);
}

#[test]
fn a_worker_of_the_demo_drains_before_it_is_killed() {
    assert!(LIMITS.worker.drain_of_child < LIMITS.console.demo_stop);
    assert!(LIMITS.worker.drain_of_child < LIMITS.worker.drain);
}

#[test]
fn a_loop_that_waits_for_the_database_is_not_taken_for_one_that_stands_still() {
    let database = LIMITS.database;
    assert!(2 * (database.connection + database.retry_pause) < database.attempts_standstill);
    let every = LIMITS.process.heartbeat_every;
    assert!(2 * (every + every) < LIMITS.worker.heartbeats_standstill);
    let scheduler = LIMITS.scheduler;
    assert!(scheduler.heartbeat + scheduler.turn_pause < scheduler.standstill);
    let queue = LIMITS.queue;
    assert!(10 * queue.poll_every < queue.silence);
    assert!(queue.answer < queue.silence);
}

#[test]
fn a_connection_is_doubted_before_it_is_given_up_and_given_up_before_its_statement() {
    let database = LIMITS.database;
    assert!(database.suspect_after < database.ping);
    assert!(database.ping < database.connection);
    assert!(database.connection < database.statement);
    assert!(database.fresh < database.idle_connection);
    assert!(database.idle_connection < database.oldest_connection);
}

#[test]
fn what_is_done_again_and_again_ends_before_it_is_due_again() {
    assert!(LIMITS.worker.progress <= LIMITS.worker.progress_every);
    assert!(LIMITS.worker.space < LIMITS.worker.space_every);
    assert!(LIMITS.worker.probe_again_every < LIMITS.worker.probe_every);
    assert!(LIMITS.leader.gauges < LIMITS.leader.gauges_every);
    assert!(LIMITS.leader.events_batch + LIMITS.leader.event < LIMITS.leader.activation);
}

#[test]
fn a_mail_can_be_sent_within_the_limit_of_sending() {
    let notices = LIMITS.notices;
    let talk = notices.connect + 3 * notices.answer + notices.content + notices.quit;
    assert!(talk < notices.send);
}

#[test]
fn who_gives_a_request_up_has_ended_it_before_it_ends_by_itself() {
    assert!(LIMITS.services.request_cancel < LIMITS.services.request_grace);
}

#[test]
fn a_probe_is_answered_before_its_connection_is_closed() {
    assert!(LIMITS.console.health < LIMITS.console.http_connection);
}
