-- $1: the scheduler. Takes the lead if it is free or its lease has run out, and renews one's own.
INSERT INTO virtuozo_core.lead (fence, owner_id, lease_until)
SELECT * FROM virtuozo_core.lease_taken(0, $1, virtuozo_core.lead_secs())
ON CONFLICT (only_row)
DO UPDATE SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken_again(
                  lead.fence, lead.owner_id, EXCLUDED.owner_id, virtuozo_core.lead_secs()))
        WHERE lead.owner_id = EXCLUDED.owner_id OR virtuozo_core.is_over(lead.lease_until)
RETURNING owner_id, fence, virtuozo_core.lead_secs() AS lease_secs
