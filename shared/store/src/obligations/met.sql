-- The fence is the one the obligation had when it was seen to be met: a newer run may have renewed it.
DELETE FROM virtuozo_core.obligations WHERE id = $1 AND guest_run_id = $2 AND guest_run_fence = $3
