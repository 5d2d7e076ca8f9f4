//! A sample of the crash matrix: some of its cells, with what they are about. `make crash-matrix` goes
//! through all of them. A sample of the fleet proof, and what reaches a worker while it verifies.

mod fleet;
mod verify;

use anyhow::Result;
use tests::crash::{Cell, Fault, Mode};

macro_rules! cells {
    ($($test:ident: $mode:ident $step:literal $fault:ident;)+) => {
        const SAMPLE: &[Cell] = &[
            $(Cell { mode: Mode::$mode, step: $step, fault: Fault::$fault },)+
        ];
        $(
            #[tokio::test]
            async fn $test() -> Result<()> {
                Cell { mode: Mode::$mode, step: $step, fault: Fault::$fault }.hold().await
            }
        )+
    };
}

cells! {
    a_worker_killed_while_it_validates_is_replaced: Hot "validate" KilledBeforeRecord;
    a_worker_killed_before_it_records_its_snapshot_leaves_none: Hot "snapshot" KilledBeforeRecord;
    a_worker_killed_in_the_middle_of_a_hot_copy_is_replaced: Hot "copy" KilledWithin;
    a_worker_killed_after_it_removed_its_snapshot_is_replaced: Hot "commit" KilledBeforeRecord;
    a_worker_killed_while_it_verifies_a_copy_is_replaced: Hot "verify" KilledWithin;
    a_worker_frozen_while_it_verifies_a_copy_publishes_nothing_when_it_goes_on: Cold "verify" FrozenWithin;
    a_worker_killed_between_the_rename_and_the_record_publishes_once: Hot "publish" KilledBeforeRecord;
    a_worker_killed_after_it_powered_a_guest_off_brings_it_back_in_the_end: Cold "power_off" KilledBeforeRecord;
    a_worker_killed_before_it_powers_a_guest_on_again_is_replaced: Cold "power_on" KilledWithin;
    a_snapshot_taken_by_a_worker_that_was_frozen_too_long_is_removed: Hot "snapshot" FrozenWithin;
    a_worker_frozen_in_the_middle_of_a_copy_changes_nothing_when_it_goes_on: Cold "copy" FrozenWithin;
    a_worker_frozen_before_it_publishes_does_not_publish_again: Hot "publish" FrozenWithin;
    a_guest_powered_off_by_a_worker_that_was_frozen_too_long_is_powered_on_again: Cold "power_off" FrozenWithin;
    a_copy_made_twice_is_published_once: Hot "copy" Repeated;
    a_backup_published_twice_is_there_once: Cold "publish" Repeated;
    a_snapshot_taken_twice_leaves_none_behind: Hot "snapshot" Repeated;
    a_guest_powered_off_twice_runs_in_the_end: Cold "power_off" Repeated;
    an_error_after_the_guest_was_powered_off_is_got_over: Cold "power_off" ErrorAfter;
    a_library_that_crashes_while_it_removes_a_snapshot_leaves_none: Hot "commit" LibraryCrashed;
    a_copy_that_the_medium_changed_is_made_again: Hot "verify" BadMedium;
    a_copy_whose_repository_is_not_mounted_any_more_writes_nothing_in_its_place: Hot "copy" WrongDirectory;
}

#[test]
fn the_sample_is_of_the_matrix() {
    let all = Cell::all();
    assert_eq!(all.len(), 150);
    for cell in SAMPLE {
        assert!(all.contains(cell), "{cell} is no cell of the matrix");
    }
}
