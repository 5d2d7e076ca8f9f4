// pg-boss: jobs that do nothing. Arguments: connection string, jobs, probes. Prints one JSON line.
import PgBoss from "pg-boss";
import pg from "pg";

const [connectionString, jobs, probes] = [process.argv[2], +process.argv[3], +process.argv[4]];
const pool = new pg.Pool({ connectionString, max: 4 });
const boss = new PgBoss({ connectionString, max: 10, schedule: false });
boss.on("error", (error) => { console.error(error); process.exit(1); });
await boss.start();
for (const queue of ["noop", "probe"]) await boss.createQueue(queue);
for (let left = jobs; left > 0; left -= 1000) {
  await boss.insert(Array.from({ length: Math.min(left, 1000) }, () => ({ name: "noop", data: {} })));
}
await pool.query("SELECT pg_stat_statements_reset()");
// Its own loop waits half a second between two fetches at least, so it is driven by its fetch and
// complete, as ten workers that take one job at a time.
const began = performance.now();
await Promise.all(Array.from({ length: 10 }, async () => {
  for (;;) {
    const [job] = await boss.fetch("noop", { batchSize: 1 });
    if (!job) return;
    await boss.complete("noop", job.id);
  }
}));
const seconds = (performance.now() - began) / 1000;
const db = await pool.query(
  "SELECT sum(total_exec_time) AS ms FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())");
let arrived = () => {};
await boss.work("probe", { batchSize: 1, pollingIntervalSeconds: 0.5 }, async () => arrived(performance.now()));
const starts = [];
for (let n = 0; n < probes; n++) {
  const at = new Promise((resolve) => { arrived = resolve; });
  await boss.send("probe", {});
  const pushed = performance.now();
  starts.push(Math.max(0, (await at) - pushed));
}
console.log(JSON.stringify({ seconds, db_ms: +db.rows[0].ms, starts_ms: starts }));
process.exit(0);
