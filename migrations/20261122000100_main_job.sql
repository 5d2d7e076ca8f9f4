-- The tables of the main job. States are text with CHECK constraints; docs/STATE-MACHINE.md describes
-- who moves what from where to where. apalis keeps its own tables in its own schema: they deliver,
-- these are the truth.

CREATE SCHEMA virtuozo_core;

-- One row: the site's settings. Read afresh wherever they are used, so a change applies at once.
CREATE TABLE virtuozo_core.settings (
    only_row             boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    host_threads         integer NOT NULL DEFAULT 10 CHECK (host_threads BETWEEN 1 AND 10),
    guest_threads        integer NOT NULL DEFAULT 2 CHECK (guest_threads BETWEEN 1 AND 64),
    destination          text CHECK (destination <> ''),
    mode                 text NOT NULL DEFAULT 'auto' CHECK (mode IN ('hot', 'cold', 'auto')),
    resume_power_state   boolean NOT NULL DEFAULT true,
    backup_when_off      boolean NOT NULL DEFAULT true,
    new_guests           text NOT NULL DEFAULT 'backup' CHECK (new_guests IN ('backup', 'report')),
    verify_after_backup  boolean NOT NULL DEFAULT true,
    keep_last            integer NOT NULL DEFAULT 7 CHECK (keep_last >= 1),
    daily_start_time     time NOT NULL DEFAULT '22:00',
    time_zone            text NOT NULL DEFAULT 'UTC',
    soft_power_off_secs  integer NOT NULL DEFAULT 120 CHECK (soft_power_off_secs BETWEEN 0 AND 3600),
    snapshot_limit_secs  integer NOT NULL DEFAULT 600 CHECK (snapshot_limit_secs BETWEEN 1 AND 86400),
    max_attempts         integer NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 20),
    max_crashes          integer NOT NULL DEFAULT 3 CHECK (max_crashes BETWEEN 1 AND 20),
    retry_delay_secs     integer NOT NULL DEFAULT 30 CHECK (retry_delay_secs BETWEEN 0 AND 86400),
    lease_secs           integer NOT NULL DEFAULT 10 CHECK (lease_secs BETWEEN 2 AND 3600),
    event_keep_days      integer NOT NULL DEFAULT 90 CHECK (event_keep_days >= 1),
    updated_at           timestamptz NOT NULL DEFAULT now()
);
INSERT INTO virtuozo_core.settings DEFAULT VALUES;

CREATE TABLE virtuozo_core.hosts (
    id              uuid PRIMARY KEY,
    name            text NOT NULL UNIQUE CHECK (name <> ''),
    kind            text NOT NULL CHECK (kind IN ('server2', 'workstation', 'workstation_shared', 'esxi')),
    address         text,
    user_name       text,
    password_sealed bytea,
    config_dir      text,
    ignored         boolean NOT NULL DEFAULT false,
    guest_threads   integer CHECK (guest_threads BETWEEN 1 AND 64), -- NULL: the site's setting
    state           text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'ok', 'unreachable', 'invalid')),
    state_reason    text,
    checked_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- Where workers read a host's datastore. local_path NULL: at the path the host itself gives.
CREATE TABLE virtuozo_core.datastores (
    host_id    uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    name       text NOT NULL CHECK (name <> ''),
    host_path  text,
    local_path text,
    seen_at    timestamptz,
    PRIMARY KEY (host_id, name)
);

CREATE TABLE virtuozo_core.guests (
    id                 uuid PRIMARY KEY,
    host_id            uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    vmx_path           text NOT NULL CHECK (vmx_path <> ''),
    name               text NOT NULL,
    -- false: found in the inventory while settings.new_guests was 'report', nobody has taken it over yet
    configured         boolean NOT NULL DEFAULT true,
    ignored            boolean NOT NULL DEFAULT false,
    destination        text CHECK (destination <> ''),                 -- these five: NULL = the site's setting
    mode               text CHECK (mode IN ('hot', 'cold', 'auto')),
    resume_power_state boolean,
    backup_when_off    boolean,
    keep_last          integer CHECK (keep_last >= 1),
    state              text NOT NULL DEFAULT 'unknown'
        CHECK (state IN ('unknown', 'ok', 'not_in_inventory', 'not_configured', 'invalid', 'powered_off')),
    state_reason       text,
    power              text CHECK (power IN ('on', 'off', 'suspended', 'blocked_on_question')),
    checked_at         timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (host_id, vmx_path)
);

