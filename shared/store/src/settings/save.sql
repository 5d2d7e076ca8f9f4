UPDATE virtuozo_core.settings
   SET host_threads = $1, guest_threads = $2, destination = $3, mode = $4, resume_power_state = $5,
       backup_when_off = $6, new_guests = $7, verify_after_backup = $8, keep_last = $9,
       daily_start_time = $10, time_zone = $11, soft_power_off_secs = $12, snapshot_limit_secs = $13,
       max_attempts = $14, max_crashes = $15, retry_delay_secs = $16, lease_secs = $17,
       event_keep_days = $18, event_keep_count = $19, history_keep_days = $20, history_keep_runs = $21,
       fleet_guest_threads = $22, rpo_secs = $23, group_may_read = $24, file_silence_secs = $25,
       updated_at = now()
