-- What operators see (docs/guide/operate-in-sql.md): these views stay as they are while the tables change. Columns are only added,
-- at the end.

CREATE OR REPLACE VIEW virtuozo.runs AS
SELECT r.id, r.state, r.requested_by, s.name AS schedule, r.due_at, r.cancel_requested, r.error,
       r.created_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS duration,
       h.open AS hosts_open, h.failed AS hosts_failed,
       g.guests, g.open AS guests_open, g.succeeded AS guests_succeeded, g.failed AS guests_failed,
       g.skipped AS guests_skipped, g.cancelled AS guests_cancelled, g.bytes_copied,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id,
       virtuozo_core.hook_reason(r.id) AS waiting_reason
  FROM virtuozo_core.runs r
  LEFT JOIN virtuozo_core.schedules s ON s.id = r.schedule_id
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE state IN ('queued', 'running')) AS open,
              count(*) FILTER (WHERE state = 'failed') AS failed
         FROM virtuozo_core.host_runs WHERE run_id = r.id) h
 CROSS JOIN LATERAL (
       SELECT count(*) AS guests,
              count(*) FILTER (WHERE state IN ('waiting', 'admitted', 'running')) AS open,
              count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
              count(*) FILTER (WHERE state = 'failed') AS failed,
              count(*) FILTER (WHERE state = 'skipped') AS skipped,
              count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
              coalesce(sum(bytes_copied), 0)::bigint AS bytes_copied
         FROM virtuozo_core.guest_runs WHERE run_id = r.id) g;

CREATE OR REPLACE VIEW virtuozo.guest_runs AS
SELECT g.id, g.run_id, h.name AS host, u.name AS guest, g.state, g.mode, g.step,
       virtuozo_core.waiting_reason(g) AS waiting_reason, w.name AS worker, g.fence, g.lease_until,
       g.attempts, g.crashes, g.error AS last_error, g.error_class, g.run_after, g.cancel_requested,
       g.bytes_total, g.bytes_copied, g.progress_at, g.created_at, g.started_at, g.ended_at,
       p.repository || '/' || p.path AS restore_point, p.verified_at,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.runs r ON r.id = g.run_id
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.workers w ON w.id = g.owner_id
  LEFT JOIN virtuozo_core.restore_points p ON p.guest_run_id = g.id;

