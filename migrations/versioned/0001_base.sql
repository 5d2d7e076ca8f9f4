-- The tables. States are text of domains; docs/concepts/state-machine.md says who moves what from where to
-- where. apalis keeps its own tables in its own schema: they deliver, these are the truth.
--
-- Nothing here refers to a function of migrations/definitions.
--
-- A lease is the right of one owner to act for a row, and is three columns wherever there is one: fence, which grows with
-- every taking; owner_id; lease_until. The last two are NULL while nobody has it (its constraint ..._lease).

CREATE SCHEMA virtuozo_core;
-- Views and functions for operators, and nothing else.
CREATE SCHEMA virtuozo;

-- What a value may be, wherever it stands (docs/adr/0038-values-are-domains.md). Instants that no program reads are refused:
-- before the year 1000, after 9999, and infinite ones.
CREATE DOMAIN virtuozo_core.instant AS timestamptz
    CONSTRAINT instant_is_readable CHECK (VALUE < '9999-01-01Z' AND VALUE > '1000-01-01Z');
CREATE DOMAIN virtuozo_core.mode_choice AS text CHECK (VALUE IN ('hot', 'cold', 'auto'));
CREATE DOMAIN virtuozo_core.new_guests_choice AS text CHECK (VALUE IN ('backup', 'report'));
CREATE DOMAIN virtuozo_core.host_state AS text CHECK (VALUE IN ('unknown', 'ok', 'unreachable', 'invalid'));
CREATE DOMAIN virtuozo_core.guest_state AS text
    CHECK (VALUE IN ('unknown', 'ok', 'not_in_inventory', 'not_configured', 'invalid', 'powered_off'));
CREATE DOMAIN virtuozo_core.power_state AS text CHECK (VALUE IN ('on', 'off', 'suspended', 'blocked_on_question'));
CREATE DOMAIN virtuozo_core.disk_state AS text CHECK (VALUE IN ('unknown', 'ok', 'not_in_inventory', 'invalid'));
CREATE DOMAIN virtuozo_core.process_kind AS text CHECK (VALUE IN ('worker', 'scheduler'));
CREATE DOMAIN virtuozo_core.run_state AS text CHECK (VALUE IN ('running', 'succeeded', 'failed', 'cancelled'));
CREATE DOMAIN virtuozo_core.host_run_state AS text
    CHECK (VALUE IN ('queued', 'running', 'succeeded', 'failed', 'cancelled'));
CREATE DOMAIN virtuozo_core.error_class AS text CHECK (VALUE IN ('retry', 'permanent', 'operator'));
CREATE DOMAIN virtuozo_core.guest_run_state AS text
    CHECK (VALUE IN ('waiting', 'admitted', 'running', 'succeeded', 'failed', 'skipped', 'cancelled'));
CREATE DOMAIN virtuozo_core.backup_mode AS text CHECK (VALUE IN ('hot', 'cold'));
CREATE DOMAIN virtuozo_core.step_name AS text
    CHECK (VALUE IN ('validate', 'snapshot', 'power_off', 'copy', 'commit', 'power_on', 'verify', 'publish'));
CREATE DOMAIN virtuozo_core.step_state AS text CHECK (VALUE IN ('running', 'done', 'failed'));
CREATE DOMAIN virtuozo_core.obligation_kind AS text CHECK (VALUE IN ('remove_snapshot', 'power_on'));
CREATE DOMAIN virtuozo_core.point_state AS text CHECK (VALUE IN ('published', 'damaged', 'deleting'));
CREATE DOMAIN virtuozo_core.read_back AS text CHECK (VALUE IN ('medium', 'server', 'cache'));
CREATE DOMAIN virtuozo_core.blake3 AS text CHECK (VALUE ~ '^[0-9a-f]{64}$');
CREATE DOMAIN virtuozo_core.event_code AS integer CHECK (VALUE IN (50, 100, 200));
CREATE DOMAIN virtuozo_core.severity AS text CHECK (VALUE IN ('info', 'warning', 'error'));
CREATE DOMAIN virtuozo_core.mail_security AS text CHECK (VALUE IN ('starttls', 'tls', 'none'));
CREATE DOMAIN virtuozo_core.notice_kind AS text CHECK (VALUE IN ('failure', 'success', 'obligation', 'digest', 'test'));
CREATE DOMAIN virtuozo_core.notice_channel AS text CHECK (VALUE IN ('mail', 'webhook'));
CREATE DOMAIN virtuozo_core.notice_state AS text
    CHECK (VALUE IN ('waiting', 'sending', 'sent', 'folded', 'dropped', 'failed'));
