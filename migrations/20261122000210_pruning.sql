-- History has an end, by age and by count, and what deletes it finds its rows by index.

ALTER TABLE virtuozo_core.settings
    ADD COLUMN history_keep_days integer NOT NULL DEFAULT 180 CHECK (history_keep_days >= 1),
    ADD COLUMN history_keep_runs integer NOT NULL DEFAULT 1000 CHECK (history_keep_runs >= 1),
    ADD COLUMN event_keep_count  integer NOT NULL DEFAULT 1000000 CHECK (event_keep_count >= 1000);

CREATE INDEX runs_created ON virtuozo_core.runs (created_at, id);
-- A deleted row is looked for in every table that refers to it.
CREATE INDEX guest_runs_host_run ON virtuozo_core.guest_runs (host_run_id);
CREATE INDEX ticks_run ON virtuozo_core.ticks (run_id);
CREATE INDEX obligations_guest_run ON virtuozo_core.obligations (guest_run_id);
CREATE INDEX events_guest_run ON virtuozo_core.events (guest_run_id) WHERE guest_run_id IS NOT NULL;

-- Jobs on their way, by payload: the sweeps look for lost ones every second.
CREATE INDEX virtuozo_jobs_open ON apalis.jobs (job_type, job) WHERE status IN ('Pending', 'Queued', 'Running');
-- Jobs that are over, by age.
CREATE INDEX virtuozo_jobs_over ON apalis.jobs (coalesce(done_at, run_at)) WHERE status IN ('Done', 'Failed', 'Killed');
