-- Leases: the rules of the columns fence, owner_id and lease_until, which are the same in each table that has them. All that
-- takes, keeps or asks for a lease comes past here; who releases one sets lease_until and owner_id to NULL, and the
-- constraint TABLE_lease refuses the one without the other. In LANGUAGE sql: a statement contains their text, and calls nothing.

-- When a lease ends that is taken or renewed now.
CREATE OR REPLACE FUNCTION virtuozo_core.lease_end(secs integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT now() + make_interval(secs => secs)
$$;

-- The columns of a lease that is taken now, of which last_fence was the number before. The number grows with every taking, so
-- whatever an earlier owner still writes hits no row.
CREATE OR REPLACE FUNCTION virtuozo_core.lease_taken(last_fence bigint, taker uuid, secs integer)
RETURNS TABLE (fence bigint, owner_id uuid, lease_until timestamptz) LANGUAGE sql STABLE AS $$
    SELECT last_fence + 1, taker, virtuozo_core.lease_end(secs)
$$;

-- The same for one that its owner may ask for again, because it had no answer: then the number stays.
CREATE OR REPLACE FUNCTION virtuozo_core.lease_taken_again(last_fence bigint, last_owner uuid, taker uuid, secs integer)
RETURNS TABLE (fence bigint, owner_id uuid, lease_until timestamptz) LANGUAGE sql STABLE AS $$
    SELECT t.fence, t.owner_id, t.lease_until
      FROM virtuozo_core.lease_taken(last_fence - CASE WHEN last_owner = taker THEN 1 ELSE 0 END, taker, secs) t
$$;

-- How long the lead of the schedulers lasts without being renewed.
CREATE OR REPLACE FUNCTION virtuozo_core.lead_secs() RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT 8
$$;

-- Whether a lease is over: it ran out, or ends later than any that is given, by the longest that lease_secs may be.
-- NULL without a lease.
CREATE OR REPLACE FUNCTION virtuozo_core.is_over(lease_until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT lease_until < now() OR lease_until > now() + interval '2 hours'
$$;

-- Whether a lease is held, and nobody else may act.
CREATE OR REPLACE FUNCTION virtuozo_core.is_held(lease_until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT lease_until >= now() AND lease_until <= now() + interval '2 hours'
$$;

-- Whether a lease is over so that another takes over: a restart of the server itself gives every owner one more lease.
CREATE OR REPLACE FUNCTION virtuozo_core.is_lost(lease_until timestamptz, lease_secs integer) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT virtuozo_core.is_over(greatest(lease_until, pg_postmaster_start_time() + make_interval(secs => lease_secs)))
$$;