CREATE DOMAIN virtuozo_core.hook_moment AS text CHECK (VALUE IN ('before', 'after'));
CREATE DOMAIN virtuozo_core.hook_failure AS text CHECK (VALUE IN ('fail', 'ignore'));
CREATE DOMAIN virtuozo_core.outcome AS text CHECK (VALUE IN ('succeeded', 'failed', 'cancelled'));
CREATE DOMAIN virtuozo_core.task_state AS text CHECK (VALUE IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled'));
CREATE DOMAIN virtuozo_core.request_kind AS text CHECK (VALUE IN ('host_test', 'host_check', 'datastore_propose'));

-- One row: which generation of migrations/definitions this database has.
CREATE TABLE virtuozo_core.definitions (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation integer NOT NULL CHECK (generation >= 0),
    applied_at virtuozo_core.instant NOT NULL DEFAULT now()
);
INSERT INTO virtuozo_core.definitions (generation) VALUES (0);

-- The site -------------------------------------------------------------------------------------------

-- One row: the site's settings. Read afresh wherever they are used, so a change applies at once.
CREATE TABLE virtuozo_core.settings (
    only_row             boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    host_threads         integer NOT NULL DEFAULT 10 CHECK (host_threads BETWEEN 1 AND 10),
    guest_threads        integer NOT NULL DEFAULT 2 CHECK (guest_threads BETWEEN 1 AND 64),
    fleet_guest_threads  integer CHECK (fleet_guest_threads >= 1),      -- NULL: no cap over all hosts
    destination          text CHECK (destination <> ''),                -- without slashes at the end, double ones and dots
    mode                 virtuozo_core.mode_choice NOT NULL DEFAULT 'auto',
    resume_power_state   boolean NOT NULL DEFAULT true,
    backup_when_off      boolean NOT NULL DEFAULT true,
    new_guests           virtuozo_core.new_guests_choice NOT NULL DEFAULT 'backup',
    verify_after_backup  boolean NOT NULL DEFAULT true,
    keep_last            integer NOT NULL DEFAULT 7 CHECK (keep_last >= 1),
    group_may_read       boolean NOT NULL DEFAULT false,                -- restore points: 0640 and 0750, else 0600 and 0700
    -- How old a guest's newest good restore point may become before somebody has to be told; 0: however old. The
    -- default fits a daily backup from Monday to Friday: 72 hours over the weekend, and two for the backup itself.
    rpo_secs             integer NOT NULL DEFAULT 266400 CHECK (rpo_secs >= 0),
    -- PostgreSQL has a time 24:00, programs have none.
    daily_start_time     time NOT NULL DEFAULT '22:00' CHECK (daily_start_time < '24:00'),
    time_zone            text NOT NULL DEFAULT 'UTC',
    soft_power_off_secs  integer NOT NULL DEFAULT 120 CHECK (soft_power_off_secs BETWEEN 0 AND 3600),
    snapshot_limit_secs  integer NOT NULL DEFAULT 600 CHECK (snapshot_limit_secs BETWEEN 1 AND 86400),
    -- How long nothing may move in files that are read or written before the file system counts as silent.
    file_silence_secs    integer NOT NULL DEFAULT 120 CHECK (file_silence_secs BETWEEN 2 AND 86400),
    max_attempts         integer NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 20),
    max_crashes          integer NOT NULL DEFAULT 3 CHECK (max_crashes BETWEEN 1 AND 20),
    retry_delay_secs     integer NOT NULL DEFAULT 30 CHECK (retry_delay_secs BETWEEN 0 AND 86400),
    lease_secs           integer NOT NULL DEFAULT 10 CHECK (lease_secs BETWEEN 2 AND 3600),
    -- Days are counted back from now, so they have a bound.
    event_keep_days      integer NOT NULL DEFAULT 90 CHECK (event_keep_days BETWEEN 1 AND 36500),
    event_keep_count     integer NOT NULL DEFAULT 1000000 CHECK (event_keep_count >= 1000),
    history_keep_days    integer NOT NULL DEFAULT 180 CHECK (history_keep_days BETWEEN 1 AND 36500),
    history_keep_runs    integer NOT NULL DEFAULT 1000 CHECK (history_keep_runs >= 1),
    paused_at            virtuozo_core.instant,                         -- no guest of any host is begun
    paused_by            text,                                          -- the database user who paused
    updated_at           virtuozo_core.instant NOT NULL DEFAULT now()
);
INSERT INTO virtuozo_core.settings DEFAULT VALUES;

CREATE TABLE virtuozo_core.hosts (
    id              uuid PRIMARY KEY,
    name            text NOT NULL UNIQUE CHECK (name <> ''),
    kind            text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,31}$'),    -- a word of the program's back ends
    address         text,
    user_name       text,
    password_sealed bytea,
    -- What else the back end has to know, as it names it; all values are texts.
    properties      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(properties) = 'object'),
    ignored         boolean NOT NULL DEFAULT false,
    guest_threads   integer CHECK (guest_threads BETWEEN 1 AND 64),     -- NULL: the site's setting
    state           virtuozo_core.host_state NOT NULL DEFAULT 'unknown',
    state_reason    text,
    checked_at      virtuozo_core.instant,
    paused_at       virtuozo_core.instant,                              -- no guest of this host is begun
    paused_by       text,                                               -- the database user who paused
    created_at      virtuozo_core.instant NOT NULL DEFAULT now(),
    updated_at      virtuozo_core.instant NOT NULL DEFAULT now()
);

