UPDATE virtuozo_core.guests
   SET ignored = $2, destination = $3, mode = $4, resume_power_state = $5, backup_when_off = $6,
       keep_last = $7, rpo_secs = $8, updated_at = now()
 WHERE id = $1
