-- Building blocks that several topics use.

CREATE OR REPLACE FUNCTION virtuozo_core.uuid_or_null(text) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN CASE WHEN $1 ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN $1::uuid END;

CREATE OR REPLACE FUNCTION virtuozo_core.guest_name(guest uuid) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT h.name || '/' || g.name FROM virtuozo_core.guests g JOIN virtuozo_core.hosts h ON h.id = g.host_id WHERE g.id = guest);

-- A name as one word of a command that a shell takes; names of hosts hold no control characters.
CREATE OR REPLACE FUNCTION virtuozo_core.shell_word(word text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN word ~ '^[A-Za-z0-9_./:@%+,-]+$' THEN word ELSE '''' || replace(word, '''', '''\''''') || '''' END;

-- A process that gives no sign of life for this long is no longer counted on.
CREATE OR REPLACE FUNCTION virtuozo_core.is_alive(heartbeat_at timestamptz, stopped_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
RETURN stopped_at IS NULL AND heartbeat_at > now() - interval '15 seconds';

-- Whether the server has been up for a lease: before that, nobody has had the time for a sign of life.
CREATE OR REPLACE FUNCTION virtuozo_core.is_settled() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT now() > pg_postmaster_start_time() + make_interval(secs => s.lease_secs) FROM virtuozo_core.settings s);
END $$;

-- One operator at a time: so no two of these functions wait for each other.
CREATE OR REPLACE FUNCTION virtuozo_core.one_operator_at_a_time() RETURNS void LANGUAGE sql
RETURN pg_advisory_xact_lock(7316, 2);

-- What operators do is told to everybody, and the schedulers look at once.
CREATE OR REPLACE FUNCTION virtuozo_core.record_operator_event(message text, run uuid, host uuid, guest uuid, guest_run uuid) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.events (code, severity, message, run_id, host_id, guest_id, guest_run_id)
    VALUES (200, 'warning', format('%s (by the database user %s)', message, session_user), run, host, guest, guest_run);
    PERFORM pg_notify('virtuozo::look', '');
    RETURN message;
END $$;