-- Where workers read a host's datastore. local_path NULL: at the path the host itself gives.
CREATE TABLE virtuozo_core.datastores (
    host_id       uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    name          text NOT NULL CHECK (name <> ''),
    host_path     text,
    local_path    text,
    guest_threads integer CHECK (guest_threads >= 1),                   -- NULL: no cap
    seen_at       virtuozo_core.instant,
    PRIMARY KEY (host_id, name)
);

CREATE TABLE virtuozo_core.guests (
    id                 uuid PRIMARY KEY,
    host_id            uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    locator            text NOT NULL CHECK (locator <> ''),             -- what its host finds it by
    uuid               uuid,                                            -- what stays when it is moved, where there is one
    name               text NOT NULL,
    -- false: found in the inventory while settings.new_guests was 'report', nobody has taken it over yet
    configured         boolean NOT NULL DEFAULT true,
    ignored            boolean NOT NULL DEFAULT false,
    destination        text CHECK (destination <> ''),                  -- these six: NULL = the site's setting
    mode               virtuozo_core.mode_choice,
    resume_power_state boolean,
    backup_when_off    boolean,
    keep_last          integer CHECK (keep_last >= 1),
    rpo_secs           integer CHECK (rpo_secs >= 0),
    state              virtuozo_core.guest_state NOT NULL DEFAULT 'unknown',
    state_reason       text,
    power              virtuozo_core.power_state,
    node               text,                                            -- the machine of its host that ran it when it was last seen
    datastore          text,                                            -- that holds its configuration, by name
    change_ids         text[] NOT NULL DEFAULT '{}',                    -- for which its host keeps something
    crashes            integer NOT NULL DEFAULT 0,                      -- looks at it that ended the connection to its host
    checked_at         virtuozo_core.instant,
    created_at         virtuozo_core.instant NOT NULL DEFAULT now(),
    updated_at         virtuozo_core.instant NOT NULL DEFAULT now(),
    UNIQUE (host_id, locator),
    UNIQUE (host_id, uuid)
);

CREATE TABLE virtuozo_core.disks (
    id             uuid PRIMARY KEY,
    guest_id       uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    device         text NOT NULL CHECK (device <> ''),
    file_name      text NOT NULL,
    datastore      text,                                                -- that holds it, by name
    ignored        boolean NOT NULL DEFAULT false,
    capacity_bytes bigint,
    state          virtuozo_core.disk_state NOT NULL DEFAULT 'unknown',
    state_reason   text,
    checked_at     virtuozo_core.instant,
    UNIQUE (guest_id, device)
);

CREATE TABLE virtuozo_core.schedules (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name <> ''),
    cron       text,                 -- NULL: Monday to Friday at settings.daily_start_time
    time_zone  text,                 -- NULL: settings.time_zone
    enabled    boolean NOT NULL DEFAULT true,
    -- Due times up to and including this one have been dealt with.
    done_until virtuozo_core.instant NOT NULL DEFAULT now(),
    created_at virtuozo_core.instant NOT NULL DEFAULT now(),
    updated_at virtuozo_core.instant NOT NULL DEFAULT now()
);

-- No row for a schedule: the whole site.
CREATE TABLE virtuozo_core.schedule_targets (
    schedule_id uuid NOT NULL REFERENCES virtuozo_core.schedules ON DELETE CASCADE,
    host_id     uuid REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id    uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    CHECK (num_nonnulls(host_id, guest_id) = 1),
    UNIQUE NULLS NOT DISTINCT (schedule_id, host_id, guest_id)
);

-- Repositories that have a cap on the guests in work whose restore points go there.
CREATE TABLE virtuozo_core.repositories (
    path          text PRIMARY KEY CHECK (path <> ''),                  -- the destination directory, as guests name it
    guest_threads integer NOT NULL CHECK (guest_threads >= 1)
);

-- What was free in a repository when a worker last published there; other processes may not see it.
CREATE TABLE virtuozo_core.repository_space (
    path       text PRIMARY KEY CHECK (path <> ''),
    free_bytes bigint NOT NULL,
    seen_at    virtuozo_core.instant NOT NULL DEFAULT now()
);

-- Which repository lies at a path: the id in its marker, known since its first use. It tells a repository from
-- the empty directory under its mount point, and from another one at its place.
CREATE TABLE virtuozo_core.repository_ids (
    path     text PRIMARY KEY CHECK (path <> ''),                       -- the destination directory, without slashes at its end
    id       uuid NOT NULL,
    known_at virtuozo_core.instant NOT NULL DEFAULT now()
);

-- Processes ------------------------------------------------------------------------------------------

-- Every incarnation of a process; names may repeat, ids never.
CREATE TABLE virtuozo_core.workers (
    id              uuid PRIMARY KEY,
    kind            virtuozo_core.process_kind NOT NULL,
    name            text NOT NULL,
    machine         text NOT NULL,
    pid             integer NOT NULL,
    version         text NOT NULL,
    -- The worker takes nothing more, finishes or hands over what it has, and ends.
    drain_requested boolean NOT NULL DEFAULT false,
    started_at      virtuozo_core.instant NOT NULL DEFAULT now(),
    heartbeat_at    virtuozo_core.instant NOT NULL DEFAULT now(),
    stopped_at      virtuozo_core.instant
);

