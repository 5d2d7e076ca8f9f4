//! Retention: which restore points of one guest may go because newer verified ones cover them.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

/// What retention must know about a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointInfo<Id> {
    /// Identity.
    pub id: Id,
    /// The instant it holds.
    pub taken_at: DateTime<Utc>,
    /// Its place in the order in which the site entered its restore points, which no clock changes.
    pub entry_number: i64,
    /// Its files are there, were read back whole and found good, no damage has been found since, and the site made or
    /// adopted it.
    pub counts: bool,
}

impl<Id> PointInfo<Id> {
    /// Whether a backup that holds `self` makes one that holds `older` unnecessary. Where the instants and the order of
    /// entering contradict each other, a clock was wrong, and neither covers the other.
    fn covers(&self, older: &Self, now: DateTime<Utc>) -> bool {
        self.counts
            && self.taken_at <= now
            && self.taken_at > older.taken_at
            && self.entry_number > older.entry_number
    }
}

/// The restore points of one guest that may be deleted so that its newest `keep_last` good ones remain, oldest first.
///
/// A point goes if at least `keep_last` points that count cover it: they hold a later instant, and were entered later.
/// So neither the point that was entered last goes, nor the one with the latest instant. An instant after `now` (the
/// database's clock) is wrong, and covers nothing. With a `keep_last` of 0 nothing goes.
pub fn to_delete<Id: Clone>(
    points: &[PointInfo<Id>],
    keep_last: u32,
    now: DateTime<Utc>,
) -> Vec<Id> {
    let keep_last = keep_last as usize;
    if keep_last == 0 {
        return Vec::new();
    }
    // From the latest instant on, the entry numbers of those that count: those of them that are greater than a point's
    // own belong to what covers it. Of equal instants none covers the other, so a group is added as a whole.
    let mut by_time: Vec<&PointInfo<Id>> = points.iter().collect();
    by_time.sort_by_key(|point| Reverse(point.taken_at));
    let mut later: Vec<i64> = Vec::new();
    let mut covered = Vec::new();
    for group in by_time.chunk_by(|one, other| one.taken_at == other.taken_at) {
        for point in group {
            let at = later.partition_point(|&number| number <= point.entry_number);
            if later.len() - at >= keep_last {
                covered.push(*point);
            }
        }
        for point in group
            .iter()
            .filter(|point| point.counts && point.taken_at <= now)
        {
            let at = later.partition_point(|&number| number <= point.entry_number);
            later.insert(at, point.entry_number);
        }
    }
    covered.sort_by_key(|point| (point.taken_at, point.entry_number));
    covered.into_iter().map(|point| point.id.clone()).collect()
}

