SELECT host_threads, guest_threads, destination, mode, resume_power_state, backup_when_off, new_guests,
       verify_after_backup, keep_last, daily_start_time, time_zone, soft_power_off_secs, snapshot_limit_secs,
       max_attempts, max_crashes, retry_delay_secs, lease_secs, event_keep_days,
       event_keep_count, history_keep_days, history_keep_runs, fleet_guest_threads, rpo_secs,
       group_may_read, file_silence_secs
  FROM virtuozo_core.settings