-- The kinds of host that a worker knows, and whether its machine has what their back ends need.
CREATE TABLE virtuozo_core.worker_kinds (
    worker_id uuid NOT NULL REFERENCES virtuozo_core.workers ON DELETE CASCADE,
    kind      text NOT NULL,
    is_served boolean NOT NULL,
    found     text NOT NULL,                                            -- or what is missing, and what to do about it
    looked_at virtuozo_core.instant NOT NULL DEFAULT now(),
    PRIMARY KEY (worker_id, kind)
);

-- What a worker's machine lacks, found while the worker did a job: a location, which is a directory that a datastore is
-- mapped to or a repository; or, where it is no location, what a host takes: a key that opens its password, a library.
CREATE TABLE virtuozo_core.missing_capabilities (
    worker_id uuid NOT NULL REFERENCES virtuozo_core.workers ON DELETE CASCADE,
    host_id   uuid REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    location  text CHECK (location <> ''),
    reason    text NOT NULL,
    noted_at  virtuozo_core.instant NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (worker_id, host_id, location),
    CHECK (num_nonnulls(host_id, location) = 1)
);
CREATE INDEX missing_capabilities_host ON virtuozo_core.missing_capabilities (host_id);

-- At most one row: the leading scheduler. A lease, not a lock of a session: the session of a process that
-- is frozen stays open, its lease runs out. Correctness does not rest on it.
CREATE TABLE virtuozo_core.lead (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fence       bigint NOT NULL DEFAULT 1,
    owner_id    uuid NOT NULL,
    lease_until virtuozo_core.instant NOT NULL
);

-- Circuit breakers of hosts that do not answer, or refuse the login; without a row it is closed. Nobody connects to the
-- host before open_until; then the breaker is half-open: the first who asks takes the right to try, the probe, as a lease.
-- A probe that succeeds deletes the row.
CREATE TABLE virtuozo_core.circuit_breakers (
    host_id       uuid PRIMARY KEY REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    failed_probes integer NOT NULL CHECK (failed_probes >= 0),          -- in a row
    login_refused boolean NOT NULL DEFAULT false,                       -- it answers, and says no
    error         text NOT NULL,                                        -- of the last one
    failed_at     virtuozo_core.instant NOT NULL DEFAULT now(),
    opened_at     virtuozo_core.instant NOT NULL DEFAULT now(),
    open_until    virtuozo_core.instant NOT NULL,                       -- the end of the pause after the last failure
    fence         bigint NOT NULL DEFAULT 0,                            -- these three: the probe
    owner_id      uuid,
    lease_until   virtuozo_core.instant,
    CONSTRAINT circuit_breakers_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL))
);

-- Runs -----------------------------------------------------------------------------------------------

CREATE TABLE virtuozo_core.runs (
    id               uuid PRIMARY KEY,
    schedule_id      uuid REFERENCES virtuozo_core.schedules ON DELETE SET NULL,
    due_at           virtuozo_core.instant,                             -- NULL: started by hand
    requested_by     text NOT NULL,                      -- 'schedule NAME', 'user NAME', 'demo'
    state            virtuozo_core.run_state NOT NULL DEFAULT 'running',
    cancel_requested boolean NOT NULL DEFAULT false,
    error            text,
    trace_id         uuid,                               -- NULL: the run's own id; a run that is reopened gets another
    trace_before     uuid,                               -- the trace that it had before it was reopened
    trace_since      virtuozo_core.instant,                             -- when that was
    traced           boolean NOT NULL DEFAULT false,     -- its span is sent, or left out on purpose
    created_at       virtuozo_core.instant NOT NULL DEFAULT now(),
    ended_at         virtuozo_core.instant,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX runs_running ON virtuozo_core.runs (created_at) WHERE state = 'running';
CREATE INDEX runs_created ON virtuozo_core.runs (created_at, id);
CREATE INDEX runs_untraced ON virtuozo_core.runs (ended_at) WHERE NOT traced;

-- One row for each due time that became a run: two schedulers make one.
CREATE TABLE virtuozo_core.ticks (
    schedule_id uuid NOT NULL REFERENCES virtuozo_core.schedules ON DELETE CASCADE,
    due_at      virtuozo_core.instant NOT NULL,
    run_id      uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX ticks_run ON virtuozo_core.ticks (run_id);

CREATE TABLE virtuozo_core.host_runs (
    id          uuid PRIMARY KEY,
    run_id      uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_id     uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_ids   uuid[],                                  -- NULL: all guests of the host; otherwise only these
    state       virtuozo_core.host_run_state NOT NULL DEFAULT 'queued',
    fence       bigint NOT NULL DEFAULT 0,
    owner_id    uuid,
    lease_until virtuozo_core.instant,
    attempts    integer NOT NULL DEFAULT 0,
    crashes     integer NOT NULL DEFAULT 0,
    run_after   virtuozo_core.instant NOT NULL DEFAULT now(),
    error       text,
    error_class virtuozo_core.error_class,
    created_at  virtuozo_core.instant NOT NULL DEFAULT now(),
    started_at  virtuozo_core.instant,
    ended_at    virtuozo_core.instant,
    UNIQUE (run_id, host_id),
    CONSTRAINT host_runs_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('queued', 'running')) = (ended_at IS NULL))
);
CREATE INDEX host_runs_open ON virtuozo_core.host_runs (run_id) WHERE state IN ('queued', 'running');