/// Those of `points` that cover at least one of `going`: what has to be there before those go.
pub fn covering<'a, Id: PartialEq>(
    points: &'a [PointInfo<Id>],
    going: &[Id],
    now: DateTime<Utc>,
) -> Vec<&'a PointInfo<Id>> {
    let going: Vec<&PointInfo<Id>> = points
        .iter()
        .filter(|point| going.contains(&point.id))
        .collect();
    points
        .iter()
        .filter(|point| going.iter().any(|older| point.covers(older, now)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 100;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn point(id: usize, seconds: i64, counts: bool) -> PointInfo<usize> {
        PointInfo {
            id,
            taken_at: at(seconds),
            entry_number: id as i64,
            counts,
        }
    }

    fn going(points: &[PointInfo<usize>], keep_last: u32) -> Vec<usize> {
        to_delete(points, keep_last, at(NOW))
    }

    #[test]
    fn only_points_that_count_cover_others() {
        let points = [
            point(0, 10, true),
            point(1, 20, true),
            point(2, 30, false),
            point(3, 40, true),
            point(4, 50, false),
        ];
        assert_eq!(going(&points, 1), [0, 1, 2]);
        assert_eq!(going(&points, 2), [0]);
        assert_eq!(going(&points, 3), [] as [usize; 0]);
        assert_eq!(going(&points, 4), [] as [usize; 0]);
        assert_eq!(going(&points, 0), [] as [usize; 0]);
    }

    #[test]
    fn a_backup_made_while_the_clock_was_ahead_removes_no_later_one() {
        // The second was made while the database's clock was far ahead, the others after it was set right.
        let points = [
            point(0, 10, true),
            point(1, 5_000, true),
            point(2, 20, true),
            point(3, 30, true),
        ];
        assert_eq!(going(&points, 1), [0, 2]);
        // When that instant has come, it is still one that was made before the others.
        assert_eq!(to_delete(&points, 1, at(6_000)), [0, 2]);
        assert_eq!(
            to_delete(&points, 1, at(1)),
            [] as [usize; 0],
            "the clock is behind"
        );
    }

    #[test]
    fn points_that_claim_the_future_remove_nothing_however_many_they_are() {
        let mut points: Vec<_> = (0..3).map(|id| point(id, 10 + id as i64, true)).collect();
        points.extend((3..10).map(|id| point(id, 9_000 + id as i64, true)));
        assert_eq!(going(&points, 7), [] as [usize; 0]);
        assert_eq!(going(&points, 1), [0, 1]);
    }

    fn any_points() -> impl Strategy<Value = Vec<PointInfo<usize>>> {
        let raw_point = (0_i64..20, any::<bool>(), 0_u8..4, any::<i16>());
        proptest::collection::vec(raw_point, 0..25).prop_map(|raw| {
            let mut points: Vec<_> = raw
                .into_iter()
                .map(|(seconds, counts, wrong_clock, order)| {
                    let seconds = if wrong_clock == 0 {
                        NOW + 1 + seconds
                    } else {
                        seconds
                    };
                    (order, seconds, counts)
                })
                .collect();
            // Entered in any order, so that instants and order contradict each other.
            points.sort_by_key(|&(order, ..)| order);
            points
                .into_iter()
                .enumerate()
                .map(|(id, (_, seconds, counts))| point(id, seconds, counts))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_goes_is_covered_by_points_that_stay_and_nothing_that_is_covered_is_forgotten(
            points in any_points(),
            keep_last in 0_u32..8,
        ) {
            let gone = going(&points, keep_last);
            let stays = |point: &&PointInfo<usize>| !gone.contains(&point.id);
            for id in &gone {
                let covers = |other: &&PointInfo<usize>| {
                    other.counts
                        && other.taken_at <= at(NOW)
                        && other.taken_at > points[*id].taken_at
                        && other.entry_number > points[*id].entry_number
                };
                let covered_by = points.iter().filter(stays).filter(covers).count();
                prop_assert!(covered_by >= keep_last as usize && keep_last > 0);
            }
            for point in points.iter().filter(stays).filter(|_| keep_last > 0) {
                let covered_by = points.iter().filter(|other| other.covers(point, at(NOW)));
                prop_assert!(covered_by.count() < keep_last as usize);
            }
            let needed = covering(&points, &gone, at(NOW));
            prop_assert_eq!(gone.is_empty(), needed.is_empty());
            prop_assert!(needed.iter().all(|point| point.counts && point.taken_at <= at(NOW)));
        }

        #[test]
        fn the_point_entered_last_and_the_newest_by_its_instant_never_go(
            points in any_points(),
            keep_last in 0_u32..8,
            now in 0_i64..200,
        ) {
            let gone = to_delete(&points, keep_last, at(now));
            let last = points.iter().max_by_key(|point| point.entry_number);
            let newest = points.iter().map(|point| point.taken_at).max();
            for point in &points {
                if Some(point) == last || Some(point.taken_at) == newest {
                    prop_assert!(!gone.contains(&point.id));
                }
            }
        }

        #[test]
        fn instants_still_to_come_make_nothing_go(
            points in any_points(),
            keep_last in 0_u32..8,
            now in 0_i64..40,
        ) {
            let with = to_delete(&points, keep_last, at(now));
            let known: Vec<_> =
                points.iter().filter(|point| point.taken_at <= at(now)).cloned().collect();
            prop_assert_eq!(with, to_delete(&known, keep_last, at(now)));
        }

        #[test]
        fn deleting_is_finished_after_one_pass(points in any_points(), keep_last in 0_u32..8) {
            let gone = going(&points, keep_last);
            let left: Vec<_> =
                points.into_iter().filter(|point| !gone.contains(&point.id)).collect();
            prop_assert!(going(&left, keep_last).is_empty());
        }

        #[test]
        fn a_further_point_that_does_not_count_never_makes_another_go(
            mut points in any_points(),
            seconds in 0_i64..20,
            keep_last in 0_u32..8,
        ) {
            let before = going(&points, keep_last);
            let id = points.len();
            points.push(point(id, seconds, false));
            let mut after = going(&points, keep_last);
            after.retain(|other| *other != id);
            prop_assert_eq!(before, after);
        }
    }
}
