-- Takes the lead if it is free or its lease has run out, and renews one's own.
INSERT INTO virtuozo_core.lead (owner_id, lease_until)
VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (only_row)
DO UPDATE SET fence = lead.fence + CASE WHEN lead.owner_id = EXCLUDED.owner_id THEN 0 ELSE 1 END,
              owner_id = EXCLUDED.owner_id, lease_until = EXCLUDED.lease_until
        WHERE lead.owner_id = EXCLUDED.owner_id OR virtuozo_core.is_over(lead.lease_until)