CREATE TABLE virtuozo_core.guest_runs (
    id               uuid PRIMARY KEY,
    run_id           uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_run_id      uuid NOT NULL REFERENCES virtuozo_core.host_runs ON DELETE CASCADE,
    host_id          uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id         uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    -- waiting: for a slot (or for run_after); admitted: has a slot, its job is queued; running: under a lease
    state            virtuozo_core.guest_run_state NOT NULL DEFAULT 'waiting',
    mode             virtuozo_core.backup_mode,                         -- decided by the validate step
    step             virtuozo_core.step_name,
    fence            bigint NOT NULL DEFAULT 0,
    -- The fence under which the present attempt began: who takes over goes on after the steps done since
    -- then. NULL: the next taker begins afresh.
    attempt_fence    bigint,
    owner_id         uuid,
    lease_until      virtuozo_core.instant,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempts         integer NOT NULL DEFAULT 0,
    crashes          integer NOT NULL DEFAULT 0,
    run_after        virtuozo_core.instant NOT NULL DEFAULT now(),
    admitted_at      virtuozo_core.instant,
    error            text,
    error_class      virtuozo_core.error_class,
    bytes_total      bigint,                                            -- to be copied, as far as known
    bytes_copied     bigint NOT NULL DEFAULT 0,
    progress_at      virtuozo_core.instant,
    after_hook       boolean NOT NULL DEFAULT false,                    -- its guest has a command for its end
    trace_fence      bigint NOT NULL DEFAULT 0,                         -- attempts up to this one belong to a span that was sent
    trace_since      virtuozo_core.instant,                             -- when an operator put it back; NULL: never
    traced           boolean NOT NULL DEFAULT false,                    -- its span is sent, or left out on purpose
    created_at       virtuozo_core.instant NOT NULL DEFAULT now(),
    started_at       virtuozo_core.instant,
    ended_at         virtuozo_core.instant,
    UNIQUE (run_id, guest_id),
    CONSTRAINT guest_runs_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('waiting', 'admitted', 'running')) = (ended_at IS NULL))
)
-- Rows that change several times in their short life leave room beside them for their next version.
WITH (fillfactor = 70);
CREATE INDEX guest_runs_waiting ON virtuozo_core.guest_runs (host_id, created_at, id) WHERE state = 'waiting';
-- Whether a run still has something to do on one host is asked at the end of each of its guest runs.
CREATE INDEX guest_runs_open ON virtuozo_core.guest_runs (run_id, host_id) WHERE state IN ('waiting', 'admitted', 'running');
-- Two runs never work on one guest at the same time. Leases that ran out are found along this index too: without an
-- index of their own they are renewed in place.
CREATE UNIQUE INDEX guest_runs_one_active ON virtuozo_core.guest_runs (guest_id) WHERE state IN ('admitted', 'running');
CREATE INDEX guest_runs_guest ON virtuozo_core.guest_runs (guest_id, created_at DESC);
CREATE INDEX guest_runs_host_run ON virtuozo_core.guest_runs (host_run_id);
-- Guest runs whose spans are still to be sent: looked for every second, also in a run of 100,000 guests.
CREATE INDEX guest_runs_untraced ON virtuozo_core.guest_runs (run_id) WHERE ended_at IS NOT NULL AND NOT traced;

-- The space that a copy under way was promised where it goes. What it has written of that, its guest run says.
CREATE TABLE virtuozo_core.space_reservations (
    guest_run_id uuid PRIMARY KEY REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    of_fence     bigint NOT NULL,                                       -- the lease under which it copies
    repository   text NOT NULL CHECK (repository <> ''),                -- the destination directory
    machine      text NOT NULL,                                         -- of the worker, and how that counts the file system:
    device       bigint NOT NULL,                                       -- several repositories may share one
    bytes        bigint NOT NULL CHECK (bytes >= 0),
    reserved_at  virtuozo_core.instant NOT NULL DEFAULT now()
);

-- The right to work on one more guest of a node of a host. As many rows as each node may have guests in work,
-- so the cap is structural, not counted.
CREATE TABLE virtuozo_core.guest_slots (
    host_id      uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    node         text NOT NULL DEFAULT '',                              -- '': of a host that names none
    slot_no      integer NOT NULL CHECK (slot_no >= 1),
    guest_run_id uuid UNIQUE REFERENCES virtuozo_core.guest_runs ON DELETE SET NULL,
    taken_at     virtuozo_core.instant,
    PRIMARY KEY (host_id, node, slot_no)
)
WITH (fillfactor = 50);

