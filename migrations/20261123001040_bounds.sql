-- What is written by hand, or under a wrong clock, stops nobody.

-- Refuses instants in a table that no calendar of a program has: of another age, or infinite. Tables that come later
-- are given to it when they are made.
CREATE FUNCTION virtuozo_core.bound_times(tab regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    columns text;
    name text;
BEGIN
    SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum), c.relname INTO columns, name
      FROM pg_attribute a
      JOIN pg_class c ON c.oid = a.attrelid
     WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'timestamptz'::regtype
     GROUP BY c.relname;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', tab, name || '_times');
    -- NOT VALID: rows that are there are not read for it.
    EXECUTE format('ALTER TABLE %1$s ADD CONSTRAINT %2$I CHECK (greatest(%3$s) < ''9999-01-01Z'' AND least(%3$s) > ''1000-01-01Z'') NOT VALID',
                   tab, name || '_times', columns);
END $$;

DO $$
DECLARE
    tab regclass;
BEGIN
    FOR tab IN
        SELECT c.oid
          FROM pg_class c
         WHERE c.relnamespace = 'virtuozo_core'::regnamespace AND c.relkind = 'r'
           AND EXISTS (SELECT 1 FROM pg_attribute a
                        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'timestamptz'::regtype)
         ORDER BY c.oid
    LOOP
        PERFORM virtuozo_core.bound_times(tab);
    END LOOP;
END $$;

-- Whether a lease is over: it ran out, or ends later than any that is given, by the longest that lease_secs may be.
-- NULL without a lease.
CREATE FUNCTION virtuozo_core.is_over(lease_until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT lease_until < now() OR lease_until > now() + interval '2 hours'
$$;

-- 24:00 is a time for the database and for nobody else; days are counted back from now.
UPDATE virtuozo_core.settings
   SET daily_start_time = least(daily_start_time, '23:59:59'),
       event_keep_days = least(event_keep_days, 36500), history_keep_days = least(history_keep_days, 36500)
 WHERE daily_start_time >= '24:00' OR event_keep_days > 36500 OR history_keep_days > 36500;
ALTER TABLE virtuozo_core.settings
    ADD CHECK (daily_start_time < '24:00'),
    ADD CHECK (event_keep_days <= 36500),
    ADD CHECK (history_keep_days <= 36500);