CREATE OR REPLACE VIEW virtuozo.hosts AS
SELECT h.id, h.name, h.kind, h.address, h.ignored, h.state,
       coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       coalesce(h.paused_at, s.paused_at) AS paused_since,
       (SELECT count(*) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots,
       (SELECT count(x.guest_run_id) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots_taken,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting') AS guests_waiting,
       d.opened_at AS down_since, d.failed_probes, d.open_until AS next_probe_at,
       CASE WHEN h.paused_at IS NOT NULL THEN h.paused_by ELSE s.paused_by END AS paused_by
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
  LEFT JOIN virtuozo_core.circuit_breakers d ON d.host_id = h.id;

-- One row for each node of a host that has slots: a guest waits for a slot of the node that it was last seen on. The node
-- is NULL where the host names none.
CREATE OR REPLACE VIEW virtuozo.nodes AS
SELECT h.name AS host, nullif(s.node, '') AS node, s.slots, s.slots_taken,
       (SELECT count(*) FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
         WHERE g.host_id = h.id AND g.state = 'waiting' AND coalesce(u.node, '') = s.node) AS guests_waiting
  FROM virtuozo_core.hosts h
  JOIN (SELECT x.host_id, x.node, count(*) AS slots, count(x.guest_run_id) AS slots_taken
          FROM virtuozo_core.guest_slots x GROUP BY x.host_id, x.node) s ON s.host_id = h.id;

CREATE OR REPLACE VIEW virtuozo.guests AS
SELECT g.id, h.name AS host, g.name AS guest, g.ignored OR h.ignored OR NOT g.configured AS ignored,
       g.state, g.state_reason, g.power, g.checked_at,
       p.taken_at AS last_point_at, p.repository || '/' || p.path AS last_point, p.verified_at AS last_point_verified_at,
       r.state AS last_run_state, r.error AS last_error
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN LATERAL (SELECT x.taken_at, x.repository, x.path, x.verified_at FROM virtuozo_core.restore_points x
                      WHERE x.guest_id = g.id AND x.state = 'published' ORDER BY x.taken_at DESC LIMIT 1) p ON true
  LEFT JOIN LATERAL (SELECT x.state, x.error FROM virtuozo_core.guest_runs x
                      WHERE x.guest_id = g.id ORDER BY x.created_at DESC LIMIT 1) r ON true;

-- One row for each guest that is to be backed up. A guest without a restore point has its age counted from
-- when it became known. A restore point that is dated in the future is none here.
CREATE OR REPLACE VIEW virtuozo.rpo AS
SELECT g.id, h.name AS host, g.name AS guest, g.locator, o.rpo_secs, p.taken_at AS last_point_at,
       a.age_secs, coalesce(a.age_secs > o.rpo_secs, false) AS exceeded
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
 CROSS JOIN virtuozo_core.settings s
 CROSS JOIN LATERAL (SELECT nullif(coalesce(g.rpo_secs, s.rpo_secs), 0) AS rpo_secs) o
  LEFT JOIN LATERAL (SELECT x.taken_at FROM virtuozo_core.restore_points x
                      WHERE x.guest_id = g.id AND x.state = 'published' AND x.taken_at < now() + interval '5 minutes'
                      ORDER BY x.taken_at DESC LIMIT 1) p ON true
 CROSS JOIN LATERAL (SELECT round(extract(epoch FROM now() - coalesce(p.taken_at, g.created_at)))::bigint AS age_secs) a
 WHERE g.configured AND NOT g.ignored AND NOT h.ignored;

CREATE OR REPLACE VIEW virtuozo.workers AS
SELECT w.id, w.kind, w.name, w.machine, w.pid, w.version,
       CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
            WHEN virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at) THEN 'alive'
            ELSE 'silent' END AS state,
       w.started_at, w.heartbeat_at, w.stopped_at,
       round(extract(epoch FROM now() - w.heartbeat_at))::bigint AS silent_secs,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS guest_runs,
       (SELECT count(*) FROM virtuozo_core.host_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS host_runs,
       EXISTS (SELECT 1 FROM virtuozo_core.lead l WHERE l.owner_id = w.id AND virtuozo_core.is_held(l.lease_until)) AS leads,
       ARRAY(SELECT k.kind FROM virtuozo_core.worker_kinds k WHERE k.worker_id = w.id AND k.is_served ORDER BY k.kind) AS serves,
       ARRAY(SELECT coalesce(x.location, 'host ' || x.host) FROM virtuozo_core.lacking_workers x WHERE x.worker_id = w.id ORDER BY 1) AS lacks
  FROM virtuozo_core.workers w;

CREATE OR REPLACE VIEW virtuozo.obligations AS
SELECT o.id, o.kind, h.name AS host, u.name AS guest, o.snapshot_name, o.guest_run_id, g.run_id,
       coalesce(virtuozo_core.is_held(o.lease_until), false) AS in_work, o.attempts, o.next_attempt_at,
       coalesce('its host ' || virtuozo_core.down_reason(o.host_id), o.last_error) AS last_error, o.created_at
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
  JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id;

-- Events in the words of people.
CREATE OR REPLACE VIEW virtuozo_core.event_lines AS
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

-- One row for each job that apalis delivers or has delivered lately. Guests that wait for a slot have none
-- yet: they are in virtuozo.guest_runs.
CREATE OR REPLACE VIEW virtuozo.jobs AS
SELECT j.id, j.job_type AS queue, j.status, p.doc AS payload,
       coalesce(g.run_id, r.run_id) AS run_id, r.id AS host_run_id, g.id AS guest_run_id,
       h.name AS host, u.name AS guest, g.step,
       coalesce(g.attempts, r.attempts, (SELECT max(o.attempts) FROM virtuozo_core.obligations o WHERE o.guest_id = u.id)) AS attempts,
       coalesce(g.error, r.error,
                (SELECT max(o.last_error) FROM virtuozo_core.obligations o WHERE j.job_type = 'virtuozo-undo' AND o.guest_id = u.id),
                j.last_result ->> 'Err') AS last_error,
       substring(j.metadata::text FROM '"traceparent"=>"[^-"]*-([^-"]+)') AS trace_id,
       CASE WHEN j.status IN ('Queued', 'Running', 'Done', 'Killed') THEN NULL
            WHEN j.status = 'Failed' AND j.attempts >= j.max_attempts THEN NULL
            WHEN p.doc IS NULL THEN 'its payload cannot be read'
            WHEN j.run_at > now() THEN format('due at %s', j.run_at)
            WHEN g.id IS NOT NULL THEN virtuozo_core.waiting_reason(g)
            ELSE coalesce(virtuozo_core.kind_reason(h.id),
                          virtuozo_core.left_reason(j.needs_kind, j.needs_host, j.needs_locations),
                          'no worker has claimed it yet') END AS waiting_reason,
       j.attempts AS deliveries, j.run_at, j.lock_at AS claimed_at, w.name AS worker, j.done_at,
       nullif(j.needs_kind, '') AS needs_kind, j.needs_locations
  FROM apalis.jobs j
 CROSS JOIN LATERAL (SELECT virtuozo_core.payload(j.job) AS doc) p
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = virtuozo_core.uuid_or_null(p.doc ->> 'guest_run_id')
  LEFT JOIN virtuozo_core.host_runs r ON r.id = virtuozo_core.uuid_or_null(p.doc ->> 'host_run_id')
  LEFT JOIN virtuozo_core.guests u ON u.id = coalesce(g.guest_id, virtuozo_core.uuid_or_null(p.doc ->> 'guest_id'))
  LEFT JOIN virtuozo_core.requests q ON q.id = virtuozo_core.uuid_or_null(p.doc ->> 'request_id')
  LEFT JOIN virtuozo_core.hosts h ON h.id = coalesce(u.host_id, r.host_id, q.host_id)
  LEFT JOIN virtuozo_core.workers w ON w.id = virtuozo_core.uuid_or_null(split_part(j.lock_by, '/', 1))
 WHERE j.job_type LIKE 'virtuozo-%';

CREATE OR REPLACE VIEW virtuozo.notices AS
SELECT n.id, n.kind, n.channel, n.run_id, n.state, n.folded_into, n.held, n.attempts, n.run_after, n.sent_to,
       n.refused_to, n.last_error, n.created_at, n.ended_at
  FROM virtuozo_core.notices n;

CREATE OR REPLACE VIEW virtuozo.hooks AS
SELECT h.name AS host, u.name AS guest, k.moment, k.command, k.limit_secs, k.on_failure, k.updated_at
  FROM virtuozo_core.hooks k
  LEFT JOIN virtuozo_core.guests u ON u.id = k.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = u.host_id;

CREATE OR REPLACE VIEW virtuozo.hook_runs AS
SELECT k.id, k.run_id, k.guest_run_id, h.name AS host, u.name AS guest, k.moment, k.outcome, k.command, k.state,
       k.fence AS attempts, w.name AS process, w.machine, k.exit_code, k.error, k.created_at, k.started_at, k.ended_at
  FROM virtuozo_core.hook_runs k
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = k.guest_run_id
  LEFT JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN virtuozo_core.workers w ON w.id = k.ran_by;