-- What each attempt did: one row for each step and fence. output is what the next steps need.
CREATE TABLE virtuozo_core.steps (
    guest_run_id uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    fence        bigint NOT NULL,
    name         virtuozo_core.step_name NOT NULL,
    state        virtuozo_core.step_state NOT NULL DEFAULT 'running',
    worker_id    uuid,
    output       jsonb,
    error        text,
    error_type   text,
    error_code   bigint,                                                -- the hypervisor's own
    started_at   virtuozo_core.instant NOT NULL DEFAULT now(),
    ended_at     virtuozo_core.instant,
    PRIMARY KEY (guest_run_id, fence, name)
)
WITH (fillfactor = 70);

-- Live progress of each disk in the copy step.
CREATE TABLE virtuozo_core.disk_progress (
    guest_run_id uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    device       text NOT NULL,
    bytes_total  bigint NOT NULL,
    bytes_copied bigint NOT NULL DEFAULT 0,
    updated_at   virtuozo_core.instant NOT NULL DEFAULT now(),
    PRIMARY KEY (guest_run_id, device)
);

-- File systems that guest runs wait for, and that have not answered for long.
CREATE TABLE virtuozo_core.file_waits (
    guest_run_id uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    fence        bigint NOT NULL,                                       -- the lease under which it is waited
    what         text NOT NULL CHECK (what <> ''),                      -- such as "reads from the datastore standard"
    since        virtuozo_core.instant NOT NULL,
    PRIMARY KEY (guest_run_id, fence)
);

-- What must be undone whatever happens. Written before the host is changed, deleted only after it was
-- seen to be met.
CREATE TABLE virtuozo_core.obligations (
    id              uuid PRIMARY KEY,
    kind            virtuozo_core.obligation_kind NOT NULL,
    host_id         uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE RESTRICT,
    guest_id        uuid NOT NULL REFERENCES virtuozo_core.guests ON DELETE RESTRICT,
    guest_run_id    uuid NOT NULL REFERENCES virtuozo_core.guest_runs ON DELETE RESTRICT,
    guest_run_fence bigint NOT NULL,                                    -- that of the guest run when it wrote this
    snapshot_name   text,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at virtuozo_core.instant NOT NULL DEFAULT now(),
    last_error      text,
    -- The lease of an undo job, which takes all obligations of its guest; while it holds, no run of the guest is admitted.
    fence           bigint NOT NULL DEFAULT 0,
    owner_id        uuid,
    lease_until     virtuozo_core.instant,
    created_at      virtuozo_core.instant NOT NULL DEFAULT now(),
    CONSTRAINT obligations_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((kind = 'remove_snapshot') = (snapshot_name IS NOT NULL))
);
CREATE UNIQUE INDEX obligations_snapshot ON virtuozo_core.obligations (guest_id, snapshot_name) WHERE kind = 'remove_snapshot';
CREATE UNIQUE INDEX obligations_power ON virtuozo_core.obligations (guest_id) WHERE kind = 'power_on';
-- The obligations of a guest are asked for at each admission.
CREATE INDEX obligations_guest ON virtuozo_core.obligations (guest_id);
CREATE INDEX obligations_guest_run ON virtuozo_core.obligations (guest_run_id);

CREATE TABLE virtuozo_core.restore_points (
    id                uuid PRIMARY KEY,
    guest_id          uuid REFERENCES virtuozo_core.guests ON DELETE SET NULL,
    guest_run_id      uuid UNIQUE REFERENCES virtuozo_core.guest_runs ON DELETE SET NULL,
    host_name         text NOT NULL,
    guest_name        text NOT NULL,
    repository        text NOT NULL,                                    -- the destination directory
    path              text NOT NULL,                                    -- below it
    mode              virtuozo_core.backup_mode NOT NULL,
    taken_at          virtuozo_core.instant NOT NULL,                   -- the instant the disks hold
    published_at      virtuozo_core.instant NOT NULL DEFAULT now(),
    size_bytes        bigint NOT NULL,                                  -- stored
    source_bytes      bigint NOT NULL,                                  -- sum of the disks' sizes
    foreign_snapshots text[] NOT NULL DEFAULT '{}',
    state             virtuozo_core.point_state NOT NULL DEFAULT 'published',
    verified_at       virtuozo_core.instant,
    damage            text,
    -- When a scan of the repository entered it; NULL: the run that made it did, which knows its guest for certain.
    found_at          virtuozo_core.instant,
    -- When one that a scan entered was taken for a backup of its guest: its manifest is authenticated by the site's key,
    -- or somebody said so. One that is found and not adopted covers no other in retention.
    adopted_at        virtuozo_core.instant,
    -- The order in which points were entered, which no clock changes.
    entry_number      bigint GENERATED ALWAYS AS IDENTITY,
    manifest_blake3   virtuozo_core.blake3,                             -- of its exact text; NULL: not known
    -- Where the last verification that found it good read its bytes from; NULL: not known.
    read_back         virtuozo_core.read_back,
    UNIQUE (repository, path)
);
CREATE INDEX restore_points_guest ON virtuozo_core.restore_points (guest_id, taken_at DESC);

-- Events ---------------------------------------------------------------------------------------------

