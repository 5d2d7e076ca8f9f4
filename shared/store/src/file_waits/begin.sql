-- $1: the guest run, $2: its fence, $3: what does not answer, $4: for how many seconds.
INSERT INTO virtuozo_core.file_waits (guest_run_id, fence, what, since)
SELECT g.id, g.fence, $3, now() - make_interval(secs => $4)
  FROM virtuozo_core.guest_runs g
 WHERE g.id = $1 AND g.fence = $2 AND (g.state = 'running') IS TRUE
    ON CONFLICT (guest_run_id, fence) DO UPDATE SET what = EXCLUDED.what, since = EXCLUDED.since
