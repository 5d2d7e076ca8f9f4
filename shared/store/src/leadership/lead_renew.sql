-- Renews the lead of the scheduler $1, for as long as lead_take.sql. $2: the fence; $3: the owner.
UPDATE virtuozo_core.lead x
   SET lease_until = now() + interval '8 seconds'
 WHERE x.owner_id = $1 AND x.fence = $2 AND x.owner_id = $3 AND x.lease_until IS NOT NULL
RETURNING false AS cancel_requested, extract(epoch FROM x.lease_until - now())::integer AS lease_secs