-- Events for people: 50 and 100 debug (code flow, threading), 200 user (done, failed). Numbers become visible
-- out of order, as a transaction that took its number early may commit late: whoever follows events goes by
-- snapshots of the database, and needs the transaction of each event for that.
CREATE TABLE virtuozo_core.events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           virtuozo_core.instant NOT NULL DEFAULT now(),
    code         virtuozo_core.event_code NOT NULL,
    severity     virtuozo_core.severity NOT NULL,
    message      text NOT NULL,
    run_id       uuid REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    host_id      uuid REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    guest_id     uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,
    guest_run_id uuid REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,
    detail       jsonb,
    xact         xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX events_at ON virtuozo_core.events (at);
CREATE INDEX events_xact ON virtuozo_core.events (xact);
CREATE INDEX events_run ON virtuozo_core.events (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX events_guest_run ON virtuozo_core.events (guest_run_id) WHERE guest_run_id IS NOT NULL;

-- At most one row: the watermark of the event forwarder, which copies events to the log of its machine.
CREATE TABLE virtuozo_core.event_forwarder (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since     pg_snapshot NOT NULL,            -- what this saw is forwarded
    until     pg_snapshot,                     -- what this saw is being forwarded
    last_xact bigint NOT NULL DEFAULT 0,       -- the last event of it that is forwarded, in the order of transactions
    last_id   bigint NOT NULL DEFAULT 0,
    max_id    bigint NOT NULL,                 -- no event with a greater number is forwarded
    version   bigint NOT NULL DEFAULT 1        -- of two that forward at the same time, one sees the other
);

-- Notices --------------------------------------------------------------------------------------------

-- One row: how the site is told by mail and webhook (docs/guide/notices.md). No mail is sent without mail_host, mail_from
-- and mail_to, nothing is posted without webhook_url.
CREATE TABLE virtuozo_core.notice_settings (
    only_row              boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    mail_host             text CHECK (mail_host <> ''),
    mail_port             integer CHECK (mail_port BETWEEN 1 AND 65535),   -- NULL: the usual one of mail_security
    mail_security         virtuozo_core.mail_security NOT NULL DEFAULT 'starttls',
    allow_unencrypted     boolean NOT NULL DEFAULT false,
    mail_user             text CHECK (mail_user <> ''),                    -- NULL: no login
    mail_password_sealed  bytea,
    mail_from             text CHECK (mail_from <> ''),
    mail_to               text[] NOT NULL DEFAULT '{}',
    webhook_url           text CHECK (webhook_url <> ''),
    webhook_secret_sealed bytea,
    ca_file               text CHECK (ca_file <> ''),
    on_failure            boolean NOT NULL DEFAULT true,
    on_success            boolean NOT NULL DEFAULT false,
    digest_time           time DEFAULT '07:00',                            -- NULL: no digest
    digest_time_zone      text,                                            -- NULL: settings.time_zone
    -- Digests due up to and including this time have been dealt with.
    digest_done_until     virtuozo_core.instant NOT NULL DEFAULT now(),
    group_secs            integer NOT NULL DEFAULT 120 CHECK (group_secs BETWEEN 0 AND 86400),
    messages_per_hour     integer NOT NULL DEFAULT 20 CHECK (messages_per_hour >= 1),
    updated_at            virtuozo_core.instant NOT NULL DEFAULT now(),
    CHECK (mail_security <> 'none' OR allow_unencrypted)
);
INSERT INTO virtuozo_core.notice_settings DEFAULT VALUES;

-- One row for each thing to be told and each way of telling it. The one that is sent takes others along:
-- those are folded into it.
CREATE TABLE virtuozo_core.notices (
    id          uuid PRIMARY KEY,
    kind        virtuozo_core.notice_kind NOT NULL,
    channel     virtuozo_core.notice_channel NOT NULL,
    run_id      uuid REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    due_at      virtuozo_core.instant,                                  -- of a digest: the end of the day that it tells about
    state       virtuozo_core.notice_state NOT NULL DEFAULT 'waiting',
    folded_into uuid REFERENCES virtuozo_core.notices ON DELETE CASCADE,
    held        boolean NOT NULL DEFAULT false,          -- it waited because messages_per_hour was reached
    fence       bigint NOT NULL DEFAULT 0,
    owner_id    uuid,
    lease_until virtuozo_core.instant,
    attempts    integer NOT NULL DEFAULT 0,
    run_after   virtuozo_core.instant NOT NULL DEFAULT now(),
    sent_to     text[] NOT NULL DEFAULT '{}',
    refused_to  text[] NOT NULL DEFAULT '{}',
    last_error  text,
    created_at  virtuozo_core.instant NOT NULL DEFAULT now(),
    ended_at    virtuozo_core.instant,
    CHECK ((kind IN ('failure', 'success', 'obligation')) = (run_id IS NOT NULL)),
    CHECK ((kind = 'digest') = (due_at IS NOT NULL)),
    CONSTRAINT notices_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state = 'folded') = (folded_into IS NOT NULL)),
    CHECK ((state IN ('waiting', 'sending')) = (ended_at IS NULL))
);
CREATE INDEX notices_run ON virtuozo_core.notices (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX notices_folded ON virtuozo_core.notices (folded_into) WHERE folded_into IS NOT NULL;
CREATE INDEX notices_open ON virtuozo_core.notices (channel, run_after) WHERE state IN ('waiting', 'sending');
CREATE INDEX notices_ended ON virtuozo_core.notices (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX notices_one_digest ON virtuozo_core.notices (due_at, channel) WHERE kind = 'digest';

-- Hooks ----------------------------------------------------------------------------------------------

-- Commands before and after a run, and before and after the backup of a guest (docs/guide/hooks.md).
CREATE TABLE virtuozo_core.hooks (
    guest_id   uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,   -- NULL: of the whole site
    moment     virtuozo_core.hook_moment NOT NULL,
    command    text[] NOT NULL CHECK (cardinality(command) >= 1 AND command[1] <> ''),
    limit_secs integer NOT NULL CHECK (limit_secs BETWEEN 1 AND 86400),
    on_failure virtuozo_core.hook_failure NOT NULL,
    updated_at virtuozo_core.instant NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (guest_id, moment)
);

-- Hooks that are to be run, as they were configured then: a row for the command before a run, for the one after it,
-- and for the one after a guest run. The command before a guest's backup is part of its guest run.
CREATE TABLE virtuozo_core.hook_runs (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id       uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    guest_run_id uuid REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,   -- NULL: of the whole site
    moment       virtuozo_core.hook_moment NOT NULL,
    outcome      virtuozo_core.outcome,                                 -- how what it comes after has ended
    command      text[] NOT NULL,
    limit_secs   integer NOT NULL,
    on_failure   text NOT NULL,
    state        virtuozo_core.task_state NOT NULL DEFAULT 'waiting',
    fence        bigint NOT NULL DEFAULT 0,
    owner_id     uuid,
    lease_until  virtuozo_core.instant,
    ran_by       uuid,                                                         -- the process that runs it, or ran it last
    crashes      integer NOT NULL DEFAULT 0,
    exit_code    integer,
    error        text,
    created_at   virtuozo_core.instant NOT NULL DEFAULT now(),
    started_at   virtuozo_core.instant,
    ended_at     virtuozo_core.instant,
    CHECK ((moment = 'after') = (outcome IS NOT NULL)),
    CHECK (moment = 'after' OR guest_run_id IS NULL),
    CONSTRAINT hook_runs_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('waiting', 'running')) = (ended_at IS NULL))
);
CREATE INDEX hook_runs_run ON virtuozo_core.hook_runs (run_id);
CREATE INDEX hook_runs_guest_run ON virtuozo_core.hook_runs (guest_run_id) WHERE guest_run_id IS NOT NULL;
CREATE INDEX hook_runs_open ON virtuozo_core.hook_runs (created_at, id) WHERE state IN ('waiting', 'running');

