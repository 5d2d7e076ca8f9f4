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
    /// It was read back whole and found good, and no damage has been found since.
    pub verified: bool,
}

/// The restore points of one guest that may be deleted so that its newest `keep_last` verified ones
/// remain, oldest first.
///
/// Only verified points count. Points as new as the last of those, or newer, all stay, verified or
/// not; older ones go, as newer verified points cover them. With fewer than `keep_last` verified
/// points, or `keep_last` of 0, nothing goes.
pub fn to_delete<Id: Clone>(points: &[PointInfo<Id>], keep_last: u32) -> Vec<Id> {
    let mut verified: Vec<DateTime<Utc>> = points
        .iter()
        .filter(|point| point.verified)
        .map(|point| point.taken_at)
        .collect();
    verified.sort_unstable_by_key(|&taken_at| Reverse(taken_at));
    let Some(&oldest_kept) = (keep_last as usize)
        .checked_sub(1)
        .and_then(|last| verified.get(last))
    else {
        return Vec::new();
    };
    let mut covered: Vec<_> = points
        .iter()
        .filter(|point| point.taken_at < oldest_kept)
        .collect();
    covered.sort_by_key(|point| point.taken_at);
    covered.into_iter().map(|point| point.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(id: usize, seconds: i64, verified: bool) -> PointInfo<usize> {
        PointInfo {
            id,
            taken_at: DateTime::from_timestamp(seconds, 0).unwrap(),
            verified,
        }
    }

    #[test]
    fn only_verified_points_count() {
        let points = [
            point(0, 10, true),
            point(1, 20, true),
            point(2, 30, false),
            point(3, 40, true),
            point(4, 50, false),
        ];
        assert_eq!(to_delete(&points, 1), [0, 1, 2]);
        assert_eq!(to_delete(&points, 2), [0]);
        assert_eq!(to_delete(&points, 3), [] as [usize; 0]);
        assert_eq!(to_delete(&points, 4), [] as [usize; 0]);
        assert_eq!(to_delete(&points, 0), [] as [usize; 0]);
    }

    fn any_points() -> impl Strategy<Value = Vec<PointInfo<usize>>> {
        proptest::collection::vec((0_i64..20, any::<bool>()), 0..25).prop_map(|raw| {
            raw.into_iter()
                .enumerate()
                .map(|(id, (seconds, verified))| point(id, seconds, verified))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_newest_verified_points_stay_and_cover_all_that_goes(
            points in any_points(),
            keep_last in 0_u32..8,
        ) {
            let gone = to_delete(&points, keep_last);
            let stays = |point: &&PointInfo<usize>| !gone.contains(&point.id);
            let verified = points.iter().filter(|point| point.verified).count();
            let verified_left: Vec<_> =
                points.iter().filter(stays).filter(|point| point.verified).collect();
            prop_assert!(verified_left.len() >= verified.min(keep_last as usize));
            for id in &gone {
                let newer = verified_left.iter().filter(|left| left.taken_at > points[*id].taken_at);
                prop_assert!(newer.count() >= keep_last as usize);
            }
            // Nothing that is covered is forgotten.
            for point in points.iter().filter(stays).filter(|_| keep_last > 0) {
                let newer = points
                    .iter()
                    .filter(|other| other.verified && other.taken_at > point.taken_at);
                prop_assert!(newer.count() < keep_last as usize);
            }
        }

        #[test]
        fn deleting_is_finished_after_one_pass(points in any_points(), keep_last in 0_u32..8) {
            let gone = to_delete(&points, keep_last);
            let left: Vec<_> =
                points.into_iter().filter(|point| !gone.contains(&point.id)).collect();
            prop_assert!(to_delete(&left, keep_last).is_empty());
        }

        #[test]
        fn a_further_unverified_point_never_makes_another_go(
            mut points in any_points(),
            seconds in 0_i64..20,
            keep_last in 0_u32..8,
        ) {
            let before = to_delete(&points, keep_last);
            let id = points.len();
            points.push(point(id, seconds, false));
            let mut after = to_delete(&points, keep_last);
            after.retain(|other| *other != id);
            prop_assert_eq!(before, after);
        }
    }
}
