-- Takes the lead if it is free or its lease has run out, and renews one's own.
INSERT INTO virtuozo_core.lead (scheduler_id, lease_until)
VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (only_row)
DO UPDATE SET scheduler_id = EXCLUDED.scheduler_id, lease_until = EXCLUDED.lease_until
        WHERE lead.scheduler_id = EXCLUDED.scheduler_id OR virtuozo_core.is_over(lead.lease_until)
