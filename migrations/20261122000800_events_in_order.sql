-- Events for those who follow them. Numbers of events become visible out of order: a transaction that took
-- its number early may commit late. So whoever follows goes by snapshots: new is what the last snapshot did not
-- see and the present one does. That needs the transaction of each event, and no word more when one is told.

-- The default is none that has to be computed for each row: old rows are not rewritten, and count as told
-- by this migration.
ALTER TABLE virtuozo_core.events ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX events_xact ON virtuozo_core.events (xact);

-- How far the log of the machine has been told (scheduler/src/mirror).
CREATE TABLE virtuozo_core.event_mirror (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since     pg_snapshot NOT NULL,            -- what this saw is told
    until     pg_snapshot,                     -- what this saw is being told
    last_xact bigint NOT NULL DEFAULT 0,       -- the last event of it that is told, in the order of transactions
    last_id   bigint NOT NULL DEFAULT 0,
    max_id    bigint NOT NULL,                 -- no event with a greater number is told
    version   bigint NOT NULL DEFAULT 1        -- of two that tell at the same time, one sees the other
);

-- Events in the words of people.
CREATE VIEW virtuozo_core.event_lines AS
SELECT e.id, e.at, e.severity, e.code, e.message, h.name AS host, u.name AS guest, e.run_id, e.guest_run_id, e.detail,
       -- What happened before the run was reopened is in the trace of that time.
       virtuozo_core.trace_hex(CASE WHEN e.at < r.trace_since THEN r.trace_before ELSE coalesce(r.trace_id, r.id) END) AS trace_id,
       h.id AS host_id, e.guest_id, e.xact
  FROM virtuozo_core.events e
  LEFT JOIN virtuozo_core.guests u ON u.id = e.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = coalesce(e.host_id, u.host_id)
  LEFT JOIN virtuozo_core.guest_runs g ON e.run_id IS NULL AND g.id = e.guest_run_id
  LEFT JOIN virtuozo_core.runs r ON r.id = coalesce(e.run_id, g.run_id);

CREATE OR REPLACE VIEW virtuozo.events AS
SELECT id, at, severity, code, message, host, guest, run_id, guest_run_id, detail, trace_id
  FROM virtuozo_core.event_lines;

SELECT virtuozo_core.grant_roles();