CREATE TABLE virtuozo_core.disks (
    id             uuid PRIMARY KEY,
    guest_id       uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    device         text NOT NULL CHECK (device <> ''),
    file_name      text NOT NULL,
    ignored        boolean NOT NULL DEFAULT false,
    capacity_bytes bigint,
    state          text NOT NULL DEFAULT 'unknown'
        CHECK (state IN ('unknown', 'ok', 'not_in_inventory', 'invalid')),
    state_reason   text,
    checked_at     timestamptz,
    UNIQUE (guest_id, device)
);

CREATE TABLE virtuozo_core.schedules (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name <> ''),
    cron       text,                 -- NULL: Monday to Friday at settings.daily_start_time
    time_zone  text,                 -- NULL: settings.time_zone
    enabled    boolean NOT NULL DEFAULT true,
    -- Due times up to and including this one have been dealt with.
    done_until timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- No row for a schedule: the whole site.
CREATE TABLE virtuozo_core.schedule_targets (
    schedule_id uuid NOT NULL REFERENCES virtuozo_core.schedules ON DELETE CASCADE,
    host_id     uuid REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id    uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    CHECK (num_nonnulls(host_id, guest_id) = 1),
    UNIQUE NULLS NOT DISTINCT (schedule_id, host_id, guest_id)
);

CREATE TABLE virtuozo_core.runs (
    id               uuid PRIMARY KEY,
    schedule_id      uuid REFERENCES virtuozo_core.schedules ON DELETE SET NULL,
    due_at           timestamptz,          -- NULL: started by hand
    requested_by     text NOT NULL,        -- 'schedule NAME', 'user NAME', 'demo'
    state            text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    cancel_requested boolean NOT NULL DEFAULT false,
    error            text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX runs_running ON virtuozo_core.runs (created_at) WHERE state = 'running';

-- One row for each due time that became a run: two schedulers make one.
CREATE TABLE virtuozo_core.ticks (
    schedule_id uuid NOT NULL REFERENCES virtuozo_core.schedules ON DELETE CASCADE,
    due_at      timestamptz NOT NULL,
    run_id      uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    PRIMARY KEY (schedule_id, due_at)
);

CREATE TABLE virtuozo_core.host_runs (
    id          uuid PRIMARY KEY,
    run_id      uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_id     uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    -- NULL: all guests of the host; otherwise only these
    guest_ids   uuid[],
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    fence       bigint NOT NULL DEFAULT 0,
    owner_id    uuid,
    lease_until timestamptz,
    attempts    integer NOT NULL DEFAULT 0,
    crashes     integer NOT NULL DEFAULT 0,
    run_after   timestamptz NOT NULL DEFAULT now(),
    error       text,
    error_class text CHECK (error_class IN ('retry', 'permanent', 'operator')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    ended_at    timestamptz,
    UNIQUE (run_id, host_id),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('queued', 'running')) = (ended_at IS NULL))
);
CREATE INDEX host_runs_open ON virtuozo_core.host_runs (run_id) WHERE state IN ('queued', 'running');

CREATE TABLE virtuozo_core.guest_runs (
    id             uuid PRIMARY KEY,
    run_id         uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_run_id    uuid NOT NULL REFERENCES virtuozo_core.host_runs ON DELETE CASCADE,
    host_id        uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id       uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    -- waiting: for a slot (or for run_after); admitted: has a slot, its job is queued; running: under a lease
    state          text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'admitted', 'running', 'succeeded', 'failed', 'skipped', 'cancelled')),
    mode           text CHECK (mode IN ('hot', 'cold')),   -- decided by the validate step
    step           text CHECK (step IN ('validate', 'snapshot', 'power_off', 'copy', 'commit', 'power_on', 'publish')),
    fence          bigint NOT NULL DEFAULT 0,
    -- The fence under which the present attempt began: who takes over goes on after the steps done since
    -- then. NULL: the next taker begins afresh.
    attempt_fence  bigint,
    owner_id       uuid,
    lease_until    timestamptz,
    attempts       integer NOT NULL DEFAULT 0,
    crashes        integer NOT NULL DEFAULT 0,
    run_after      timestamptz NOT NULL DEFAULT now(),
    admitted_at    timestamptz,
    error          text,
    error_class    text CHECK (error_class IN ('retry', 'permanent', 'operator')),
    bytes_total    bigint,                 -- to be copied, as far as known
    bytes_copied   bigint NOT NULL DEFAULT 0,
    progress_at    timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    ended_at       timestamptz,
    UNIQUE (run_id, guest_id),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('waiting', 'admitted', 'running')) = (ended_at IS NULL))
);
CREATE INDEX guest_runs_waiting ON virtuozo_core.guest_runs (host_id, created_at, id) WHERE state = 'waiting';
CREATE INDEX guest_runs_open ON virtuozo_core.guest_runs (run_id) WHERE state IN ('waiting', 'admitted', 'running');
CREATE INDEX guest_runs_lease ON virtuozo_core.guest_runs (lease_until) WHERE state = 'running';
-- Two runs never work on one guest at the same time.
CREATE UNIQUE INDEX guest_runs_one_active ON virtuozo_core.guest_runs (guest_id) WHERE state IN ('admitted', 'running');
CREATE INDEX guest_runs_guest ON virtuozo_core.guest_runs (guest_id, created_at DESC);

