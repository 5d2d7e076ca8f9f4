"""procrastinate: jobs that do nothing. Arguments: connection string, jobs, probes. Prints one JSON line."""

import asyncio
import json
import logging
import sys
import time

import procrastinate

url, jobs, probes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=20))
arrived = asyncio.Event()
arrived_at = 0.0


@app.task(name="noop")
async def noop():
    pass


@app.task(name="probe", queue="probe")
async def probe():
    global arrived_at
    arrived_at = time.perf_counter()
    arrived.set()


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        left = jobs
        while left > 0:
            await noop.batch_defer_async(*[{} for _ in range(min(left, 1000))])
            left -= 1000
        fetch = app.connector.execute_query_one_async
        await app.connector.execute_query_async("SELECT pg_stat_statements_reset()")
        began = time.perf_counter()
        await app.run_worker_async(concurrency=10, wait=False, install_signal_handlers=False)
        seconds = time.perf_counter() - began
        db = await fetch(
            "SELECT sum(total_exec_time) AS ms FROM pg_stat_statements"
            " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        worker = asyncio.create_task(
            app.run_worker_async(queues=["probe"], concurrency=10, install_signal_handlers=False)
        )
        starts = []
        # The first waits until the worker listens.
        for n in range(probes + 1):
            arrived.clear()
            await probe.defer_async()
            pushed = time.perf_counter()
            await arrived.wait()
            if n > 0:
                starts.append(max(0.0, arrived_at - pushed) * 1000)
        worker.cancel()
        print(json.dumps({"seconds": seconds, "db_ms": float(db["ms"]), "starts_ms": starts}), flush=True)


asyncio.run(main())
