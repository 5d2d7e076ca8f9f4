// graphile-worker: jobs that do nothing. Arguments: connection string, jobs, probes. Prints one JSON line.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [connectionString, jobs, probes] = [process.argv[2], +process.argv[3], +process.argv[4]];
const logger = new Logger(() => () => {});
const pool = new pg.Pool({ connectionString, max: 20 });
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();
await pool.query("SELECT graphile_worker.add_job('noop', '{}') FROM generate_series(1, $1)", [jobs]);
await pool.query("SELECT pg_stat_statements_reset()");

let done = 0;
let arrived = () => {};
let finished;
const all = new Promise((resolve) => { finished = resolve; });
const began = performance.now();
const runner = await run({
  pgPool: pool,
  logger,
  concurrency: 10,
  taskList: {
    noop: async () => { if (++done === jobs) finished(); },
    probe: async () => arrived(performance.now()),
  },
});
await all;
// A job counts when it is gone from the table.
while ((await pool.query("SELECT count(*)::int AS n FROM graphile_worker._private_jobs")).rows[0].n > 0);
const seconds = (performance.now() - began) / 1000;
const db = await pool.query(
  "SELECT sum(total_exec_time) AS ms FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())");
const starts = [];
for (let n = 0; n < probes; n++) {
  const at = new Promise((resolve) => { arrived = resolve; });
  await utils.addJob("probe", {});
  const pushed = performance.now();
  starts.push(Math.max(0, (await at) - pushed));
}
await runner.stop();
console.log(JSON.stringify({ seconds, db_ms: +db.rows[0].ms, starts_ms: starts }));
process.exit(0);