-- The right to work on one more guest of a host. As many rows as the host may have guests in work,
-- so the cap is structural, not counted.
CREATE TABLE virtuozo_core.guest_slots (
    host_id      uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    slot_no      integer NOT NULL CHECK (slot_no >= 1),
    guest_run_id uuid UNIQUE REFERENCES virtuozo_core.guest_runs ON DELETE SET NULL,
    taken_at     timestamptz,
    PRIMARY KEY (host_id, slot_no)
);

-- What each attempt did: one row for each step and fence. output is what the next steps need.
CREATE TABLE virtuozo_core.steps (
    guest_run_id uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    fence        bigint NOT NULL,
    name         text NOT NULL CHECK (name IN ('validate', 'snapshot', 'power_off', 'copy', 'commit', 'power_on', 'publish')),
    state        text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    output       jsonb,
    error        text,
    started_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    PRIMARY KEY (guest_run_id, fence, name)
);

-- Live progress of each disk in the copy step.
CREATE TABLE virtuozo_core.disk_progress (
    guest_run_id uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    device       text NOT NULL,
    bytes_total  bigint NOT NULL,
    bytes_copied bigint NOT NULL DEFAULT 0,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guest_run_id, device)
);

-- What must be undone whatever happens. Written before the host is changed, deleted only after it was
-- seen to be met.
CREATE TABLE virtuozo_core.obligations (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('remove_snapshot', 'power_on')),
    host_id         uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE RESTRICT,
    guest_id        uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE RESTRICT,
    guest_run_id    uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE RESTRICT,
    fence           bigint NOT NULL,
    snapshot_name   text,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error      text,
    -- An undo job works on it; while the claim holds, no run of the guest is admitted.
    claim_id        uuid,
    claimed_until   timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((claim_id IS NULL) = (claimed_until IS NULL)),
    CHECK ((kind = 'remove_snapshot') = (snapshot_name IS NOT NULL))
);
CREATE UNIQUE INDEX obligations_snapshot ON virtuozo_core.obligations (guest_id, snapshot_name) WHERE kind = 'remove_snapshot';
CREATE UNIQUE INDEX obligations_power ON virtuozo_core.obligations (guest_id) WHERE kind = 'power_on';

CREATE TABLE virtuozo_core.restore_points (
    id                uuid PRIMARY KEY,
    guest_id          uuid REFERENCES virtuozo_core.guests ON DELETE SET NULL,
    guest_run_id      uuid UNIQUE REFERENCES virtuozo_core.guest_runs ON DELETE SET NULL,
    host_name         text NOT NULL,
    guest_name        text NOT NULL,
    repository        text NOT NULL,       -- the destination directory
    path              text NOT NULL,       -- below it
    mode              text NOT NULL CHECK (mode IN ('hot', 'cold')),
    taken_at          timestamptz NOT NULL, -- the instant the disks hold
    published_at      timestamptz NOT NULL DEFAULT now(),
    size_bytes        bigint NOT NULL,      -- stored
    source_bytes      bigint NOT NULL,      -- sum of the disks' sizes
    foreign_snapshots text[] NOT NULL DEFAULT '{}',
    state             text NOT NULL DEFAULT 'published' CHECK (state IN ('published', 'damaged', 'deleting')),
    verified_at       timestamptz,
    damage            text,
    UNIQUE (repository, path)
);
CREATE INDEX restore_points_guest ON virtuozo_core.restore_points (guest_id, taken_at DESC);

-- Every incarnation of a process; names may repeat, ids never.
CREATE TABLE virtuozo_core.workers (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('worker', 'scheduler')),
    name         text NOT NULL,
    machine      text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    stopped_at   timestamptz
);

-- What people are told: 50 and 100 debug (code flow, threading), 200 user (done, failed).
CREATE TABLE virtuozo_core.events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    code         integer NOT NULL CHECK (code IN (50, 100, 200)),
    severity     text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    message      text NOT NULL,
    run_id       uuid REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_id      uuid REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id     uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    guest_run_id uuid REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    detail       jsonb
);
CREATE INDEX events_at ON virtuozo_core.events (at);
CREATE INDEX events_run ON virtuozo_core.events (run_id) WHERE run_id IS NOT NULL;
