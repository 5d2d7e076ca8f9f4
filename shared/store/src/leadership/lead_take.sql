-- Takes the lead if it is free or its lease has run out, and renews one's own. For as long as lead_renew.sql.
INSERT INTO virtuozo_core.lead (owner_id, lease_until)
VALUES ($1, now() + interval '8 seconds')
ON CONFLICT (only_row)
DO UPDATE SET fence = lead.fence + CASE WHEN lead.owner_id = EXCLUDED.owner_id THEN 0 ELSE 1 END,
              owner_id = EXCLUDED.owner_id, lease_until = EXCLUDED.lease_until
        WHERE lead.owner_id = EXCLUDED.owner_id OR virtuozo_core.is_over(lead.lease_until)
RETURNING owner_id, fence, extract(epoch FROM lease_until - now())::integer AS lease_secs