-- Requests -------------------------------------------------------------------------------------------

-- What somebody has asked of a host and waits to hear: one worker that serves its kind does it, and its answer is
-- written here. There is no place for a secret in it: workers read the sealed password as they do for runs.
CREATE TABLE virtuozo_core.requests (
    id           uuid PRIMARY KEY,
    kind         virtuozo_core.request_kind NOT NULL,
    host_id      uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    requested_by text NOT NULL,
    state        virtuozo_core.task_state NOT NULL DEFAULT 'waiting',
    fence        bigint NOT NULL DEFAULT 0,
    owner_id     uuid,
    lease_until  virtuozo_core.instant,
    crashes      integer NOT NULL DEFAULT 0,
    taken_by     text,                                                  -- the worker that took it last: NAME on MACHINE
    answer       jsonb,
    error        text,
    error_class  virtuozo_core.error_class,
    asked_at     virtuozo_core.instant NOT NULL DEFAULT now(),
    wanted_until virtuozo_core.instant NOT NULL,                        -- from then on nobody waits for the answer
    ended_at     virtuozo_core.instant,
    CONSTRAINT requests_lease CHECK ((owner_id IS NULL) = (lease_until IS NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'succeeded') = (answer IS NOT NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK ((state IN ('waiting', 'running')) = (ended_at IS NULL))
);
CREATE INDEX requests_host ON virtuozo_core.requests (host_id);
CREATE INDEX requests_open ON virtuozo_core.requests (asked_at) WHERE state IN ('waiting', 'running');
CREATE INDEX requests_ended ON virtuozo_core.requests (ended_at) WHERE ended_at IS NOT NULL;

-- apalis' queues -------------------------------------------------------------------------------------

-- What a job needs of the worker that claims it, written by a trigger: the kind of host ('': of no host, or not known), the
-- host, and the directories that it reads and writes on the worker's machine.
ALTER TABLE apalis.jobs
    ADD COLUMN needs_kind text NOT NULL DEFAULT '',
    ADD COLUMN needs_host uuid,
    ADD COLUMN needs_locations text[] NOT NULL DEFAULT '{}';

-- Jobs on their way, by payload: the sweeps look for lost ones every second.
CREATE INDEX virtuozo_jobs_open ON apalis.jobs (job_type, job) WHERE status IN ('Pending', 'Queued', 'Running');
-- Jobs that are over, by age.
CREATE INDEX virtuozo_jobs_over ON apalis.jobs (coalesce(done_at, run_at)) WHERE status IN ('Done', 'Failed', 'Killed');
